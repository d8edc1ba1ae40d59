"""The delta rule: an associative memory that corrects what it recalls."""

from helixwave_kernels.delta_rule import chunked as chunked
from helixwave_kernels.delta_rule import native as native
from helixwave_kernels.delta_rule import triton as triton
from helixwave_kernels.delta_rule.reference import delta_rule

__all__ = ["delta_rule"]
