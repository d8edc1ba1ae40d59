"""Reversible instance normalisation against its formulas, window by window."""

import math

import pytest
import torch
from helixwave_domains.forecasting.window_normalisation import RevIN
from torch import Tensor
from torch.testing import assert_close

CENTRE = pytest.mark.parametrize("centre", ["mean", "last"])
SCALE = pytest.mark.parametrize("scale", [True, False])


def windows(known_share: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = 5 + 3 * torch.randn(4, 9, 2, generator=generator, dtype=torch.float64)
    return x, torch.rand(x.shape, generator=generator) < known_share


@CENTRE
@SCALE
@pytest.mark.parametrize("known_share", [1.0, 0.6])
def test_equals_the_formulas(centre: str, scale: bool, known_share: float) -> None:
    x, known = windows(known_share)
    revin = RevIN(2, centre=centre, scale=scale)
    y, statistics = revin.normalise(x.masked_fill(~known, 1e6), known)
    for b in range(4):
        for c in range(2):
            values = x[b, :, c][known[b, :, c]].tolist()
            mean = sum(values) / len(values)
            std = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values) + 1e-5) if scale else 1.0
            middle = mean if centre == "mean" else values[-1]
            expected = [(v - middle) / std for v in values]
            assert_close(y[b, :, c][known[b, :, c]].tolist(), expected)
            assert not y[b, :, c][~known[b, :, c]].any()
            assert_close(statistics.scale[b, 0, c].item(), std)


@CENTRE
@SCALE
@pytest.mark.parametrize("affine", [True, False])
def test_restore_is_the_way_back(centre: str, scale: bool, affine: bool) -> None:
    x, known = windows()
    revin = RevIN(2, centre=centre, scale=scale, affine=affine).double()
    if affine:
        revin.load_state_dict({"weight": torch.tensor([-2.0, 0.5]), "bias": torch.tensor([0.1, -3.0])})
    y, statistics = revin.normalise(x, known)
    assert_close(revin.restore(y, statistics), x)
    # a step of one, up or down
    step = (revin.restore(y + 1, statistics) - revin.restore(y, statistics)).abs()
    assert_close(revin.unit(statistics).expand_as(step), step)


def test_affine_map() -> None:
    x, known = windows()
    plain, _ = RevIN(2).normalise(x, known)
    revin = RevIN(2, affine=True).double()
    assert_close(revin.normalise(x, known)[0], plain)
    revin.load_state_dict({"weight": torch.tensor([-2.0, 0.5]), "bias": torch.tensor([0.1, -3.0])})
    assert_close(revin.normalise(x, known)[0], plain * torch.tensor([-2.0, 0.5]) + torch.tensor([0.1, -3.0]))


@CENTRE
def test_a_window_without_values(centre: str) -> None:
    x, known = windows()
    known[0] = False
    y, statistics = RevIN(2, centre=centre).normalise(x, known)
    assert not y[0].any()
    assert statistics.centre[0].tolist() == [[0, 0]]
    assert statistics.scale[0].tolist() == [[1, 1]]


def test_no_gradient_through_the_statistics() -> None:
    """As published: the derivative of `(x - centre) / scale` is `1 / scale`."""
    x, known = windows()
    y, statistics = RevIN(2).normalise(x.requires_grad_(), known)
    y.sum().backward()
    assert_close(x.grad, (1 / statistics.scale).expand_as(x))
