"""The linear networks against their formulas."""

import pytest
import torch
from helixwave.errors import InputError
from helixwave_domains.forecasting.linear_networks import DLinear, LTSFLinear, NLinear, TimeLinear
from torch import Tensor
from torch.testing import assert_close

B, L, H, C = 3, 7, 4, 2
INDIVIDUAL = pytest.mark.parametrize("individual", [False, True])


def window() -> Tensor:
    return torch.randn(B, L, C, generator=torch.Generator().manual_seed(0))


def mapped(linear: TimeLinear, x: Tensor, c: int) -> Tensor:
    """One channel `[B, L]` through its map."""
    weight, bias = (p[c] if linear.individual else p for p in (linear.weight, linear.bias))
    return torch.stack([sum(weight[h, t] * x[:, t] for t in range(L)) + bias[h] for h in range(H)], 1)


def trend(x: Tensor, width: int) -> Tensor:
    """The mean of `width` steps around each, the first and last value repeated outside."""
    side = width // 2
    rows = [[x[:, min(max(t + d, 0), L - 1)] for d in range(-side, side + 1)] for t in range(L)]
    return torch.stack([torch.stack(row).mean(0) for row in rows], 1)


@INDIVIDUAL
def test_linear(individual: bool) -> None:
    x, network = window(), LTSFLinear(L, H, C, individual=individual)
    y = network(x)
    assert y.shape == (B, H, C)
    for c in range(C):
        assert_close(y[..., c], mapped(network.linear, x[..., c], c))


@INDIVIDUAL
def test_nlinear(individual: bool) -> None:
    x, network = window(), NLinear(L, H, C, individual=individual)
    for c in range(C):
        last = x[:, -1:, c]
        assert_close(network(x)[..., c], mapped(network.linear, x[..., c] - last, c) + last)
    assert_close(network(x + 5), network(x) + 5, rtol=1e-5, atol=1e-5)


@INDIVIDUAL
@pytest.mark.parametrize("width", [1, 3, 25])
def test_dlinear(individual: bool, width: int) -> None:
    x, network = window(), DLinear(L, H, C, individual=individual, moving_average=width)
    for c in range(C):
        smooth = trend(x[..., c], width)
        expected = mapped(network.seasonal, x[..., c] - smooth, c) + mapped(network.trend, smooth, c)
        assert_close(network(x)[..., c], expected)


def test_an_even_moving_average_is_refused() -> None:
    with pytest.raises(InputError, match="moving_average is 24, expected an odd number"):
        DLinear(L, H, C, moving_average=24)


@INDIVIDUAL
def test_weights_start_within_the_published_bounds(individual: bool) -> None:
    linear = TimeLinear(16, 500, C, individual=individual).requires_grad_(False)
    for parameter in linear.parameters():
        assert parameter.abs().max() <= 0.25
        assert parameter.std().item() == pytest.approx(0.25 / 3**0.5, rel=0.1)
