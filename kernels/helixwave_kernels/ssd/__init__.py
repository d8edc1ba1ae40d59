"""Mamba-2's state space duality: linear attention with one decay for each head."""

from helixwave_kernels.ssd import chunked as chunked
from helixwave_kernels.ssd import triton as triton
from helixwave_kernels.ssd.reference import ssd

__all__ = ["ssd"]
