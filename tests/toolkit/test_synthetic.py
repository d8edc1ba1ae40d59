"""Synthetic tasks: targets are what the task says, splits share nothing, everything follows from the seed."""

import csv

import numpy as np
import pytest
import torch
from helixwave.data.batches import IGNORED
from helixwave.errors import InputError
from helixwave.registry import DATA
from helixwave.synthetic.baselines import MajorityClass, PixelLogisticRegression
from helixwave.synthetic.digits import SequentialDigits
from helixwave.synthetic.generated import part_of
from helixwave.synthetic.tasks import AssociativeRecall, LongMemory, ModularAddition, Parity, SelectiveCopying
from torch import nn

FEW = {"n_train": 40, "n_validation": 20, "n_test": 5}
GENERATED = [Parity, ModularAddition, SelectiveCopying, AssociativeRecall, LongMemory]


def examples(split, rng=None):
    return [split.example(i, rng and np.random.default_rng((7, i))) for i in range(len(split))]


def expected_sum(task, inputs):
    total, found = 0, []
    for digit in inputs:
        total = (total + int(digit)) % task.modulus
        found.append(total)
    return found


def expected_copy(task, inputs):
    words = [task.classes[token] for token in inputs]
    symbols = [token for token, word in zip(inputs, words, strict=True) if word.startswith("symbol")]
    assert words[-task.n_copied :] == ["copy"] * task.n_copied
    return [IGNORED] * (len(inputs) - task.n_copied) + symbols


def expected_recall(task, inputs):
    n = len(inputs) // 3
    pairs = dict(inputs[: 2 * n].reshape(n, 2).tolist())
    assert len(pairs) == n
    assert sorted(inputs[2 * n :]) == sorted(pairs)
    assert all(task.classes[key].startswith("key") for key in pairs)
    return [IGNORED] * 2 * n + [pairs[key] for key in inputs[2 * n :]]


def expected_memory(task, inputs):
    kinds = [task.classes[token].split(" ")[0] for token in inputs]
    assert kinds == ["symbol", *["noise"] * (len(inputs) - 2), "recall"]
    return [IGNORED] * (len(inputs) - 1) + [inputs[0]]


EXPECTED = {
    Parity: expected_sum,
    ModularAddition: expected_sum,
    SelectiveCopying: expected_copy,
    AssociativeRecall: expected_recall,
    LongMemory: expected_memory,
}


@pytest.mark.parametrize("make", GENERATED, ids=lambda make: make.__name__)
def test_targets_are_what_the_task_asks_for(make):
    task = make(**FEW)
    for split in (task.train, task.validation, task.test):
        for example in examples(split):
            target = np.array(EXPECTED[make](task, example["inputs"]))
            scored = example["target"] != IGNORED
            assert scored.any()
            np.testing.assert_array_equal(example["target"][scored], target[scored])
            if split is not task.test:
                np.testing.assert_array_equal(example["target"], target)


@pytest.mark.parametrize("make", GENERATED, ids=lambda make: make.__name__)
def test_no_sequence_is_in_two_splits(make):
    task = make(**FEW)
    parts = {"train": task.train, "validation": task.validation, "test": task.test}
    # what training draws in an epoch, too
    held = {name: {example["inputs"].tobytes() for example in examples(split)} for name, split in parts.items()}
    held["train"] |= {example["inputs"].tobytes() for example in examples(task.train, rng=True)}
    assert not held["train"] & held["validation"]
    assert not held["train"] & held["test"]
    assert not held["validation"] & held["test"]
    for name, split in parts.items():
        assert {part_of(example["inputs"]) for example in examples(split)} == {name}


@pytest.mark.parametrize("make", GENERATED, ids=lambda make: make.__name__)
def test_lengths(make):
    task = make(**FEW)
    for split in (task.train, task.validation, task.test):
        assert [len(e["inputs"]) for e in examples(split)] == [split.length(i) for i in range(len(split))]
    assert max(task.train.lengths) <= task.longest < min(task.test_lengths)
    assert sorted({task.test.length(i) for i in range(len(task.test))}) == task.test_lengths
    assert len(task.test) == 5 * len(task.test_lengths)


