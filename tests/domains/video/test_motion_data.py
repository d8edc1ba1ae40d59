"""Gestures and exercises: read, split without leaks, scaled."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helixwave.errors import InputError
from helixwave_domains.video.hand_gestures import STEPS, HandGestures, parts_by_time
from helixwave_domains.video.motion_augmentation import MotionAugmentation
from helixwave_domains.video.motion_series import LabelledMotion, MotionData, MotionPreprocessing
from helixwave_domains.video.smartwatch_exercises import SmartwatchExercises
from numpy.typing import NDArray


def gestures(folder: Path, *, per_class: int = 200) -> str:
    """Windows that slide by one frame over a path for each class, as the published file has them; one has no hand."""
    rng, rows = np.random.default_rng(0), []
    for label in range(2):
        path = rng.integers(1, 400, (per_class + STEPS, 2))
        for i in range(per_class):
            track = (path[i : i + STEPS] - path[i]) / [960, 540]
            rows.append([label, *(np.zeros(2 * STEPS) if i == 5 else track.ravel())])
    folder.mkdir(exist_ok=True)
    np.savetxt(folder / "point_history.csv", rows, fmt="%.9g", delimiter=",")
    (folder / "point_history_labels.csv").write_text("Stop\nMove\n", encoding="utf-8-sig")
    return str(folder)


def watch(folder: Path, **changed: Any) -> str:
    """Ten subjects do two exercises."""
    lengths = np.arange(20) + 5
    arrays = {
        "X": np.random.default_rng(0).normal(3, 2, (lengths.sum(), 6)).astype(np.float32),
        "lengths": lengths,
        "y": np.arange(20) % 2,
        "subject": np.arange(20) // 2 + 1,
        "labels": np.array(["IR", "ER"]),
    }
    np.savez(folder / "watch.npz", **{name: array for name, array in (arrays | changed).items() if array is not None})
    return str(folder / "watch.npz")


def rows_of(data: MotionData, part: str) -> NDArray[np.int64]:
    return np.array([int(data.motion.names[i].split()[1]) for i in data.places[part]])


def test_no_point_of_a_gesture_is_in_two_parts(tmp_path: Path) -> None:
    data = HandGestures(folder=gestures(tmp_path))
    numbers = np.concatenate([rows_of(data, part) for part in data.places])
    assert len(set(numbers)) == len(numbers)
    # the points of a row are those of the frames of its class from its own number on
    frames = {
        part: {(data.motion.labels[row - 1], row + i) for row in rows_of(data, part) for i in range(STEPS)}
        for part in data.places
    }
    assert not frames["train"] & frames["validation"]
    assert not (frames["train"] | frames["validation"]) & frames["test"]
    facts = data.describe()
    assert facts["rows between the parts, left out as they overlap"] == 2 * 2 * (STEPS - 1)
    assert facts["rows without a hand, left out"] == 2


def test_parts_by_time_are_in_order_with_a_gap() -> None:
    part = parts_by_time(np.array([1] * 20 + [0] * 10), (0.5, 0.75), gap=2)
    assert part.tolist() == [0] * 10 + [-1] * 2 + [1] * 3 + [-1] * 2 + [2] * 3 + [0] * 5 + [-1] * 2 + [1] + [-1] * 2


def test_a_circle_of_pixels_is_a_circle(tmp_path: Path) -> None:
    gestures(tmp_path)
    angle = np.linspace(0, 2 * np.pi, STEPS, endpoint=False)
    circle = 100 * np.stack([np.cos(angle), np.sin(angle)], axis=1) / [960, 540]
    rows = [[label, *circle.ravel()] for label in np.repeat([0, 1], 200)]
    np.savetxt(tmp_path / "point_history.csv", rows, fmt="%.9g", delimiter=",")
    track = HandGestures(folder=str(tmp_path)).motion.series[0]
    np.testing.assert_allclose(np.linalg.norm(track, axis=1), 100 / 540, rtol=1e-5)


@pytest.mark.parametrize("fold", range(5))
def test_no_subject_is_in_two_parts_and_folds_test_each_once(tmp_path: Path, fold: int) -> None:
    data = SmartwatchExercises(file=watch(tmp_path), fold=fold)
    facts = data.describe()
    people = {part: set(facts[f"subjects for {part}"].split()) for part in data.places}
    assert [len(found) for found in people.values()] == [6, 2, 2]
    assert not people["train"] & (people["validation"] | people["test"])
    assert not people["validation"] & people["test"]
    assert people["test"] == {str(2 * fold + 1), str(2 * fold + 2)}


def test_series_are_those_of_the_file_scaled_by_the_training_part(tmp_path: Path) -> None:
    data = SmartwatchExercises(file=watch(tmp_path), fold=1)
    with np.load(tmp_path / "watch.npz") as found:
        starts = np.cumsum(found["lengths"]) - found["lengths"]
        for part in data.places:
            split = getattr(data, part)
            for i, place in enumerate(data.places[part]):
                wanted = found["X"][starts[place] : starts[place] + found["lengths"][place]]
                np.testing.assert_array_equal(split.series[i], wanted)
                assert split.length(i) == len(wanted)
    seen = np.concatenate([data.train.example(i, None)["inputs"] for i in range(len(data.train))])
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std(0), 1, atol=1e-5)
    assert data.reads == {"channels": 6}
    assert MotionPreprocessing(**data.preprocessing).config() == data.preprocessing


def test_only_training_is_augmented(tmp_path: Path) -> None:
    data = SmartwatchExercises(file=watch(tmp_path), rotation=40, mirror=0.5, jitter=0.1)
    for split, changes in ((data.train, True), (data.test, False)):
        first = split.example(0, np.random.default_rng(1))["inputs"]
        assert np.array_equal(first, split.example(0, np.random.default_rng(1))["inputs"])
        assert np.array_equal(first, split.example(0, None)["inputs"]) is not changes


def test_gaps_are_counted_and_neither_measured_nor_filled() -> None:
    series = [np.array([[1.0, 5.0], [np.nan, 5.0], [3.0, np.nan]], dtype=np.float32)] * 3
    motion = LabelledMotion(["a", "b", "c"], series, np.array([0, 1, 0]), ["x", "y"], ["p", "q"])
    places = {part: np.array([i]) for i, part in enumerate(("train", "validation", "test"))}
    data = MotionData(motion, places, augmentation=MotionAugmentation())
    assert data.preprocessing == {"channels": ["p", "q"], "mean": [2.0, 5.0], "deviation": [1.0, 1.0]}
    assert data.describe()["missing values"] == "6 of 18"
    np.testing.assert_array_equal(data.test.example(0, None)["inputs"], [[-1, 0], [np.nan, 0], [1, np.nan]])
    with pytest.raises(InputError, match="no series is for test"):
        MotionData(motion, places | {"test": np.array([], dtype=np.int64)}, augmentation=MotionAugmentation())


def test_predictions_are_written(tmp_path: Path) -> None:
    class Sure(torch.nn.Module):
        """The first class with 3 to 1."""

        def __init__(self) -> None:
            super().__init__()
            self.bias = torch.nn.Parameter(torch.tensor([3.0, 1.0]).log())

        def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return self.bias.expand(len(inputs), 2)

    data = SmartwatchExercises(file=watch(tmp_path))
    assert data.export(Sure(), tmp_path) == []
    lines = (tmp_path / "test_predictions.tsv").read_text().splitlines()
    assert lines[0] == "series\ttrue\tpredicted\tp IR\tp ER"
    assert lines[1] == "series 0 of subject 1\tIR\tIR\t0.75\t0.25"
    assert len(lines) == 5


def test_the_data_of_the_cards(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIXWAVE_DATA", str(data_folder))
    hands = HandGestures()
    assert hands.classes == ["Stop", "Clockwise", "Counter Clockwise", "Move"]
    assert hands.describe()["rows without a hand, left out"] == 28
    assert len(hands.motion.series) == 5296
    shoulders = SmartwatchExercises()
    assert [len(shoulders.train), len(shoulders.validation), len(shoulders.test)] == [84, 28, 28]
    assert sum(map(len, shoulders.motion.series)) == 244102


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": None}, "it has no labels. See the data card seglearn_watch"),
        ({"X": np.zeros((9, 6))}, r"X is \[9, 6\], expected \[290, 6\], the steps of all series"),
    ],
)
def test_other_archives_are_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SmartwatchExercises(file=watch(tmp_path, **changed))


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fold is 5, expected 0 to 4"):
        SmartwatchExercises(file=watch(tmp_path), fold=5)
    with pytest.raises(InputError, match=r"none is not there. It should be seglearn_watch.npz .*data.file=PATH"):
        SmartwatchExercises(file=str(tmp_path / "none"))
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(InputError, match=r"text.npz: no NumPy archive"):
        SmartwatchExercises(file=str(tmp_path / "text.npz"))
    folder = gestures(tmp_path / "hands")
    with pytest.raises(InputError, match=r"validation 0.5 and test 0.5, expected shares that leave some to train"):
        HandGestures(folder=folder, validation=0.5, test=0.5)
    labels, points = Path(folder) / "point_history_labels.csv", Path(folder) / "point_history.csv"
    labels.write_text("Stop\n")
    with pytest.raises(InputError, match=r"it names 1 classes, point_history.csv has class 1"):
        HandGestures(folder=folder)
    points.write_text("0,1,2\n")
    with pytest.raises(InputError, match=r"expected rows of a class and 32 numbers, found \[1, 3\]"):
        HandGestures(folder=folder)
    points.write_text("0,1,x\n")
    with pytest.raises(InputError, match="no table of numbers with as many in each row"):
        HandGestures(folder=folder)
    points.unlink()
    with pytest.raises(InputError, match="cannot be read as text"):
        HandGestures(folder=folder)
