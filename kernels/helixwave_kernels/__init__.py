"""HelixWave's operators: scans and convolutions over long sequences.

Every operator has a `reference`, the paper's recurrence read aloud, and faster implementations of the same meaning, see
`Op`. Tensors are sequence first, `[B, T, D]`. Whatever comes in, the recurrence runs in float32 (or float64), and the
states are returned in that. `python -m helixwave_kernels.bench` measures all of them.
"""

from helixwave_kernels.delta_rule import delta_rule
from helixwave_kernels.diagonal_ssm import diagonal_ssm
from helixwave_kernels.dispatch import OPS, Op
from helixwave_kernels.gated_linear_attention import gated_linear_attention
from helixwave_kernels.linear_scan import linear_scan
from helixwave_kernels.long_conv import long_conv
from helixwave_kernels.mlstm import mlstm
from helixwave_kernels.newton_recurrence import newton_recurrence
from helixwave_kernels.prefix_attention import prefix_attention
from helixwave_kernels.recurrent import recurrent
from helixwave_kernels.s4_kernel import s4_kernel
from helixwave_kernels.selective_scan import selective_scan
from helixwave_kernels.shapes import expect_shapes
from helixwave_kernels.short_conv import short_conv
from helixwave_kernels.ssd import ssd

__all__ = [
    "OPS",
    "Op",
    "delta_rule",
    "diagonal_ssm",
    "expect_shapes",
    "gated_linear_attention",
    "linear_scan",
    "long_conv",
    "mlstm",
    "newton_recurrence",
    "prefix_attention",
    "recurrent",
    "s4_kernel",
    "selective_scan",
    "short_conv",
    "ssd",
]
