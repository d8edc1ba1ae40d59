"""The linear networks of the long-horizon benchmarks, to be trained by gradient descent.

Source: Zeng et al., "Are Transformers Effective for Time Series Forecasting?", 2023, section 4.
"""

import math

import torch
import torch.nn.functional as F
from helixwave.errors import InputError
from torch import Tensor, nn


class TimeLinear(nn.Module):
    """An affine map over time, `[B, C, L] -> [B, C, H]`: one for all channels, or one for each.

    Weights and biases start uniform in `+-1/sqrt(L)`.
    """

    def __init__(self, context: int, horizon: int, n_channel: int, *, individual: bool = False):
        super().__init__()
        self.individual = individual
        n_map = (n_channel,) if individual else ()
        self.weight = nn.Parameter(torch.empty(*n_map, horizon, context))
        self.bias = nn.Parameter(torch.empty(*n_map, horizon))
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -1 / math.sqrt(context), 1 / math.sqrt(context))

    def forward(self, x: Tensor) -> Tensor:  # [B, C, L] -> [B, C, H]
        if not self.individual:
            return F.linear(x, self.weight, self.bias)
        return torch.einsum("bcl,chl->bch", x, self.weight) + self.bias


class LTSFLinear(nn.Module):
    """`y = W x + b` over time.

    Args:
        context: steps read, L.
        horizon: steps forecast, H.
        n_channel: C.
        individual: one map for each channel instead of one for all.
    """

    def __init__(self, context: int, horizon: int, n_channel: int, *, individual: bool = False):
        super().__init__()
        self.linear = TimeLinear(context, horizon, n_channel, individual=individual)

    def forward(self, x: Tensor) -> Tensor:  # [B, L, C] -> [B, H, C]
        return self.linear(x.transpose(1, 2)).transpose(1, 2)


class NLinear(LTSFLinear):
    """`y = W (x - last) + b + last`: the last value of each window is taken off, and put back on the forecast."""

    def forward(self, x: Tensor) -> Tensor:  # [B, L, C] -> [B, H, C]
        last = x[:, -1:].detach()
        return super().forward(x - last) + last


class DLinear(nn.Module):
    """`y = Ws (x - trend) + bs + Wt trend + bt`, the trend a moving average of x with its ends repeated.

    Args:
        context: steps read, L.
        horizon: steps forecast, H.
        n_channel: C.
        individual: two maps for each channel instead of two for all.
        moving_average: steps of the trend, odd.

    Raises:
        InputError: a moving average over an even number of steps.
    """

    def __init__(
        self, context: int, horizon: int, n_channel: int, *, individual: bool = False, moving_average: int = 25
    ):
        super().__init__()
        if moving_average % 2 == 0:
            raise InputError(f"DLinear: moving_average is {moving_average}, expected an odd number of steps")
        self.moving_average = moving_average
        self.seasonal = TimeLinear(context, horizon, n_channel, individual=individual)
        self.trend = TimeLinear(context, horizon, n_channel, individual=individual)

    def forward(self, x: Tensor) -> Tensor:  # [B, L, C] -> [B, H, C]
        x = x.transpose(1, 2)
        side = self.moving_average // 2
        trend = F.pad(x, (side, side), mode="replicate").unfold(-1, self.moving_average, 1).mean(-1)
        return (self.seasonal(x - trend) + self.trend(trend)).transpose(1, 2)
