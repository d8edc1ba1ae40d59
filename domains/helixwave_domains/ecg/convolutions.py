"""Convolutions, norms and pools of right-padded signals `[B, C, T]`: nothing valid depends on padding."""

import torch
import torch.nn.functional as F
from helixwave.errors import InputError
from helixwave.lengths import valid_mask
from torch import Tensor, nn


def silenced(x: Tensor, lengths: Tensor | None, value: float = 0.0) -> Tensor:
    """`[B, C, T]` with `value` behind the end of each signal; None: all is valid."""
    return x if lengths is None else x.masked_fill(~valid_mask(lengths, x.shape[2])[:, None], value)


def shortened(lengths: Tensor | None, stride: int) -> Tensor | None:
    """Valid positions `[B]` after a layer with this stride: every one that has begun counts."""
    return lengths if lengths is None else (lengths + stride - 1) // stride


class PaddedConv1d(nn.Conv1d):
    """Convolution whose output `j` is centred on input `stride * j`, with zeros around the signal.

    Raises:
        InputError: an even kernel, which has no centre.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, *, stride: int = 1, bias: bool = True):
        if kernel < 1 or kernel % 2 == 0:
            raise InputError(f"model: a convolution's kernel is {kernel}, expected an odd number")
        if stride < 1:
            raise InputError(f"model: a convolution's stride is {stride}, expected at least 1")
        super().__init__(c_in, c_out, kernel, stride=stride, padding=kernel // 2, bias=bias)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`[B, C, T]` -> `[B, C', ceil(T / stride)]`."""
        return super().forward(silenced(x, lengths))


class PaddedBatchNorm1d(nn.BatchNorm1d):
    """Batch norm whose statistics in training are those of the valid positions alone.

    A single position has no deviation: it is normed with the running statistics.
    """

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`[B, C, T]` or `[B, C]`, same shape; what stands in padding has no meaning."""
        if not self.training:
            return super().forward(x)
        positions = x.transpose(1, -1).flatten(0, -2) if lengths is None else _valid_positions(x, lengths)
        if len(positions) < 2:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        if lengths is None:
            return super().forward(x)
        normed = x.transpose(1, 2).new_zeros(x.shape[0], x.shape[2], x.shape[1])
        valid = valid_mask(lengths, x.shape[2])
        return normed.masked_scatter(valid[..., None], super().forward(positions)).transpose(1, 2)


def _valid_positions(x: Tensor, lengths: Tensor) -> Tensor:
    """The valid positions of all signals, one after another: `[B, C, T]` -> `[M, C]`."""
    return x.transpose(1, 2)[valid_mask(lengths, x.shape[2])]


def max_pool(x: Tensor, lengths: Tensor | None, kernel: int, stride: int = 1) -> Tensor:
    """The highest of `kernel` values around every `stride`-th: `[B, C, T]` -> `[B, C, ceil(T / stride)]`."""
    highest = F.max_pool1d(silenced(x, lengths, -torch.inf), kernel, stride, kernel // 2)
    # infinities in padding would meet a gradient of zero
    return silenced(highest, shortened(lengths, stride))


def mean_pool(x: Tensor, lengths: Tensor | None, kernel: int) -> Tensor:
    """The mean of every `kernel` neighbours, of fewer at the end: `[B, C, T]` -> `[B, C, ceil(T / kernel)]`."""
    if lengths is None:
        return F.avg_pool1d(x, kernel, ceil_mode=True)
    counted = silenced(torch.ones_like(x[:, :1]), lengths)
    share = F.avg_pool1d(counted, kernel, ceil_mode=True)
    return F.avg_pool1d(silenced(x, lengths), kernel, ceil_mode=True) / share.clamp(min=1 / kernel)
