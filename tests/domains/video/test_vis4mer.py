"""The multi-scale decoder: its formula, padding at every scale, widths that halve."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helixwave.checkpoint import build_model
from helixwave.errors import InputError
from helixwave_domains.video.vis4mer import ViS4mer, mean_pairs
from torch import Tensor
from torch.testing import assert_close


def make(**arguments: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"d_input": 6, "d_model": 8, "n_layer": 2, "d_state": 4}
    return ViS4mer(classes=["a", "b", "c"], **{**sizes, **arguments})


def features(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_padding_and_other_clips_change_nothing() -> None:
    model, x, lengths = make(n_layer=3).eval(), features(5, 13, 6), [13, 8, 5, 2, 1]
    spoilt = x.clone()
    for i, length in enumerate(lengths):
        spoilt[i, length:] = 100
    together = model(spoilt, torch.tensor(lengths))
    for i, length in enumerate(lengths):
        assert_close(model(x[i : i + 1, :length])[0], together[i], rtol=0, atol=1e-6)
    assert_close(model.head(model.embed(x, torch.tensor(lengths))), together, rtol=0, atol=1e-6)


def test_published_formula() -> None:
    model, x = make().eval(), features(2, 8, 6)
    wanted = model.embedding.map(x)
    for layer in model.backbone.layers:
        wanted = wanted + layer.mixer(layer.norm(wanted))[0]
        wanted = F.gelu(layer.linear(F.avg_pool1d(wanted.mT, 2).mT))
    hidden, lengths = model.hidden(x)
    assert hidden.shape == (2, 2, 2)
    assert lengths is None
    assert_close(hidden, wanted)
    assert_close(model(x), model.head(wanted.mean(1)))


def test_means_of_pairs() -> None:
    x = torch.tensor([[1.0, 3.0, 5.0], [2.0, 9.0, 9.0], [2.0, 4.0, 9.0]])[..., None]
    means, lengths = mean_pairs(x, torch.tensor([3, 1, 2]))
    assert lengths is not None
    assert lengths.tolist() == [2, 1, 1]
    assert means[0].flatten().tolist() == [2, 5]
    assert means[1:, 0].flatten().tolist() == [2, 3]


def test_gradients_and_features_as_they_are() -> None:
    model = make(d_input=8)
    assert not list(model.embedding.parameters())
    model.train()(features(3, 9, 8), torch.tensor([9, 4, 1])).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


def test_from_a_recipe_and_errors() -> None:
    model = {"name": "vis4mer", "d_input": 6, "d_model": 8, "d_state": 4}
    built: Any = build_model({"model": model, "backbone": None, "classes": ["a", "b"]})
    assert built(features(1, 3, 6)).shape == (1, 2)
    assert built.reads == {"d_input": 6}
    with pytest.raises(InputError, match=r"reads features \[B, T, 6\], the inputs have shape \[1, 3, 5\]"):
        built(features(1, 3, 5))
    with pytest.raises(InputError, match="d_model is 12, expected a multiple of 8"):
        make(d_model=12, n_layer=3)
