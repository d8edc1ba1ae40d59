"""What stands between a Hyena's projections, a few channels at a time from the first step to the last.

For whole sequences where no gradient is asked for. Time is the last axis: a product writes and a transform reads what
lies side by side, and what a group of channels needs stays in the cache.
"""

from collections.abc import Callable

import torch
from helixwave_kernels import memory
from helixwave_kernels.long_conv.chunked import quick_length
from torch import Tensor, nn

from helixwave.blocks.causal_conv import CausalConv
from helixwave.lengths import valid_mask

CHANNELS = 64
Spectra = Callable[[slice], Tensor]
"""Transforms of the filters of some channels, numbered through all convolutions."""


def period(T: int, length: int) -> int:
    """With which nothing wraps around into the first T outputs of a filter of `length`."""
    return quick_length(T + length - 1)


def gated_convolutions(
    x: Tensor,
    in_proj: nn.Linear,
    short_filter: CausalConv,
    spectra: Spectra,
    skips: Tensor,
    lengths: Tensor | None,
    *,
    n: int,
) -> Tensor:
    """The last projection's inputs, `[B, T, D]` -> `[B, T, D]`.

    Args:
        spectra: of the filters, with period n.
        skips: `[order - 1, D]`.
    """
    B, T, D = x.shape
    padded = None if lengths is None else ~valid_mask(lengths, T)[:, None]
    y = memory.empty(B, D, T, like=x)
    for d in range(0, D, CHANNELS):
        part = slice(d, min(d + CHANNELS, D))
        *gates, v = _short(_projected(x, in_proj, part), short_filter, part)
        for i, gate in enumerate(reversed(gates[1:])):
            v = v * gate if padded is None else (v * gate).masked_fill_(padded, 0)
            product = torch.fft.rfft(v, n=n).mul_(spectra(slice(i * D + part.start, i * D + part.stop)))
            v = torch.fft.irfft(product, n=n)[..., :T].addcmul_(v, skips[i, part, None])
        torch.mul(v, gates[0], out=y[:, part])
    return y.mT


def _projected(x: Tensor, in_proj: nn.Linear, part: slice) -> Tensor:  # -> [B, order + 1, channels, T]
    """A projection of some channels for all gates."""
    D = x.shape[2]
    weight, bias = in_proj.weight.unflatten(0, (-1, D))[:, part], in_proj.bias.unflatten(0, (-1, D))[:, part]
    rows = weight.flatten(0, 1).expand(len(x), -1, -1)
    return torch.baddbmm(bias.reshape(-1, 1), rows, x.mT).unflatten(1, weight.shape[:2])


def _short(u: Tensor, short_filter: CausalConv, part: slice) -> tuple[Tensor, ...]:  # -> each [B, channels, T]
    """The short convolution, tap by tap."""
    taps = short_filter.weight.unflatten(0, (u.shape[1], -1))[:, part]  # [order + 1, channels, 1, width]
    assert short_filter.bias is not None
    bias = short_filter.bias.unflatten(0, (u.shape[1], -1))[:, part, None]
    y = torch.addcmul(bias, u, taps[..., -1])
    for lag in range(1, min(taps.shape[-1], u.shape[-1])):
        y[..., lag:].addcmul_(u[..., :-lag], taps[..., -1 - lag])
    return y.unbind(1)
