"""Causal depthwise convolution over a short window."""

from helixwave_kernels.short_conv import chunked as chunked
from helixwave_kernels.short_conv import native as native
from helixwave_kernels.short_conv import triton as triton
from helixwave_kernels.short_conv.reference import short_conv

__all__ = ["short_conv"]
