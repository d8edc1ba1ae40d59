"""Several objectives: what they share, how often each is served, how weights follow progress."""

from typing import Any

import numpy as np
import pytest
import torch
from helixwave.checkpoint import build_model
from helixwave.data.batches import Draw
from helixwave.errors import InputError
from helixwave.objectives import Objective
from helixwave.objectives.classification import Classification
from helixwave.objectives.signals import MaskedSpans, NextValues
from helixwave.training.companions import companion, companion_config
from helixwave.training.mixture import Mixture
from helixwave.training.settings import ObjectiveMixture

BACKBONE = {"d_model": 8, "n_layer": 1, "blocks": [{"name": "s4d", "d_state": 4}]}


class Signals:
    """A source of one signal of two channels."""

    padding = 0.0
    classes = ("a", "b")

    def __init__(self) -> None:
        self.train = self.validation = self.test = self

    def __len__(self) -> int:
        return 1

    def length(self, index: int) -> int:
        return 32

    def example(self, index: int, rng: Any) -> Any:
        return {"inputs": np.ones((32, 2), np.float32), "target": np.zeros(32, np.int64)}


def prepared(objective: Objective) -> Objective:
    objective.prepare(Signals())  # type: ignore[arg-type]
    return objective


def signal_model(classes: list[str], predicts: str = "class") -> Any:
    torch.manual_seed(0)
    config = {"model": {"name": "signal_model", "channels": 2}, "backbone": BACKBONE}
    return build_model({**config, "classes": classes, "predicts": predicts})


def mixture(weights: list[float] | None = None, reward: float = 0.0) -> Mixture:
    settings = ObjectiveMixture([{"name": "masked_spans"}, {"name": "next_values"}], weights, reward)
    objectives = [prepared(MaskedSpans([])), prepared(NextValues([]))]
    return Mixture(signal_model(["a", "b"]), objectives, [], settings)


def test_a_companion_has_a_head_of_its_own_and_shares_the_rest() -> None:
    model, objective = signal_model(["a", "b", "c"]), prepared(MaskedSpans([]))
    other: Any = companion(model, objective)
    assert other.embedding is model.embedding
    assert other.backbone is model.backbone
    assert other.head.out_features == 2
    other(torch.randn(1, 32, 2)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.backbone.parameters())
    assert model.head.weight.grad is None


def test_a_model_with_the_same_outputs_is_its_own_companion() -> None:
    objective = prepared(NextValues([]))
    model = signal_model(objective.classes, objective.predicts)
    assert companion(model, objective) is model


def test_a_tied_head_follows_the_embedding() -> None:
    config = {"model": {"name": "token_model"}, "backbone": BACKBONE, "predicts": "class"}
    model = build_model({**config, "classes": ["a", "b", "c"]})
    objective = Classification(["x", "y", "z"])
    other: Any = companion(model, objective)
    assert other is not model
    assert other.head.weight is other.embedding.weight is model.embedding.weight  # type: ignore[union-attr]


def test_a_model_that_nothing_pretrains_is_refused() -> None:
    class Alone(torch.nn.Module):
        pass

    with pytest.raises(InputError, match="Alone does not say which model pretrains it"):
        companion_config(Alone())


def test_steps_are_shared_out_by_weight_and_follow_from_the_seed() -> None:
    mixed = mixture([3.0, 2.0, 1.0])
    batches = [[Draw(i), Draw(i + 1)] for i in range(3000)]
    first = mixed.assigned(batches, seed=0, epoch=1)
    numbers = np.array([batch[0].objective for batch in first])
    assert np.bincount(numbers) / len(numbers) == pytest.approx([3 / 6, 2 / 6, 1 / 6], abs=0.03)
    assert all(batch[0].objective == batch[1].objective for batch in first)
    assert mixed.assigned(batches, seed=0, epoch=1) == first
    assert mixed.assigned(batches, seed=0, epoch=2) != first


def test_weights_follow_the_progress() -> None:
    mixed = mixture(reward=0.5)
    mixed.follow([1.0, 2.0, 4.0])
    assert mixed.shares.tolist() == pytest.approx([1 / 3] * 3), "a first loss is no progress"
    mixed.follow([0.9, 1.0, 5.0])
    # falls of 0.1, 0.5 and -0.25: as parts of the greatest, times the reward
    expected = np.exp(0.5 * np.array([0.2, 1.0, -0.5]))
    assert mixed.shares.tolist() == pytest.approx((expected / expected.sum()).tolist())


def test_fixed_weights_stay() -> None:
    mixed = mixture([1.0, 1.0, 2.0])
    for losses in ([1.0, 1.0, 1.0], [0.1, 0.9, 3.0]):
        mixed.follow(losses)
    assert mixed.shares.tolist() == pytest.approx([0.25, 0.25, 0.5])
