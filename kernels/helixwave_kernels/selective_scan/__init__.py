"""The selective state space scan of Mamba."""

from helixwave_kernels.selective_scan import chunked as chunked
from helixwave_kernels.selective_scan import native as native
from helixwave_kernels.selective_scan import triton as triton
from helixwave_kernels.selective_scan.reference import selective_scan

__all__ = ["selective_scan"]
