"""Tokens that are picked, the slow copy, and what pretraining on long and short clips shows and learns."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helixwave.checkpoint import build_model
from helixwave.data.batches import make_loader
from helixwave.data.source import Example
from helixwave.errors import InputError
from helixwave.objectives import Classification
from helixwave.recipe import Batches
from helixwave_domains.video.long_short import LongShortContrastive
from helixwave_domains.video.selective_s4 import SelectiveS4, best
from helixwave_domains.video.vis4mer import ViS4mer
from torch import Tensor
from torch.testing import assert_close

SIZES: dict[str, Any] = {"d_input": 6, "d_model": 8, "n_layer": 2, "d_state": 4}


def make(**arguments: Any) -> Any:
    torch.manual_seed(0)
    return SelectiveS4(**{"classes": ["a", "b", "c"], **SIZES, **arguments})


def features(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("training", [False, True])
def test_share_of_kept_tokens(keep: float, training: bool) -> None:
    model, x, lengths = make(keep=keep).train(training), features(4, 40, 6), torch.tensor([40, 23, 2, 1])
    embedded, _ = model.embedding(x, lengths)
    kept, n_kept = model.kept(embedded, model.scores(x, lengths), lengths)
    assert kept.shape[1] == n_kept.max()
    for n, length in zip(n_kept.tolist(), lengths.tolist(), strict=True):
        assert 1 <= n <= length
        assert abs(n - keep * length) <= 1


def test_the_highest_scores_are_kept_in_order() -> None:
    scores = torch.tensor([[0.1, 5.0, -3.0, 0.3, 9.0, 0.2], [1.0, 2.0, 3.0, 9.0, 9.0, 9.0]])
    index, n = best(scores, 0.5, torch.tensor([6, 3]))
    assert n.tolist() == [3, 2]
    assert index[0].tolist() == [1, 3, 4]
    assert index[1, :2].tolist() == [1, 2]
    model = make().eval()
    x = features(2, 6, 8)
    kept, _ = model.kept(x, scores, torch.tensor([6, 3]))
    assert torch.equal(kept[0], x[0, [1, 3, 4]])


def test_padding_and_other_clips_change_nothing() -> None:
    model, x, lengths = make().eval(), features(4, 21, 6), [21, 10, 3, 1]
    spoilt = x.clone()
    for i, length in enumerate(lengths):
        spoilt[i, length:] = 100
    together = model(spoilt, torch.tensor(lengths))
    for i, length in enumerate(lengths):
        assert_close(model(x[i : i + 1, :length])[0], together[i], rtol=0, atol=1e-6)


def test_all_tokens_are_those_of_vis4mer() -> None:
    model, other = make(keep=1.0).eval(), ViS4mer(classes=["a", "b", "c"], **SIZES).eval()
    other.load_state_dict({name: w for name, w in model.state_dict().items() if name in other.state_dict()})
    x, lengths = features(2, 9, 6), torch.tensor([9, 4])
    assert_close(model(x, lengths), other(x, lengths))
    assert_close(model.projected(x, lengths), other(x, lengths))


def test_gradients() -> None:
    model = make().train()
    loss = Classification(["a", "b", "c"]).loss(model(features(3, 12, 6), torch.tensor([12, 7, 2])), torch.arange(3))
    loss.backward()
    for name, parameter in model.named_parameters():
        learns = not name.startswith("teacher.")
        assert (parameter.grad is not None and bool(parameter.grad.any())) == learns, name
        assert parameter.requires_grad == learns, name


def test_the_generator_learns_which_tokens_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    classes, mark = torch.randn(3, 6, generator=generator), torch.randn(6, generator=generator)

    def draw() -> tuple[Tensor, Tensor, Tensor]:
        target = torch.randint(3, (32,), generator=generator)
        telling = torch.rand(32, 32, generator=generator) < 0.125
        noise = torch.randn(32, 32, 6, generator=generator)
        told = (classes[target] + mark)[:, None] + 0.3 * noise
        return torch.where(telling[..., None], told, noise), target, telling

    model = make(keep=0.25, momentum=0.9, dropout=0.0, d_model=16, n_layer=1).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(40):
        x, target, _ = draw()
        optimizer.zero_grad()
        F.cross_entropy(model(x), target).backward()
        optimizer.step()
    x, _, telling = draw()
    index, _ = best(model.eval().scores(x), 0.25, None)
    # a quarter, if it were by chance
    assert telling.gather(1, index).sum() > 0.5 * telling.sum()


def test_the_slow_copy_is_the_moving_average() -> None:
    model = make(momentum=0.9).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    wanted = {name: weight.clone() for name, weight in model.teacher.state_dict().items()}
    for _ in range(3):
        for name in wanted:
            wanted[name] = 0.9 * wanted[name] + 0.1 * model.get_parameter(name).detach()
        model(features(2, 8, 6)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        assert_close(dict(model.teacher.state_dict()), wanted)
    model.eval()(features(2, 8, 6))
    with torch.no_grad():
        model.train()(features(2, 8, 6))
    assert_close(dict(model.teacher.state_dict()), wanted)


class Videos:
    """Each video has a mean of its own, around which its features are noise."""

    padding: int | float = 0.0

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.videos = [(3 * rng.normal(size=6) + rng.normal(size=(T, 6))).astype(np.float32) for T in range(10, 26)]

    def __len__(self) -> int:
        return len(self.videos)

    def length(self, index: int) -> int:
        return len(self.videos[index])

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        return {"inputs": self.videos[index], "target": 0}


class Source:
    def __init__(self) -> None:
        self.classes = ["a"]
        self.train = self.validation = self.test = Videos()

    def describe(self) -> dict[str, Any]:
        return {}

    def export(self, model: Any, folder: Any) -> list[Any]:
        raise AssertionError("there is nothing to export from a pretrained model")


@pytest.mark.parametrize("T", [1, 2, 9, 100])
def test_what_the_model_is_shown(T: int) -> None:
    objective = LongShortContrastive(["a"], long=0.8, short=0.5, hidden=0.5)
    video = np.arange(T, dtype=np.float32)[:, None] + 1
    made = objective.example({"inputs": video, "target": 0}, 3, None)["inputs"]
    long, beside = made[:, 0], made[:, 1]
    assert len(long) == max(1, round(0.8 * T))
    assert (np.diff(long) == 1).all()
    n = int(objective.n_shown(torch.tensor(len(long))))
    shown = beside[:n]
    assert (beside[n:] == 0).all()
    assert (np.diff(shown) >= 1).all(), "in order"
    n_short = max(1, round(0.5 * len(long)))
    assert set(shown) <= set(video[:, 0])
    assert shown[-1] - shown[0] < n_short
    assert n == max(1, round(0.5 * n_short))


def test_pretraining() -> None:
    objective = LongShortContrastive(["a"], size=8)
    source, model = (
        objective.prepare(Source()),
        make(classes=objective.classes, momentum=0.8, dropout=0.0, d_model=16, n_layer=1),
    )
    objective.check(model)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    losses = []
    for epoch in range(12):
        for batch in make_loader(source.train, Batches(size=16), seed=0, epoch=epoch):
            outputs = objective.outputs(model.train(), batch["inputs"], batch["lengths"])
            loss = objective.loss(outputs, batch["target"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad is None for p in model.teacher.parameters())
    metrics = objective.score(*objective.scored(outputs, batch["target"]))
    assert metrics["info_nce"] == pytest.approx(losses[-1], rel=1e-4)
    assert 0 <= metrics["retrieval"] <= 1


def test_loss_by_hand() -> None:
    outputs = torch.tensor([[[2.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [3.0, 3.0]]])
    objective = LongShortContrastive(["a"], size=2, temperature=0.5)
    root = 2**-0.5
    logits = torch.tensor([[1.0, root], [0.0, root]]) / 0.5
    wanted = -(logits.diagonal() - logits.logsumexp(1)).mean()
    assert_close(objective.loss(outputs, torch.zeros(2)), wanted)


def test_errors() -> None:
    with pytest.raises(InputError, match="keep is 0, expected more than 0 and at most 1"):
        make(keep=0)
    with pytest.raises(InputError, match="temperature is 0, expected more than 0"):
        make(temperature=0)
    with pytest.raises(InputError, match="objective: hidden is 1, expected at least 0 and less than 1"):
        LongShortContrastive(["a"], hidden=1)
    with pytest.raises(InputError, match=r"needs a model with a slow copy, not ViS4mer. Set model.name=selective_s4"):
        LongShortContrastive(["a"]).check(ViS4mer(classes=["a"], **SIZES))


def test_from_a_recipe() -> None:
    config = {"model": {"name": "selective_s4", **SIZES, "keep": 0.3}, "backbone": None, "classes": ["a", "b"]}
    assert build_model(config).eval()(features(2, 7, 6)).shape == (2, 2)
