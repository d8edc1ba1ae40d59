"""What a network says of each step it forecasts: a number, a normal distribution or quantiles.

An output turns `[..., C, P]` numbers without bounds, on the scale of a normalised window, into a forecast on the scale
of the series; a location moves with the window's centre and scale, a width with its unit alone.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from helixwave.errors import InputError
from numpy.typing import NDArray
from torch import Tensor

from helixwave_domains.forecasting.forecast_losses import Loss, PinballLoss, gaussian_loss, squared_error

Restore = Callable[[Tensor], Tensor]
Floats = NDArray[np.float64]

# a distribution of no width would have an unbounded likelihood
_LEAST_SIGMA = 1e-3


class Output(Protocol):
    """Turns numbers into a forecast, and knows the loss that it is trained with."""

    n_number: int
    loss: Loss

    def __call__(self, numbers: Tensor, restore: Restore, unit: Tensor) -> Tensor:
        """Forecasts from numbers `[B, H, C, P]`.

        Args:
            numbers: of the network.
            restore: from the normalised scale to the series', `[B, H, C]` -> `[B, H, C]`.
            unit: what a normalised difference of one is on the series' scale, `[B, 1, C]`.
        """

    def point(self, forecast: Floats) -> Floats:
        """One number for each step, from what `__call__` returned: `[B, H, C]`."""


class Point:
    """One number: `[B, H, C, 1]` -> `[B, H, C]`.

    Args:
        loss: `squared_error` for the mean, `absolute_error` for the median.
    """

    n_number = 1

    def __init__(self, loss: Loss = squared_error):
        self.loss = loss

    def __call__(self, numbers: Tensor, restore: Restore, unit: Tensor) -> Tensor:
        return restore(numbers.squeeze(-1))

    def point(self, forecast: Floats) -> Floats:
        return forecast


class Gaussian:
    """Mean and standard deviation: `[B, H, C, 2]` -> `[B, H, C, 2]`."""

    n_number = 2
    loss: Loss = staticmethod(gaussian_loss)

    def __call__(self, numbers: Tensor, restore: Restore, unit: Tensor) -> Tensor:
        mean, width = numbers.unbind(-1)
        return torch.stack([restore(mean), (F.softplus(width) + _LEAST_SIGMA) * unit], dim=-1)

    def point(self, forecast: Floats) -> Floats:
        return forecast[..., 0]

    def quantile(self, forecast: Floats, level: float) -> Floats:
        """What a share `level` of outcomes lies below, `[B, H, C]`."""
        return forecast[..., 0] + NormalDist().inv_cdf(level) * forecast[..., 1]


class Quantiles:
    """Quantiles that cannot cross: `[B, H, C, Q]` -> `[B, H, C, Q]`.

    The one in the middle is a number, every other is its neighbour towards the middle plus or minus a softplus. Other
    levels lie on the straight line between two quantiles, or beyond the outer two, on the scale on which those of a
    normal distribution do.

    Args:
        levels: of the quantiles, rising, between 0 and 1.

    Raises:
        InputError: levels that do not rise, or out of range.
    """

    def __init__(self, levels: Sequence[float]):
        rises = all(low < high for low, high in pairwise(levels))
        if not levels or not rises or levels[0] <= 0 or levels[-1] >= 1:
            raise InputError(f"quantiles: levels are {list(levels)}, expected rising numbers between 0 and 1")
        self.levels, self.n_number = tuple(levels), len(levels)
        self.loss: Loss = PinballLoss(levels)

    def __call__(self, numbers: Tensor, restore: Restore, unit: Tensor) -> Tensor:
        middle = self.n_number // 2
        location = restore(numbers[..., middle])[..., None]
        steps = F.softplus(numbers) * unit[..., None]
        below = steps[..., :middle].flip(-1).cumsum(-1).flip(-1)
        above = steps[..., middle + 1 :].cumsum(-1)
        return torch.cat([location - below, location, location + above], dim=-1)

    def point(self, forecast: Floats) -> Floats:
        return self.quantile(forecast, 0.5)

    def quantile(self, forecast: Floats, level: float) -> Floats:
        """What a share `level` of outcomes lies below, `[B, H, C]`."""
        if self.n_number == 1:
            return forecast[..., 0]
        places, place = [NormalDist().inv_cdf(each) for each in self.levels], NormalDist().inv_cdf(level)
        i = min(max(bisect_left(places, place) - 1, 0), self.n_number - 2)
        share = (place - places[i]) / (places[i + 1] - places[i])
        return (1 - share) * forecast[..., i] + share * forecast[..., i + 1]
