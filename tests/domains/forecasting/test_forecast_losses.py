"""Losses against their formulas, one known target after the other."""

import math
from statistics import NormalDist, fmean

import pytest
import torch
from helixwave_domains.forecasting.forecast_losses import (
    Loss,
    PinballLoss,
    absolute_error,
    gaussian_loss,
    squared_error,
)
from torch import Tensor

LEVELS = (0.1, 0.5, 0.8)


def pinball(forecast: list[float], y: float) -> float:
    return fmean(q * (y - f) if y > f else (1 - q) * (f - y) for q, f in zip(LEVELS, forecast, strict=True))


LOSSES = {
    "squared": (squared_error, 0, lambda f, y: (f - y) ** 2),
    "absolute": (absolute_error, 0, lambda f, y: abs(f - y)),
    "gaussian": (gaussian_loss, 2, lambda f, y: -math.log(NormalDist(*f).pdf(y))),
    "pinball": (PinballLoss(LEVELS), 3, pinball),
}
EACH = pytest.mark.parametrize(("loss", "n_number", "one"), LOSSES.values(), ids=LOSSES)


def forecasts(n_number: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (3, 4, 2, n_number) if n_number else (3, 4, 2)
    forecast = 0.5 + torch.rand(shape, generator=generator, dtype=torch.float64)
    target = torch.randn(3, 4, 2, generator=generator, dtype=torch.float64)
    return forecast, target


@EACH
def test_equals_the_mean_over_known_targets(loss: Loss, n_number: int, one: object) -> None:
    forecast, target = forecasts(n_number)
    target[0, 1:3] = torch.nan
    pairs = zip(forecast.flatten(0, 2).tolist(), target.flatten().tolist(), strict=True)
    expected = fmean(one(f, y) for f, y in pairs if not math.isnan(y))
    assert loss(forecast, target).item() == pytest.approx(expected)


@EACH
def test_missing_targets_give_no_gradient(loss: Loss, n_number: int, one: object) -> None:
    forecast, target = forecasts(n_number)
    target[1] = torch.nan
    loss(forecast.requires_grad_(), target).backward()
    assert not forecast.grad[1].any()
    assert forecast.grad[0].any()
    assert forecast.grad.isfinite().all()


@EACH
def test_without_any_target_the_loss_is_zero(loss: Loss, n_number: int, one: object) -> None:
    forecast, target = forecasts(n_number)
    value = loss(forecast.requires_grad_(), torch.full_like(target, torch.nan))
    value.backward()
    assert value == 0
    assert not forecast.grad.any()


def test_pinball_is_least_at_the_quantiles() -> None:
    sample = torch.randn(4001, 1, 1, generator=torch.Generator().manual_seed(3))
    quantiles = sample.flatten().quantile(torch.tensor(LEVELS))
    loss = PinballLoss(LEVELS)

    def at(forecast: Tensor) -> float:
        return loss(forecast.expand(4001, 1, 1, 3), sample).item()

    for i in range(3):
        for shift in (-0.05, 0.05):
            moved = quantiles.clone()
            moved[i] += shift
            assert at(quantiles) < at(moved)
