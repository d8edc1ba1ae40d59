"""Recordings in crops, and who is on which side of a split."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helixwave.data.splits import given_parts, split_groups
from helixwave.errors import InputError
from helixwave_domains.ecg.preprocessing import Preprocessing
from helixwave_domains.ecg.recording import Recording, held
from helixwave_domains.ecg.records import Labelled, Reading, RecordData, describe_targets, lead_names, read_as
from torch import Tensor, nn

RATE = 50.0
PREPROCESSING = Preprocessing(RATE, ["I", "II"], window=2.0, scale="none")


def recording(name: str, seconds: float = 5.0, rate: float = RATE, level: float = 0.0) -> Recording:
    signal = np.random.default_rng(len(name)).normal(level, 1, (2, round(seconds * rate))).astype(np.float32)
    return Recording(("I", "II"), rate, signal.shape[1], held(signal), Path(name), "CSV", ("I", "II"), ("mV", "mV"))


def labelled(name: str, target: Any = 0, **shape: float) -> Labelled:
    return Labelled(name, lambda: recording(name, **shape), target)


READING = Reading(PREPROCESSING)


def data(reading: Reading = READING, **parts: list[Labelled]) -> RecordData:
    usual = {name: [labelled(f"{name}{i}", i % 2) for i in range(2)] for name in ("train", "validation", "test")}
    return RecordData(["a", "b"], {**usual, **parts}, reading)


def test_consecutive_crops_cover_the_recording_and_know_it() -> None:
    source = data(test=[labelled("long", 1), labelled("short", 0, seconds=1.5)])
    test = source.test
    # five seconds in crops of two: the last one ends with the recording
    assert test.groups.tolist() == [0, 0, 0, 1]
    assert test.starts.tolist() == [0, 100, 150, 0]
    signal = recording("long").signal
    for i, start in enumerate([0, 100, 150]):
        example = test.example(i, None)
        np.testing.assert_array_equal(example["inputs"], signal[:, start : start + 100].T)
        assert example["target"] == 1
    assert test.length(3) == len(test.example(3, None)["inputs"]) == 75


def test_a_stride_lets_crops_overlap() -> None:
    assert data(Reading(PREPROCESSING, stride=1.0)).test.starts.tolist()[:4] == [0, 50, 100, 150]


def test_training_crops_are_drawn() -> None:
    train = data().train
    signal = recording("train0").signal
    starts = set()
    for seed in range(40):
        crop = train.example(0, np.random.default_rng(seed))["inputs"]
        assert crop.shape == (100, 2)
        start = int(np.argmax(np.isin(signal[0], crop[0, 0])))
        np.testing.assert_array_equal(crop, signal[:, start : start + 100].T)
        starts.add(start)
    assert min(starts) < 30
    assert max(starts) > 120
    np.testing.assert_array_equal(train.example(0, None)["inputs"], signal[:, :100].T)


def test_unusable_recordings_are_named_and_counted(tmp_path: Path) -> None:
    source = data(test=[labelled("fine"), labelled("fast", rate=100.0)])
    assert list(source.left_out) == ["fast"]
    facts = source.describe()
    assert facts["recordings that could not be used, left out"] == 1
    assert "it has 100 Hz, the model reads 50 Hz" in facts["left out: fast"]
    source.export(Constant(), tmp_path)
    assert (tmp_path / "left_out.tsv").read_text().startswith("recording\treason\nfast\t")


def test_a_part_without_recordings_is_refused_with_the_first_reason() -> None:
    with pytest.raises(InputError, match=r"none of the 1 recordings for test can be used.*it has 100 Hz"):
        data(test=[labelled("fast", rate=100.0)])


def test_another_rate_is_resampled_if_asked() -> None:
    source = data(Reading(PREPROCESSING, resample=True), test=[labelled("fast", rate=100.0)])
    assert source.test.signals[0].shape == (2, 250)


def test_missing_constants_are_those_of_the_training_part() -> None:
    reading = read_as(
        rate=RATE, leads=2, window=2.0, scale="constants", mean=None, deviation=None, highpass=None, lowpass=None
    )
    train = [labelled("one", level=2.0), labelled("three")]
    source = data(reading, train=train, test=[labelled("x", level=50.0)])
    values = np.concatenate([each.open().signal.ravel() for each in train]).astype(np.float64)
    assert source.preprocessing["mean"] == pytest.approx(values.mean())
    assert source.preprocessing["deviation"] == pytest.approx(values.std())
    expected = (recording("x", level=50.0).signal[:, :100].T - values.mean()) / values.std()
    np.testing.assert_allclose(source.test.example(0, None)["inputs"], expected, rtol=1e-5)


def test_half_of_the_constants_is_refused() -> None:
    with pytest.raises(InputError, match="mean is None and deviation 1, expected both of them or neither"):
        read_as(rate=RATE, leads=2, window=2, scale="none", mean=None, deviation=1, highpass=None, lowpass=None)


class Constant(nn.Module):
    """The mean of the first lead of a crop as the logit of the first class."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        mean = torch.stack([each[:n, 0].mean() for each, n in zip(inputs, lengths, strict=True)])
        return torch.stack([mean, 0 * mean], dim=1) + self.bias


