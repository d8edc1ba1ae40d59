"""What a forecast is held to: means over the targets that are known; a NaN target counts for nothing."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""A number from forecasts `[B, H, C]` (`[B, H, C, P]` for distributions) and targets `[B, H, C]`; lower is better."""


def squared_error(forecast: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of `[B, H, C]`."""
    known, target = _known(target)
    return _mean((forecast - target).square(), known)


def absolute_error(forecast: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of `[B, H, C]`."""
    known, target = _known(target)
    return _mean((forecast - target).abs(), known)


def gaussian_loss(forecast: Tensor, target: Tensor) -> Tensor:
    """Mean negative log-likelihood of normal distributions, in nats.

    Args:
        forecast: means and standard deviations `[B, H, C, 2]`.
        target: `[B, H, C]`.
    """
    known, target = _known(target)
    mean, sigma = forecast.unbind(-1)
    return _mean(((target - mean) / sigma).square() / 2 + sigma.log() + math.log(2 * math.pi) / 2, known)


class PinballLoss:
    """Mean pinball loss of quantiles: `q (y - f)` where the target is above the forecast, `(1 - q) (f - y)` below it.

    Its least value is at the true quantiles. Source: Koenker and Bassett, "Regression Quantiles", 1978.

    Args:
        levels: q of each of the Q quantiles.
    """

    def __init__(self, levels: Sequence[float]):
        self.levels = tuple(levels)

    def __call__(self, forecast: Tensor, target: Tensor) -> Tensor:  # [B, H, C, Q], [B, H, C]
        known, target = _known(target)
        levels = forecast.new_tensor(self.levels)
        above = target[..., None] - forecast
        return _mean(torch.maximum(levels * above, (levels - 1) * above).mean(-1), known)


def _known(target: Tensor) -> tuple[Tensor, Tensor]:
    known = ~target.isnan()
    return known, target.masked_fill(~known, 0.0)


def _mean(errors: Tensor, known: Tensor) -> Tensor:
    """Zero, with gradients of zero, if nothing is known."""
    return (errors * known).sum() / known.sum().clamp(min=1)
