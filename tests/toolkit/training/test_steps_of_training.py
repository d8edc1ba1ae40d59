"""Noise on gradients, rates by layer, and the size of batches."""

import math
from collections.abc import Callable

import pytest
import torch
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.optimisation import add_gradient_noise, layer_scales, parameter_groups
from helixwave.token_model import TokenModel
from helixwave.training.batch_size import largest
from torch import nn


def test_noise_has_the_variance_of_the_paper() -> None:
    torch.manual_seed(0)
    for step, variance in ((0, 0.3), (99, 0.3 / 100**0.55)):
        parameter = nn.Parameter(torch.zeros(100_000))
        parameter.grad = torch.full((100_000,), 2.0)
        add_gradient_noise([parameter, nn.Parameter(torch.zeros(1))], 0.3, step)
        assert parameter.grad.mean().item() == pytest.approx(2, abs=0.01)
        assert parameter.grad.std().item() == pytest.approx(math.sqrt(variance), rel=0.02)


@pytest.mark.parametrize("tie", [False, True])
def test_each_layer_learns_at_its_rate(tie: bool) -> None:
    blocks = [{"name": "mlp"}]
    model = TokenModel(backbone=Backbone(4, n_layer=2, blocks=blocks), classes=["a", "b"], tie=tie)
    groups = parameter_groups(model, lr=1.0, weight_decay=0.0, scale=layer_scales(model, 0.5))
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    expected = {"embedding": 0.125, "backbone.blocks.0": 0.25, "backbone.norms.0": 0.25, "backbone.blocks.1": 0.5}
    expected |= {"backbone.norms.1": 0.5, "backbone.norm.": 1.0, "head": 0.125 if tie else 1.0}
    for name, parameter in model.named_parameters():
        (rate,) = (rate for start, rate in expected.items() if name.startswith(start))
        assert rates[id(parameter)] == rate, name


def test_rates_by_layer_need_layers() -> None:
    assert layer_scales(nn.Linear(2, 2), 1.0) == {}
    with pytest.raises(InputError, match=r"Linear has no backbone with layers. Set it to 1"):
        layer_scales(nn.Linear(2, 2), 0.5)
    # a convolutional net calls its stages so
    stages = nn.ModuleDict({"backbone": nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(2, 2)])})})
    with pytest.raises(InputError, match="has no backbone with layers"):
        layer_scales(stages, 0.5)


def seconds(pace: Callable[[int], float], memory: int = 10**9) -> Callable[[int], float]:
    def measured(size: int) -> float:
        if size > memory:
            raise torch.OutOfMemoryError
        return pace(size)

    return measured


@pytest.mark.parametrize(
    ("measured", "most", "holds", "size"),
    [
        (seconds(lambda size: 1.0), 100, True, 64),  # as long as there are examples
        (seconds(lambda size: 1.0, memory=20), 100, True, 16),  # as long as there is memory
        (seconds(lambda size: max(8, size)), 100, True, 8),  # as long as it is worth it
        (seconds(lambda size: 1.0), 100, False, 4),  # not where it would fill the memory
        (seconds(lambda size: 1.0), 7, True, 4),
    ],
)
def test_the_batch_that_is_taken(measured: Callable[[int], float], most: int, holds: bool, size: int) -> None:
    assert largest(measured, 4, most, lambda: holds) == size
