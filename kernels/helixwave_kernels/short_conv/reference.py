"""The meaning of `short_conv`."""

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels.dispatch import Op
from helixwave_kernels.shapes import compute_dtype, expect_shapes


@Op
def short_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Causal depthwise convolution `y_t = sum_w weight_w x_{t-W+1+w} + bias` (Gu & Dao 2023, figure 3; H3's shift SSM).

    Args:
        x: inputs `[B, T, D]`.
        weight: `[D, W]`, the last tap on the present.
        bias: `[D]`.
        activation: None or `"silu"`.
        initial_state: the W-1 inputs before the first, oldest first, `[B, D, W-1]`; zeros if None.
        reset: `[B, T]` bool; true at t hides the inputs before t from t on.

    Returns:
        outputs `[B, T, D]` in the dtype of `x`, and the last W-1 inputs `[B, D, W-1]` in float32 or wider.
    """
    dtype = compute_dtype(x)
    weight = weight.to(dtype)
    (B, _, D), W = x.shape, weight.shape[1]
    seen = x.new_zeros(B, D, W - 1, dtype=dtype) if initial_state is None else initial_state.to(dtype)
    ys = []
    for t, x_t in enumerate(x.to(dtype).unbind(1)):
        if reset is not None:
            seen = seen.masked_fill(reset[:, t, None, None], 0)
        window = torch.cat([seen, x_t.unsqueeze(-1)], dim=-1)
        ys.append((weight * window).sum(-1))
        seen = window[:, :, 1:]
    return activated(torch.stack(ys, dim=1), bias, activation).to(x.dtype), seen


def activated(y: Tensor, bias: Tensor | None, activation: str | None) -> Tensor:
    """Bias and activation on the outputs of the convolution."""
    if bias is not None:
        y = y + bias.to(y.dtype)
    return F.silu(y) if activation == "silu" else y


@short_conv.check
def _check(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> None:
    if activation not in (None, "silu"):
        raise ValueError(f"short_conv: activation is {activation!r}, expected None or 'silu'")
    expect_shapes(
        "short_conv",
        x=(x, "B T D"),
        weight=(weight, "D W"),
        bias=(bias, "D"),
        initial_state=(initial_state, "B D W-1"),
        reset=(reset, "B T"),
    )
