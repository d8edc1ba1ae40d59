import numpy as np
import pytest
import torch
from helixwave.data.batches import IGNORED
from helixwave.errors import InputError
from helixwave.objectives import Classification
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

ALL = ["accuracy", "macro_f1", "mcc", "auroc"]


def objective(n_class, **arguments):
    return Classification([f"c{i}" for i in range(n_class)], **arguments)


def draw(*shape, seed=0):
    """Logits `[*shape]`, targets that they tell something about."""
    rng = torch.Generator().manual_seed(seed)
    outputs = torch.randn(shape, generator=rng)
    target = (outputs + torch.randn(shape, generator=rng)).argmax(-1)
    return outputs, target


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(9, 3), (4, 7, 3), (5, 2)], ids=str)
def test_loss_by_hand(shape, smoothing):
    outputs, target = draw(*shape)
    target[..., :2] = IGNORED
    log_p = (outputs - outputs.exp().sum(-1, keepdim=True).log()).reshape(-1, shape[-1])
    kept = target.flatten() != IGNORED
    aims = torch.eye(shape[-1])[target.flatten().clamp(min=0)] * (1 - smoothing) + smoothing / shape[-1]
    expected = -(aims * log_p).sum(-1)[kept].mean()
    torch.testing.assert_close(objective(shape[-1], label_smoothing=smoothing).loss(outputs, target), expected)


@given(st.integers(0, 99), st.lists(st.booleans(), min_size=12, max_size=12))
def test_ignored_positions_have_no_influence(seed, ignored):
    outputs, target = draw(3, 4, 5, seed=seed)
    hidden = torch.tensor(ignored).reshape(3, 4)
    target[hidden] = IGNORED
    disturbed = torch.where(hidden[..., None], 100 * outputs.flip(-1), outputs).requires_grad_()
    judge = objective(5, label_smoothing=0.1)
    loss = judge.loss(disturbed, target)
    torch.testing.assert_close(loss, judge.loss(outputs, target))
    loss.backward()
    assert (disturbed.grad[hidden] == 0).all()
    for one, other in zip(judge.scored(disturbed, target), judge.scored(outputs, target), strict=True):
        assert len(one) == 12 - sum(ignored)
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_nothing_to_score_costs_nothing(smoothing):
    outputs = torch.randn(2, 3, 4, requires_grad=True)
    judge = objective(4, label_smoothing=smoothing)
    target = torch.full((2, 3), IGNORED)
    loss = judge.loss(outputs, target)
    loss.backward()
    assert loss == 0
    assert (outputs.grad == 0).all()
    assert [len(part) for part in judge.scored(outputs, target)] == [0, 0]


@pytest.mark.parametrize("n_class", [2, 4])
def test_scores_are_those_of_scikit_learn(n_class):
    judge = objective(n_class, metrics=ALL)
    log_p, truth = judge.scored(*draw(60, n_class))
    p, t = log_p.exp().numpy(), truth.numpy()
    ones = np.eye(n_class)[t]
    expected = {
        "accuracy": sk.accuracy_score(t, p.argmax(-1)),
        "macro_f1": sk.f1_score(t, p.argmax(-1), average="macro"),
        "mcc": sk.matthews_corrcoef(t, p.argmax(-1)),
        "auroc": sk.roc_auc_score(ones, p, average="macro"),
    }
    assert judge.score(log_p, truth) == pytest.approx(expected, abs=1e-5)


def test_scores_do_not_depend_on_the_batches():
    judge = objective(3, metrics=ALL)
    log_p, truth = judge.scored(*draw(50, 3))
    metrics = judge.metrics()
    for some, wanted in zip(log_p.split(7), truth.split(7), strict=True):
        metrics.update(some, wanted)
    assert {name: float(value) for name, value in metrics.compute().items()} == pytest.approx(judge.score(log_p, truth))


def test_perfect_and_reversed():
    log_p = torch.tensor([[0.0, -9.0], [-9.0, 0.0]]).log_softmax(-1)
    judge = objective(2, metrics=ALL)
    assert set(judge.score(log_p, torch.tensor([0, 1])).values()) == {1.0}
    wrong = judge.score(log_p, torch.tensor([1, 0]))
    assert (wrong["accuracy"], wrong["macro_f1"], wrong["auroc"], wrong["mcc"]) == (0, 0, 0, -1)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({}, {"accuracy", "macro_f1", "mcc"}),
        ({"monitor": "auroc"}, {"auroc", "accuracy", "macro_f1", "mcc"}),
        ({"monitor": "auroc", "metrics": ["mcc", "auroc"]}, {"auroc", "mcc"}),
    ],
)
def test_what_is_monitored_is_reported(arguments, names):
    judge = objective(3, **arguments)
    assert judge.names[0] == judge.monitor
    assert set(judge.score(*judge.scored(*draw(30, 3)))) == set(judge.metrics()) == names == set(judge.names)


@pytest.mark.parametrize("n_class", [2, 3])
def test_pictures_are_drawn(n_class):
    judge = objective(n_class)
    confusion, _, roc, precision, _ = judge.pictures(*judge.scored(*draw(40, n_class)))
    labels = [label.get_text() for label in confusion.figure.axes[0].get_yticklabels()]
    assert labels == judge.classes
    for picture in (roc, precision):
        curves = picture.figure.axes[0].get_legend().get_texts()
        assert len(curves) == (1 if n_class == 2 else n_class)


def test_pictures_of_a_test_split_with_one_class():
    judge = objective(2)
    _, _, roc, precision, _ = judge.pictures(torch.randn(5, 2).log_softmax(-1), torch.zeros(5, dtype=torch.int64))
    for picture in (roc, precision):
        assert picture.figure.axes[0].get_legend() is None
        assert [len(column) for column in picture.table.values()] == [0, 0, 0]


def test_outputs_that_do_not_fit_the_targets():
    with pytest.raises(InputError, match=r"outputs \[4\], the data have targets \[4, 9\].*model.name or data.name"):
        objective(3).loss(torch.zeros(4, 3), torch.zeros(4, 9, dtype=torch.long))