@pytest.mark.parametrize("make", GENERATED, ids=lambda make: make.__name__)
def test_everything_follows_from_the_seed(make):
    first, again, other = make(**FEW), make(**FEW), make(**FEW, seed=1)
    for name in ("train", "validation", "test"):
        texts = [[e["inputs"].tobytes() for e in examples(getattr(task, name))] for task in (first, again, other)]
        assert texts[0] == texts[1]
        assert texts[0] != texts[2]
        assert len(set(texts[0])) > 1
    drawn, kept = examples(first.train, rng=True), examples(first.train)
    assert any(a["inputs"].tobytes() != b["inputs"].tobytes() for a, b in zip(drawn, kept, strict=True))


def test_state_is_scored_behind_the_training_lengths_alone():
    task = Parity(length=10, test_lengths=[12, 20], **FEW)
    for example in examples(task.test):
        scored = example["target"] != IGNORED
        assert not scored[:10].any()
        assert scored[10:].all()
    assert all((e["target"] != IGNORED).all() for e in examples(task.by_length[10]))


class Answer(nn.Module):
    """Counts modulo two, but never beyond `limit` bits."""

    def __init__(self, limit):
        super().__init__()
        self.limit = nn.Parameter(torch.tensor(float(limit)))

    def forward(self, inputs, lengths):
        state = inputs.cumsum(1) % 2
        place = torch.arange(inputs.shape[1])
        return nn.functional.one_hot(torch.where(place < self.limit, state, 1 - state), 2).float()


def test_accuracy_by_length_is_written(tmp_path):
    task = Parity(length=10, test_lengths=[20, 40], **FEW)
    (picture,) = task.export(Answer(30), tmp_path)
    with open(tmp_path / "by_length.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [(int(row["length"]), float(row["accuracy"])) for row in rows] == [(10, 1), (20, 1), (40, 0.666667)]
    assert list(picture.figure.axes[0].lines[0].get_ydata()) == [1, 1, pytest.approx(2 / 3, abs=1e-6)]


def test_digits():
    data = SequentialDigits()
    parts = [data.train, data.validation, data.test]
    assert [len(part) for part in parts] == [1257, 180, 360]
    rows = [{row.tobytes() for row in part.pixels} for part in parts]
    assert not rows[0] & rows[1] | rows[0] & rows[2] | rows[1] & rows[2]
    for part in parts:
        assert np.bincount(part.labels).min() >= 0.09 * len(part)
        example = part.example(3, None)
        assert example["inputs"].shape == (64, 1)
        assert 0 <= example["inputs"].min() < example["inputs"].max() <= 1
        assert (example["target"][:-1] == IGNORED).all()
        assert example["target"][-1] == part.labels[3]
    assert (SequentialDigits().test.labels == data.test.labels).all()
    assert (SequentialDigits(seed=1).test.labels != data.test.labels).any()


def test_baselines():
    task = LongMemory(**FEW)
    outputs, target = MajorityClass().predict(task)
    firsts = [int(e["inputs"][0]) for e in examples(task.train)]
    assert int(outputs[0].argmax()) == max(range(8), key=firsts.count)
    assert outputs.exp().sum(-1).allclose(torch.ones(len(target), dtype=outputs.dtype))
    assert target.tolist() == [int(e["inputs"][0]) for e in examples(task.test)]
    outputs, target = PixelLogisticRegression(strengths=[0.1]).predict(SequentialDigits())
    assert (outputs.argmax(-1) == target).double().mean() > 0.94


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("parity", {"shortest": 4}, "shortest is 4, expected 8 to 40, which is data.length"),
        ("parity", {"length": 7}, "shortest is 8, expected 8 to 7"),
        ("parity", {"test_lengths": []}, r"test_lengths is \[\], expected at least one"),
        ("modular_addition", {"modulus": 1}, "modulus is 1, expected at least 2"),
        ("selective_copying", {"n_copied": 16}, "shortest is 24, expected 32"),
        ("associative_recall", {"n_key": 12}, "n_key is 12, expected at least 16"),
        ("long_memory", {"n_test": 0}, "n_test is 0, expected at least 1"),
        ("sequential_digits", {"test": 0.95}, "validation 0.1 and test 0.95, expected shares"),
    ],
)
def test_wrong_arguments_are_refused(name, arguments, message):
    with pytest.raises(InputError, match=message):
        DATA.build({"name": name, **arguments})


def test_sequences_that_are_too_few_to_split():
    task = LongMemory(n_symbol=1, n_noise=1, shortest=8, length=8, **FEW)
    with pytest.raises(InputError, match="too few sequences of 8 tokens to split"):
        examples(task.validation), examples(task.by_length[8])
