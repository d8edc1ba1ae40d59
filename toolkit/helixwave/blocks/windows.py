"""Long causal convolutions that go on where an earlier call ended: their state is a window of the last inputs."""

from typing import cast

import torch
import torch.nn.functional as F
from helixwave_kernels import long_conv
from torch import Tensor

from helixwave.lengths import last_valid, valid_mask

WindowState = tuple[Tensor]
"""The state of a block with one long convolution."""


def windowed_conv(
    x: Tensor, kernel: Tensor, skip: Tensor, window: Tensor | None, lengths: Tensor | None, *, n_window: int
) -> tuple[Tensor, Tensor]:
    """Causal convolution `y_t = sum_l kernel_l x_{t-l} + skip x_t` after the inputs that `window` holds.

    A window has the same size after any number of steps, with zeros before the first input. One step after a window
    is a weighted sum over it and a copy of it, `O(L)` per channel at any position; a ring would save no copy, because
    the caller may go on from an earlier state again. Longer inputs go through a fast Fourier transform, which has no
    empty past to read where there is no window.

    Args:
        x: inputs `[B, T, D]`, right-padded.
        kernel: `[D, L]`; without a window its first T values are enough.
        skip: `[D]`.
        window: the L-1 inputs before this call, the latest first, `[B, D, L-1]`; None: there were none.
        lengths: valid inputs of each sequence `[B]`; None: all are valid.
        n_window: inputs to keep for a later call; L-1 for one that goes on exactly.

    Returns:
        outputs `[B, T, D]` in the dtype of x, and the window after each sequence's last valid input, in float32 or
        wider.
    """
    if window is not None and x.shape[1] == 1:
        return _step(x, kernel, skip, window)
    if lengths is not None:
        # exact zeros, because the rounding of a Fourier transform spreads over all positions
        x = x.masked_fill(~valid_mask(lengths, x.shape[1])[..., None], 0)
    past = None if window is None else window.flip(-1)
    y = cast(Tensor, long_conv(x, kernel, skip, initial_state=past))
    return y, _window_after(x, past, lengths, n_window)


def _step(x: Tensor, kernel: Tensor, skip: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    inputs = torch.cat([x.mT.to(window.dtype), window], dim=-1)
    y = (inputs * kernel).sum(-1) + skip * inputs[..., 0]
    return y[:, None].to(x.dtype), inputs[..., :-1]


def _window_after(x: Tensor, past: Tensor | None, lengths: Tensor | None, size: int) -> Tensor:
    """The last `size` inputs of each sequence, those of an earlier call and zeros included."""
    inputs = x.to(torch.promote_types(x.dtype, torch.float32))
    if past is not None:
        inputs = torch.cat([past.mT, inputs], dim=1)
        lengths = None if lengths is None else lengths + past.shape[-1]
    n_seen = min(inputs.shape[1], size)
    return F.pad(last_valid(inputs, n_seen, lengths).flip(1).mT, (0, size - n_seen))
