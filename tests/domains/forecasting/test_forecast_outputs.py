"""Outputs: what they say, on the scale of the series."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from helixwave.errors import InputError
from helixwave_domains.forecasting.forecast_losses import absolute_error, squared_error
from helixwave_domains.forecasting.forecast_outputs import Gaussian, Output, Point, Quantiles
from torch import Tensor

LEVELS = (0.1, 0.3, 0.5, 0.8, 0.9)


def numbers(P: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(4, 3, 2, P, generator=torch.Generator().manual_seed(P))


def restore(y: Tensor) -> Tensor:
    """A window that is mirrored and ten times as wide."""
    return 7 - 10 * y


UNIT = torch.full((4, 1, 2), 10.0)


def test_point() -> None:
    x = numbers(1)
    assert torch.equal(Point()(x, restore, UNIT), restore(x[..., 0]))
    assert Point().loss is squared_error
    assert Point(absolute_error).loss is absolute_error


def test_gaussian() -> None:
    x = numbers(2)
    mean, sigma = Gaussian()(x, restore, UNIT).unbind(-1)
    assert torch.equal(mean, restore(x[..., 0]))
    expected = [10 * (math.log1p(math.exp(v)) + 1e-3) for v in x[..., 1].flatten().tolist()]
    assert sigma.flatten().tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("levels", [LEVELS, (0.5,), (0.1, 0.2), (0.05, 0.95, 0.99)])
def test_quantiles_are_steps_from_the_middle(levels: tuple[float, ...]) -> None:
    x = numbers(len(levels))
    found = Quantiles(levels)(x, restore, UNIT)
    middle = len(levels) // 2
    step = 10 * torch.log1p(x.exp())
    expected = [restore(x[..., middle])] * len(levels)
    for i in reversed(range(middle)):
        expected[i] = expected[i + 1] - step[..., i]
    for i in range(middle + 1, len(levels)):
        expected[i] = expected[i - 1] + step[..., i]
    torch.testing.assert_close(found, torch.stack(expected, -1))


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_quantiles_never_cross(scale: float, unit: float) -> None:
    found = Quantiles(LEVELS)(numbers(5, scale), lambda y: 1e3 + unit * y, unit * UNIT)
    assert (found.diff(dim=-1) >= 0).all()


def normal(levels: tuple[float, ...], mean: float = 3.0, sigma: float = 2.0) -> np.ndarray:
    return np.array([[[[NormalDist(mean, sigma).inv_cdf(level) for level in levels]]]])


@pytest.mark.parametrize("level", [0.001, 0.1, 0.15, 0.5, 0.81, 0.9, 0.999])
def test_other_levels_are_those_of_a_normal_distribution(level: float) -> None:
    """Exactly, where the quantiles are: between them and beyond."""
    expected = NormalDist(3, 2).inv_cdf(level)
    assert Quantiles(LEVELS).quantile(normal(LEVELS), level).item() == pytest.approx(expected)
    assert Gaussian().quantile(np.array([[[[3.0, 2.0]]]]), level).item() == pytest.approx(expected)


def test_the_point_is_the_mean_or_the_median() -> None:
    forecast = np.arange(10.0).reshape(1, 1, 2, 5)
    assert np.array_equal(Point().point(forecast), forecast)
    assert np.array_equal(Gaussian().point(forecast[..., :2]), forecast[..., 0])
    assert np.array_equal(Quantiles(LEVELS).point(forecast), forecast[..., 2])
    assert np.array_equal(Quantiles((0.7,)).point(forecast[..., :1]), forecast[..., 0])
    assert Quantiles((0.4, 0.6)).point(normal((0.4, 0.6))).item() == pytest.approx(3)


def test_levels_between_quantiles_never_cross() -> None:
    forecast = np.sort(np.random.default_rng(0).normal(size=(50, 3, 2, 5)), axis=-1)
    levels = np.linspace(0.01, 0.99, 99)
    between = np.stack([Quantiles(LEVELS).quantile(forecast, level) for level in levels], -1)
    assert (np.diff(between) >= 0).all()


@pytest.mark.parametrize("output", [Point(), Gaussian(), Quantiles(LEVELS)], ids=["point", "gaussian", "quantiles"])
def test_the_loss_fits_the_forecast(output: Output) -> None:
    x = numbers(output.n_number).requires_grad_()
    output.loss(output(x, restore, UNIT), torch.zeros(4, 3, 2)).backward()
    assert x.grad is not None
    assert (x.grad != 0).all()


@pytest.mark.parametrize("levels", [(), (0.5, 0.1), (0.5, 0.5), (0.0, 0.5), (0.5, 1.0)])
def test_levels_that_do_not_rise(levels: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="expected rising numbers between 0 and 1"):
        Quantiles(levels)