@pytest.mark.parametrize("aggregate", ["mean", "max"])
def test_the_table_of_the_test_part_has_aggregated_probabilities(aggregate: Any, tmp_path: Path) -> None:
    labels = np.array([1, 0], dtype=np.float32)
    parts = {name: [labelled(f"{name}{i}", labels) for i in range(2)] for name in ("train", "validation", "test")}
    source = RecordData(["a", "b"], parts, Reading(PREPROCESSING, aggregate=aggregate))
    source.export(Constant(), tmp_path)
    header, first, *_ = (tmp_path / "test_predictions.tsv").read_text().splitlines()
    assert header.split("\t") == ["recording", "true a", "true b", "a", "b"]
    signal = recording("test0").signal
    crops = [1 / (1 + np.exp(-signal[0, start : start + 100].mean())) for start in (0, 100, 150)]
    name, *values = first.split("\t")
    assert name == "test0"
    assert [float(value) for value in values] == pytest.approx([1, 0, getattr(np, aggregate)(crops), 0.5], abs=1e-5)


def test_a_stride_backwards_is_refused() -> None:
    with pytest.raises(InputError, match="stride is -1, expected seconds"):
        Reading(PREPROCESSING, stride=-1)


def test_leads_by_number_or_name() -> None:
    assert lead_names(3) == ["I", "II", "V2"]
    assert lead_names(["V1"]) == ["V1"]
    with pytest.raises(InputError, match="leads is 5, expected names or one of 12, 6"):
        lead_names(5)


def test_classes_and_labels_are_counted() -> None:
    assert describe_targets(np.array([0, 0, 2]), ["a", "b", "c"]) == "2 a, 1 c; no b"
    assert describe_targets(np.array([[1, 0], [1, 1]], dtype=np.float32), ["a", "b"]) == "2 a, 1 b"


def split(groups: list[str], labels: Any, **shares: Any) -> dict[str, list[int]]:
    return split_groups(groups, labels, **{"validation": 0.2, "test": 0.2, "seed": 0, **shares})


def test_a_group_is_in_one_part_and_every_recording_is_in_one() -> None:
    rng = np.random.default_rng(0)
    groups = [f"p{i}" for i in rng.integers(0, 40, 200)]
    parts = split(groups, rng.integers(0, 3, 200))
    assert sorted(i for places in parts.values() for i in places) == list(range(200))
    patients = [{groups[i] for i in places} for places in parts.values()]
    assert not patients[0] & patients[1] | patients[0] & patients[2] | patients[1] & patients[2]
    assert [len(each) / len(set(groups)) for each in patients] == pytest.approx([0.6, 0.2, 0.2], abs=0.06)


def test_rare_labels_are_on_all_sides() -> None:
    labels = np.zeros((100, 3), dtype=np.float32)
    labels[:, 0] = 1
    labels[:10, 1] = 1
    labels[5:10, 2] = 1
    parts = split([f"r{i}" for i in range(100)], labels)
    for places in parts.values():
        assert labels[places].any(0).all()
    assert [len(places) for places in parts.values()] == pytest.approx([60, 20, 20], abs=2)


def test_the_split_follows_from_names_and_seed_alone() -> None:
    groups = [f"r{i}" for i in range(30)]
    labels = [i % 2 for i in range(30)]
    order: Callable[[int], int] = np.random.default_rng(1).permutation(30).tolist().__getitem__
    shuffled = split([groups[order(i)] for i in range(30)], [labels[order(i)] for i in range(30)])
    plain = split(groups, labels)
    assert {name: {groups[i] for i in places} for name, places in plain.items()} == {
        name: {groups[order(i)] for i in places} for name, places in shuffled.items()
    }
    assert split(groups, labels, seed=1) != plain


def test_a_split_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"validation 0\.6 and test 0\.4"):
        split(["a", "b", "c"], [0, 0, 0], validation=0.6, test=0.4)
    with pytest.raises(InputError, match="2 groups such as patients, expected at least 3"):
        split(["a", "b", "b"], [0, 0, 0])


def test_parts_of_a_table() -> None:
    assert given_parts(["train", "Val", "test", "train"], where="t") == {
        "train": [0, 3],
        "validation": [1],
        "test": [2],
    }
    with pytest.raises(InputError, match="t: 'hold' is no part"):
        given_parts(["train", "hold"], where="t")
    with pytest.raises(InputError, match="t: none is for validation"):
        given_parts(["train", "test"], where="t")
