"""HelixWave's operators: scans and convolutions over long sequences.

Every operator has a `reference`, the paper's recurrence read aloud, and faster implementations of the same meaning, see
`Op`. Tensors are sequence first, `[B, T, D]`. Whatever comes in, the recurrence runs in float32 (or float64), and the
states are returned in that. `python -m helixwave_kernels.bench` measures all of them.
"""

from helixwave_kernels.dispatch import OPS, Op
from helixwave_kernels.linear_scan import linear_scan
from helixwave_kernels.long_conv import long_conv
from helixwave_kernels.selective_scan import selective_scan
from helixwave_kernels.shapes import expect_shapes
from helixwave_kernels.short_conv import short_conv

__all__ = ["OPS", "Op", "expect_shapes", "linear_scan", "long_conv", "selective_scan", "short_conv"]
