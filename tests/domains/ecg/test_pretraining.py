"""Pretraining: what is hidden stays hidden, crops of one recording are found, and losses fall."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from helixwave.backbone import Backbone
from helixwave.checkpoint import named_tensors
from helixwave.data.batches import make_loader
from helixwave.data.source import Example, Split
from helixwave.errors import InputError
from helixwave.objectives import Objective
from helixwave.objectives.signals import MaskedSpans
from helixwave.recipe import Batches
from helixwave_domains.ecg.networks import ECGModel
from helixwave_domains.ecg.pretraining import ContrastiveCrops


class Waves:
    """Sines of different frequencies in two leads, and a constant beside."""

    padding: int | float = 0.0

    def __init__(self, n: int = 32, T: int = 96):
        rng = np.random.default_rng(0)
        angle = np.arange(T) * rng.uniform(0.1, 0.6, (n, 1)) + rng.uniform(0, 6, (n, 1))
        self.signals = np.stack([np.sin(angle), np.cos(angle), np.full_like(angle, 0.3)], -1).astype(np.float32)

    def __len__(self) -> int:
        return len(self.signals)

    def length(self, index: int) -> int:
        return len(self.signals[index])

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        return {"inputs": self.signals[index], "target": 0}


class Source:
    def __init__(self) -> None:
        self.classes = ["a", "b"]
        self.train: Split = Waves()
        self.validation: Split = self.train
        self.test: Split = self.train

    def describe(self) -> dict[str, Any]:
        return {}

    def export(self, model: Any, folder: Any) -> list[Any]:
        raise AssertionError("there is nothing to export from a pretrained model")


def model(objective: Objective, head: Any) -> ECGModel:
    torch.manual_seed(0)
    blocks = [{"name": "bidirectional", "block": {"name": "s4d", "d_state": 4}}]
    return ECGModel(
        backbone=Backbone(16, n_layer=1, blocks=blocks),
        classes=objective.classes,
        predicts=objective.predicts,
        head=head,
        channels=3,
        n_lead=2,
        widths=[],
        kernels=[5],
        strides=[2],
    )


def learnt(objective: Any, head: str, n_epoch: int) -> list[float]:
    """The loss of each epoch."""
    source, losses = objective.prepare(Source()), []
    network = model(objective, head)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    outputs = getattr(objective, "outputs", lambda network, inputs, lengths: network(inputs, lengths))
    for epoch in range(n_epoch):
        for batch in make_loader(source.train, Batches(size=32), seed=0, epoch=epoch):
            loss = objective.loss(outputs(network, batch["inputs"], batch["lengths"]), batch["target"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize(
    ("objective", "head"),
    [
        pytest.param(MaskedSpans(["a"], span=8, n_channel=2), "signal", id="spans"),
        pytest.param(ContrastiveCrops(["a"], size=8, n_lead=2), "record", id="crops"),
    ],
)
def test_loss_falls(objective: Objective, head: str) -> None:
    losses = learnt(objective, head, 12)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("T", [1, 2, 7, 50, 333])
def test_hidden_samples_do_not_reach_the_model(T: int) -> None:
    objective = MaskedSpans(["a"], span=10, share=0.3, n_channel=2)
    objective.prepare(Source())
    signal = np.random.default_rng(1).normal(size=(T, 3)).astype(np.float32)
    made = objective.example({"inputs": signal, "target": 0}, 4, None)
    target = np.asarray(made["target"])
    hidden = ~np.isnan(target).any(1)
    assert hidden.any()
    assert T == 1 or not hidden.all()
    assert np.array_equal(target[hidden], signal[hidden, :2])
    assert np.isnan(target[~hidden]).all()
    assert np.array_equal(made["inputs"][~hidden], signal[~hidden])
    assert np.array_equal(made["inputs"][:, 2], signal[:, 2]), "what is no lead is never hidden"
    other = signal + hidden[:, None] * np.array([5, 5, 0], dtype=np.float32)
    assert np.array_equal(objective.example({"inputs": other, "target": 0}, 4, None)["inputs"], made["inputs"])


def test_share_of_hidden_samples() -> None:
    objective = MaskedSpans(["a"], span=20, share=0.4)
    rng = np.random.default_rng(0)
    shares = [objective.hidden(1000, rng).mean() for _ in range(20)]
    assert np.mean(shares) == pytest.approx(0.4, abs=0.02)


def test_missing_leads_are_not_scored() -> None:
    objective = MaskedSpans(["a"], span=4)
    objective.prepare(Source())
    signal = np.ones((40, 3), dtype=np.float32) * [1, 0, 2]
    target = np.asarray(objective.example({"inputs": signal, "target": 0}, 0, None)["target"])
    assert np.isnan(target[:, 1]).all()
    assert not np.isnan(target[:, [0, 2]]).all()
    outputs = torch.zeros(1, 40, 3)
    loss = objective.loss(outputs, torch.from_numpy(target)[None])
    assert float(loss) == pytest.approx((1 + 4) / 2)
    scores = objective.score(*objective.scored(outputs, torch.from_numpy(target)[None]))
    assert scores["mse"] == pytest.approx((1 + 4) / 2)


def test_the_same_each_time_it_is_judged() -> None:
    for objective in (MaskedSpans(["a"]), ContrastiveCrops(["a"])):
        split = objective.prepare(Source()).test
        assert np.array_equal(split.example(3, None)["inputs"], split.example(3, None)["inputs"])
        one, other = (split.example(3, np.random.default_rng(seed))["inputs"] for seed in range(2))
        assert not np.array_equal(one, other)


def test_nt_xent_equals_a_loop() -> None:
    objective = ContrastiveCrops(["a"], size=5, temperature=0.3)
    outputs = torch.randn(4, 2, 5, generator=torch.Generator().manual_seed(0))
    crops = [(i, v) for i in range(4) for v in range(2)]
    losses, hits = {}, {}
    for crop in crops:
        alike = {other: _cosine(outputs[crop], outputs[other]) / 0.3 for other in crops if other != crop}
        right = (crop[0], 1 - crop[1])
        losses[crop] = -math.log(math.exp(alike[right]) / sum(math.exp(value) for value in alike.values()))
        hits[crop] = max(alike, key=lambda other: alike[other]) == right
    mean = sum(losses.values()) / 8
    assert float(objective.loss(outputs, torch.zeros(4))) == pytest.approx(mean, rel=1e-5)
    scores = objective.score(*objective.scored(outputs, torch.zeros(4)))
    assert scores == pytest.approx({"nt_xent": mean, "retrieval": sum(hits.values()) / 8}, rel=1e-5)


def _cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(one @ other / (one.norm() * other.norm()))


def test_a_single_recording_has_nothing_to_be_told_from() -> None:
    outputs = torch.randn(1, 2, 5, requires_grad=True)
    loss = ContrastiveCrops(["a"]).loss(outputs, torch.zeros(1))
    loss.backward()
    assert float(loss.detach()) == 0
    assert outputs.grad is not None
    assert (outputs.grad == 0).all()


def test_crops_are_parts_of_the_recording() -> None:
    objective = ContrastiveCrops(["a"], crop=0.25, scale=0, noise=0, n_lead=2)
    signal = Waves().signals[0]
    one, other = np.split(objective.example({"inputs": signal, "target": 0}, 0, None)["inputs"], 2, axis=1)
    for crop in (one, other):
        assert any(np.array_equal(crop, signal[start : start + 24]) for start in range(73))
    noisy = ContrastiveCrops(["a"], noise=1.0, n_lead=2).view(signal * [1, 0, 1], np.random.default_rng(0))
    assert (noisy[:, 1] == 0).all(), "a missing lead stays missing"
    assert np.unique(noisy[:, 2]).size == 1, "what is no lead stays as it is"


def test_a_fine_tuned_model_has_a_place_for_all_but_the_head() -> None:
    objective = MaskedSpans(["a"], n_channel=2)
    objective.prepare(Source())
    pretrained = {name for name in named_tensors(model(objective, "signal")) if not name.startswith("head.")}
    fine_tuned = named_tensors(model(ContrastiveCrops(["a"]), "record"))
    assert pretrained <= fine_tuned.keys()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskedSpans(["a"], span=0), "span is 0, expected at least 1 sample"),
        (lambda: MaskedSpans(["a"], share=1.0), "share is 1.0, expected more than 0 and less than 1"),
        (lambda: ContrastiveCrops(["a"], crop=0.0), "crop is 0.0, expected more than 0 and less than 1"),
        (lambda: ContrastiveCrops(["a"], temperature=0.0), "temperature is 0.0, expected more than 0"),
        (lambda: ContrastiveCrops(["a"], noise=-1.0), "noise is -1.0, expected at least 0"),
        (lambda: ContrastiveCrops(["a"]).loss(torch.zeros(3, 64), torch.zeros(3)), "a model of a whole recording"),
    ],
)
def test_errors(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        make()
