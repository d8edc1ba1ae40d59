"""The meaning of `long_conv`."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels.dispatch import Op
from helixwave_kernels.shapes import compute_dtype, expect_shapes

Mode = Literal["causal", "circular", "same"]


@Op
def long_conv(
    x: Tensor,
    kernel: Tensor,
    skip: Tensor | None = None,
    *,
    mode: Mode = "causal",
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
    return_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Convolution `y_t = sum_l kernel_l x_{t-l} + skip x_t` with a kernel of any length (Poli et al. 2023, section 3).

    Args:
        x: inputs `[B, T, D]`.
        kernel: `[D, L]`, shorter or longer than the sequence.
        skip: `[D]`.
        mode: `"causal"`; `"circular"`, where x repeats with period T; or `"same"`, where tap `(L - 1) // 2` is the
            present, as in `scipy.signal.convolve`.
        initial_state: the L-1 inputs before the first, oldest first, `[B, D, L-1]`; causal mode only.
        reset: `[B, T]` bool; true at t hides the inputs before t from t on; causal mode only.
        return_state: also return the state; causal mode only.

    Returns:
        outputs `[B, T, D]` in the dtype of `x`; with `return_state` also the last L-1 inputs `[B, D, L-1]` in float32
        or wider.
    """
    dtype = compute_dtype(x)
    T, L = x.shape[1], kernel.shape[1]
    document = None if reset is None else reset.long().cumsum(1)
    before = earlier_inputs(x, L, initial_state)
    inputs = torch.cat([before, x.to(dtype)], dim=1)
    y = torch.zeros_like(x, dtype=dtype)
    for lag, kernel_lag in enumerate(kernel.to(dtype).unbind(1)):
        y = y + kernel_lag * _delayed(inputs, lag, T, L, mode, document)
    if skip is not None:
        y = y + skip.to(dtype) * x
    y = y.to(x.dtype)
    return (y, last_inputs(x, L, initial_state, reset)) if return_state else y


def earlier_inputs(x: Tensor, L: int, initial_state: Tensor | None) -> Tensor:
    """The L-1 inputs before the first, `[B, L-1, D]`."""
    dtype = compute_dtype(x)
    if initial_state is None:
        return x.new_zeros(x.shape[0], L - 1, x.shape[2], dtype=dtype)
    return initial_state.to(dtype).mT


def last_inputs(x: Tensor, L: int, initial_state: Tensor | None, reset: Tensor | None) -> Tensor:
    """The state after the call: the last L-1 inputs `[B, D, L-1]`, zeros before the last reset."""
    inputs = torch.cat([earlier_inputs(x, L, initial_state), x.to(compute_dtype(x))], dim=1)
    if reset is not None:
        resets_to_come = F.pad(reset.long(), (L - 1, 0)).flip(1).cumsum(1).flip(1)
        is_hidden = F.pad(resets_to_come[:, 1:], (0, 1)) > 0
        inputs = inputs.masked_fill(is_hidden.unsqueeze(-1), 0)
    return inputs[:, x.shape[1] :].mT.contiguous()


def _delayed(inputs: Tensor, lag: int, T: int, L: int, mode: Mode, document: Tensor | None) -> Tensor:
    """`x_{t - lag}` for every t, from the inputs with L-1 earlier ones before them."""
    if mode == "circular":
        return inputs[:, L - 1 :].roll(lag, dims=1)
    if mode == "same":
        return F.pad(inputs, (0, 0, 0, L))[:, L - 1 - lag + (L - 1) // 2 :][:, :T]
    taps = inputs[:, L - 1 - lag :][:, :T]
    if document is None:
        return taps
    document_then = F.pad(document, (lag, 0))[:, :T]
    return taps.masked_fill((document_then != document).unsqueeze(-1), 0)


@long_conv.check
def _check(
    x: Tensor,
    kernel: Tensor,
    skip: Tensor | None = None,
    *,
    mode: str = "causal",
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
    return_state: bool = False,
) -> None:
    expect_shapes(
        "long_conv",
        x=(x, "B T D"),
        kernel=(kernel, "D L"),
        skip=(skip, "D"),
        initial_state=(initial_state, "B D L-1"),
        reset=(reset, "B T"),
    )
    if mode not in ("causal", "circular", "same"):
        raise ValueError(f"long_conv: mode is {mode!r}, expected 'causal', 'circular' or 'same'")
    if mode != "causal" and (initial_state is not None or reset is not None or return_state):
        raise ValueError(f"long_conv: mode {mode!r} has no state: initial_state, reset and return_state need 'causal'")
