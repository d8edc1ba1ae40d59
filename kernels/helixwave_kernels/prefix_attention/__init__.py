"""Attention of one fixed query over every prefix of a sequence."""

from helixwave_kernels.prefix_attention import chunked as chunked
from helixwave_kernels.prefix_attention.reference import prefix_attention

__all__ = ["prefix_attention"]
