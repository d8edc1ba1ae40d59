"""The convolution kernel of S4."""

from helixwave_kernels.s4_kernel import chunked as chunked
from helixwave_kernels.s4_kernel.reference import s4_kernel

__all__ = ["s4_kernel"]
