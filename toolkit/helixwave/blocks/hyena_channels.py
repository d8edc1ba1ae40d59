"""What stands between a Hyena's projections, a few channels at a time from the first step to the last.

Where no gradient is asked for. Time is the last axis: a product writes and a transform reads what lies side by side,
and what a group of channels needs stays in the cache.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from helixwave_kernels import memory
from helixwave_kernels.long_conv.chunked import quick_length
from torch import Tensor, nn

from helixwave.blocks.causal_conv import CausalConv
from helixwave.lengths import valid_mask

CHANNELS = 64
Spectra = Callable[[slice], Tensor]
"""Transforms of the filters of some channels, numbered through all convolutions."""
HyenaState = tuple[Tensor, ...]
"""Of the short convolution `[B, 3 D, d_short - 1]`, the earliest input first, and a window `[B, D, l_max - 1]` for each
long one, the latest input first."""


def period(past: int, T: int, length: int) -> int:
    """With which nothing wraps around into T outputs of a filter of `length`, behind the inputs of the past."""
    return quick_length(max(past + T, T + length - 1))


def gated_convolutions(
    x: Tensor,
    in_proj: nn.Linear,
    short_filter: CausalConv,
    spectra: Spectra,
    skips: Tensor,
    lengths: Tensor | None,
    state: HyenaState | None,
    *,
    n: int,
    n_window: int,
) -> tuple[Tensor, HyenaState]:
    """The last projection's inputs, `[B, T, D]` -> `[B, T, D]`, and the state, which is not that of `lengths`.

    Args:
        spectra: of the filters, with period n.
        skips: `[order - 1, D]`.
        n_window: inputs that are kept of each long convolution.
    """
    B, T, D = x.shape
    padded = None if lengths is None else ~valid_mask(lengths, T)[:, None]
    y = memory.empty(B, D, T, like=x)
    ends = []
    for d in range(0, D, CHANNELS):
        part = slice(d, min(d + CHANNELS, D))
        before, *windows = (None,) * (1 + len(skips)) if state is None else _of_channels(state, part)
        u = _after(before, _projected(x, in_proj, part))
        *gates, v = _short(u, short_filter, part)[..., u.shape[-1] - T :].unbind(1)
        end = [_last(u, short_filter.kernel_size[0] - 1)]
        for i, (gate, window) in enumerate(zip(reversed(gates[1:]), windows, strict=True)):
            v = v * gate if padded is None else (v * gate).masked_fill_(padded, 0)
            inputs = _after(window, v)
            end.append(_last(inputs, n_window).flip(-1))
            spectrum = spectra(slice(i * D + part.start, i * D + part.stop))
            v = _convolved(inputs, spectrum, n)[..., -T:].addcmul_(v, skips[i, part, None])
        torch.mul(v, gates[0], out=y[:, part])
        ends.append(end)
    short, *windows = (torch.cat(parts, dim=-2) for parts in zip(*ends, strict=True))
    return y.mT, (short.flatten(1, 2), *windows)


def _of_channels(state: HyenaState, part: slice) -> tuple[Tensor, ...]:
    """A state's inputs of some channels, the earliest first."""
    short, *windows = state
    D = windows[0].shape[1]
    return short.unflatten(1, (-1, D))[:, :, part], *(window[:, part].flip(-1) for window in windows)


def _convolved(inputs: Tensor, spectrum: Tensor, n: int) -> Tensor:
    return torch.fft.irfft(torch.fft.rfft(inputs, n=n).mul_(spectrum), n=n)[..., : inputs.shape[-1]]


def _after(past: Tensor | None, x: Tensor) -> Tensor:
    return x if past is None else torch.cat([past, x], dim=-1)


def _last(x: Tensor, n: int) -> Tensor:
    """The last n inputs, zeros before the first."""
    T = x.shape[-1]
    return x[..., T - n :] if n <= T else F.pad(x, (n - T, 0))


def _projected(x: Tensor, in_proj: nn.Linear, part: slice) -> Tensor:  # -> [B, order + 1, channels, T]
    """A projection of some channels for all gates."""
    D = x.shape[2]
    weight, bias = in_proj.weight.unflatten(0, (-1, D))[:, part], in_proj.bias.unflatten(0, (-1, D))[:, part]
    rows = weight.flatten(0, 1).expand(len(x), -1, -1)
    return torch.baddbmm(bias.reshape(-1, 1), rows, x.mT).unflatten(1, weight.shape[:2])


def _short(u: Tensor, short_filter: CausalConv, part: slice) -> Tensor:  # -> [B, order + 1, channels, T]
    """The short convolution, tap by tap."""
    taps = short_filter.weight.unflatten(0, (u.shape[1], -1))[:, part]  # [order + 1, channels, 1, width]
    assert short_filter.bias is not None
    bias = short_filter.bias.unflatten(0, (u.shape[1], -1))[:, part, None]
    y = torch.addcmul(bias, u, taps[..., -1])
    for lag in range(1, min(taps.shape[-1], u.shape[-1])):
        y[..., lag:].addcmul_(u[..., :-lag], taps[..., -1 - lag])
    return y
