"""The meaning of `linear_scan`."""

import torch
from torch import Tensor

from helixwave_kernels.dispatch import Op
from helixwave_kernels.shapes import compute_dtype, expect_shapes


@Op
def linear_scan(
    x: Tensor, decay: Tensor, *, initial_state: Tensor | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """First-order recurrence `h_t = decay_t * h_{t-1} + x_t`, element by element (eq. 1.4 of Blelloch 1990).

    Args:
        x: inputs `[B, T, D]`, real or complex.
        decay: gates `[B, T, D]`, real (any sign, zero included) or complex.
        initial_state: `h_0` before the first step `[B, D]`; zeros if None.
        reset: `[B, T]` bool; true at t clears the state before step t.

    Returns:
        all states `[B, T, D]` in the dtype of `x` (complex if `decay` is), and the last one `[B, D]` in float32 or
        wider.
    """
    dtype = compute_dtype(x, decay)
    h = torch.zeros_like(x[:, 0], dtype=dtype) if initial_state is None else initial_state.to(dtype)
    hs = []
    for t, (x_t, decay_t) in enumerate(zip(x.to(dtype).unbind(1), decay.to(dtype).unbind(1), strict=True)):
        if reset is not None:
            h = h.masked_fill(reset[:, t, None], 0)
        h = decay_t * h + x_t
        hs.append(h)
    return torch.stack(hs, dim=1).to(output_dtype(x, decay)), h


def output_dtype(x: Tensor, decay: Tensor) -> torch.dtype:
    """The dtype of `x`, except that a complex decay makes real inputs complex."""
    return compute_dtype(x, decay) if decay.is_complex() and not x.is_complex() else x.dtype


@linear_scan.check
def _check(
    x: Tensor, decay: Tensor, *, initial_state: Tensor | None = None, reset: Tensor | None = None, **others: object
) -> None:
    expect_shapes(
        "linear_scan",
        x=(x, "B T D"),
        decay=(decay, "B T D"),
        initial_state=(initial_state, "B D"),
        reset=(reset, "B T"),
    )
