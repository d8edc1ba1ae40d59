"""Convolution with a kernel as long as the sequence."""

from helixwave_kernels.long_conv import chunked as chunked
from helixwave_kernels.long_conv.reference import long_conv

__all__ = ["long_conv"]
