"""Several labels and numbers, with some of them unknown."""

import math

import numpy as np
import pytest
import torch
from helixwave.data.batches import make_loader
from helixwave.errors import InputError
from helixwave.objectives import Classification, MultiLabel, Regression
from helixwave.outputs import mean_outputs, readable
from helixwave.recipe import Batches
from scipy import stats
from sklearn import metrics as sk

NAMES = ["a", "b", "c"]


def draw(*shape):
    """Outputs, labels that they tell something about, and which of them are known."""
    rng = np.random.default_rng(len(shape))
    outputs = rng.normal(size=shape)
    labels = (outputs + rng.normal(size=shape) > 0).astype(np.float32)
    known = rng.random(shape) < 0.8
    labels[~known] = np.nan
    return torch.tensor(outputs, dtype=torch.float32), torch.tensor(labels), known


@pytest.mark.parametrize("shape", [(40, 3), (5, 11, 3)], ids=str)
def test_labels_are_scored_as_scikit_learn_does_where_they_are_known(shape):
    outputs, labels, known = draw(*shape)
    judge = MultiLabel(NAMES)
    p = outputs.double().sigmoid().numpy()
    t = labels.numpy()
    by_hand = -np.where(t == 1, np.log(p), np.log(1 - p))[known].mean()
    assert float(judge.loss(outputs, labels)) == pytest.approx(by_hand, rel=1e-5)
    columns = [(t.reshape(-1, 3)[k, i], p.reshape(-1, 3)[k, i]) for i, k in enumerate(known.reshape(-1, 3).T)]
    found = judge.score(*judge.scored(outputs, labels))
    assert found["auroc"] == pytest.approx(np.mean([sk.roc_auc_score(*c) for c in columns]), abs=1e-6)
    assert found["auprc"] == pytest.approx(np.mean([sk.average_precision_score(*c) for c in columns]), abs=1e-6)


def test_numbers_are_scored_as_scipy_does_where_they_are_known():
    outputs, labels, known = draw(30, 3)
    target = (2 * outputs + labels.nan_to_num() + torch.where(torch.tensor(known), 0.0, torch.nan)).float()
    judge = Regression(NAMES)
    o, t = outputs.numpy(), target.numpy()
    assert float(judge.loss(outputs, target)) == pytest.approx(((o - t)[known] ** 2).mean(), rel=1e-5)
    columns = [(o[k, i], t[k, i]) for i, k in enumerate(known.T)]
    found = judge.score(*judge.scored(outputs, target))
    expected = {
        "pearson": np.mean([stats.pearsonr(*c).statistic for c in columns]),
        "spearman": np.mean([stats.spearmanr(*c).statistic for c in columns]),
        "r2": np.mean([sk.r2_score(b, a) for a, b in columns]),
        "mse": np.mean([sk.mean_squared_error(*c) for c in columns]),
    }
    assert found == pytest.approx(expected, rel=1e-4)
    (picture,) = judge.pictures(*judge.scored(outputs, target))
    assert len(picture.figure.axes[0].lines) == 3


def test_scores_do_not_depend_on_the_batches():
    outputs, labels, _ = draw(30, 3)
    for judge in (MultiLabel(NAMES), Regression(NAMES)):
        metrics = judge.metrics()
        for some, wanted in zip(outputs.split(7), labels.split(7), strict=True):
            metrics.update(some, wanted)
        assert {n: float(v) for n, v in metrics.compute().items()} == pytest.approx(judge.score(outputs, labels))
        metrics.reset()
        metrics.update(outputs[:9], labels[:9])
        assert {n: float(v) for n, v in metrics.compute().items()} == judge.score(outputs[:9], labels[:9])


def test_what_is_not_defined_is_left_out_of_the_mean():
    outputs = torch.tensor([[0.1, 3.0], [0.2, 3.0], [0.3, 3.0]])
    labels = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    assert MultiLabel(["a", "b"]).score(outputs, labels) == {"auroc": 1.0, "auprc": 1.0}
    assert Regression(["a", "b"]).score(outputs, labels)["pearson"] == pytest.approx(0.8660254)
    assert math.isnan(MultiLabel(["b"]).score(outputs[:, 1:], labels[:, 1:])["auroc"])


@pytest.mark.parametrize("objective", [MultiLabel(NAMES), Regression(NAMES)], ids=["labels", "numbers"])
def test_nothing_known_costs_nothing(objective):
    outputs = torch.randn(2, 3, requires_grad=True)
    loss = objective.loss(outputs, torch.full((2, 3), torch.nan))
    loss.backward()
    assert (loss == 0, outputs.grad.abs().sum() == 0) == (True, True)


def test_errors_are_minimised():
    assert (Regression(NAMES, monitor="mse").mode, Regression(NAMES).mode, MultiLabel(NAMES).mode) == (
        "min",
        "max",
        "max",
    )


def test_kinds_of_targets_that_do_not_fit():
    with pytest.raises(InputError, match="the data have labels or numbers, this objective expects one class each"):
        Classification(NAMES).loss(torch.zeros(4, 3), torch.zeros(4, 3))
    with pytest.raises(InputError, match="the data have one class each, this objective expects labels or numbers"):
        Regression(NAMES).loss(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long))
    with pytest.raises(InputError, match=r"outputs \[4, 9\], the data have targets \[4\]"):
        MultiLabel(NAMES).loss(torch.zeros(4, 9, 3), torch.zeros(4, 3))


class Positions:
    """Two sequences with numbers at each position."""

    padding = 0

    def __len__(self):
        return 2

    def length(self, index):
        return 2 + index

    def example(self, index, rng):
        T = self.length(index)
        return {"inputs": np.zeros(T, dtype=np.int64), "target": np.full((T, 2), -100, dtype=np.float32)}


def test_padded_numbers_are_not_numbers():
    batch = next(iter(make_loader(Positions(), Batches(), seed=0)))
    assert batch["target"].shape == (2, 3, 2)
    assert batch["target"].isnan().any(-1).tolist() == [[False, False, True], [False] * 3]
    assert Regression(["x", "y"]).loss(torch.zeros(2, 3, 2), batch["target"]) == 10_000


@pytest.mark.parametrize("predicts", ["class", "labels", "numbers"])
def test_mean_of_two_outputs(predicts):
    one, other = torch.randn(6, 3), torch.randn(6, 3)
    expected = (readable(one, predicts) + readable(other, predicts)) / 2
    torch.testing.assert_close(readable(mean_outputs(one, other, predicts), predicts), expected)
    certain = mean_outputs(torch.tensor([300.0, -300.0]), torch.tensor([290.0, -290.0]), predicts)
    assert certain.isfinite().all()
