"""First-order linear recurrence, element by element."""

from helixwave_kernels.linear_scan import chunked as chunked
from helixwave_kernels.linear_scan import native as native
from helixwave_kernels.linear_scan import triton as triton
from helixwave_kernels.linear_scan.reference import linear_scan

__all__ = ["linear_scan"]
