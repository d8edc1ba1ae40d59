"""Videos as features: windows, the protocols of LVU and Breakfast, and what has to be beaten."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helixwave.errors import InputError
from helixwave.recipe import load_recipe
from helixwave.run_folder import RunFolder
from helixwave.train import run
from helixwave_domains.video.breakfast import Breakfast
from helixwave_domains.video.feature_baselines import MeanFeaturesRegression
from helixwave_domains.video.feature_videos import FeatureVideo, RandomWindows, SampledFrames, SlidingWindows
from helixwave_domains.video.lvu import LVU

FRAMES, PATCHES, D = 7, 3, 4


def features(folder: Path, name: str, label: float = 0.0, frames: int = FRAMES) -> FeatureVideo:
    """Features whose first number is the frame, the second the patch and the third the label."""
    array = np.zeros((frames, PATCHES, D), dtype=np.float16)
    array[..., 0] = np.arange(frames)[:, None]
    array[..., 1] = np.arange(PATCHES)
    array[..., 2] = label
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{name}.npy", array)
    return FeatureVideo(name, folder / f"{name}.npy", int(label))


def read_frames(example: Any) -> list[int]:
    """The frames of an example, which has all patches of each one behind the other."""
    assert example["inputs"].dtype == np.float32
    np.testing.assert_array_equal(
        example["inputs"][:, 1], np.tile(np.arange(PATCHES), len(example["inputs"]) // PATCHES)
    )
    return example["inputs"][::PATCHES, 0].astype(int).tolist()


def test_windows_slide_over_each_video(tmp_path: Path) -> None:
    videos = [features(tmp_path, "a"), features(tmp_path, "b", frames=3), features(tmp_path, "c", frames=4)]
    split = SlidingWindows(videos, 4, stride=2)
    shown = [(int(split.groups[i]), read_frames(split.example(i, None))) for i in range(len(split))]
    assert shown == [(0, [0, 1, 2, 3]), (0, [2, 3, 4, 5]), (1, [0, 1, 2]), (2, [0, 1, 2, 3])]
    assert [split.length(i) for i in range(len(split))] == [12, 12, 9, 12]


def test_training_draws_one_window_of_each_video(tmp_path: Path) -> None:
    split = RandomWindows([features(tmp_path, "a"), features(tmp_path, "b", frames=3)], 4)
    assert len(split) == 2
    starts = {read_frames(split.example(0, np.random.default_rng(seed)))[0] for seed in range(40)}
    assert starts == {0, 1, 2, 3}
    assert read_frames(split.example(0, None)) == [0, 1, 2, 3]
    assert read_frames(split.example(1, np.random.default_rng(0))) == [0, 1, 2]
    assert [split.length(0), split.length(1)] == [12, 9]


def test_frames_are_sampled_from_the_whole_video(tmp_path: Path) -> None:
    split = SampledFrames([features(tmp_path, "a", frames=10), features(tmp_path, "b", frames=3)], 5)
    assert read_frames(split.example(0, None)) == [0, 2, 4, 6, 8]
    assert read_frames(split.example(1, None)) == [0, 0, 1, 1, 2]
    drawn = read_frames(split.example(0, np.random.default_rng(0)))
    assert drawn == sorted(set(drawn))
    assert drawn != [0, 2, 4, 6, 8]


def write_lvu(folder: Path, task: str = "scene") -> dict[str, str]:
    """Three tables whose classes are seen in the features; one clip of the training table has none."""
    for part, count in (("train", 8), ("val", 4), ("test", 5)):
        rows = ["class_id class_name youtube_id imdb_id"]
        for i in range(count):
            name, label = f"{part}-{i}", i % 2
            head = {"like_ratio": f"{90 + i} {10 - i}", "view_count": str(1000 * (i + 1))}.get(
                task, f"{label} c{label}"
            )
            rows.append(f"{head} {name} tt0{i}")
            if (part, i) != ("train", 7):
                features(folder / "features", name, label)
        (folder / task).mkdir(exist_ok=True)
        (folder / task / f"{part}.csv").write_text("\n".join(rows) + "\n")
    return {"folder": str(folder), "features": str(folder / "features"), "task": task}


def test_lvu_has_the_parts_of_its_tables_and_scores_whole_videos(tmp_path: Path) -> None:
    data = LVU(**write_lvu(tmp_path), window=4, stride=1)
    assert data.classes == ["c0", "c1"]
    assert data.metric == "accuracy"
    assert data.reads == {"d_input": D}
    assert [len(data.train), len(data.validation), len(data.test)] == [7, 16, 20]
    assert np.bincount(data.test.groups).tolist() == [4] * 5
    for i in range(len(data.test)):
        example = data.test.example(i, None)
        assert example["target"] == example["inputs"][0, 2] == data.test.groups[i] % 2
    assert data.describe()["train: videos without features, left out"] == 1
    data.export(None, tmp_path)
    assert (tmp_path / "left_out.tsv").read_text().splitlines()[1].startswith("train\ttrain-7\tno features ")


@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        ("like_ratio", lambda i: 10 * (90 + i) / 100 - 9.138220535629456),
        ("view_count", lambda i: math.log(1000 * (i + 1)) - 11.76425435683139),
    ],
)
def test_lvu_has_two_tasks_of_numbers(tmp_path: Path, task: str, wanted: Any) -> None:
    data = LVU(**write_lvu(tmp_path, task), window=60)
    assert (data.classes, data.metric) == ([task], "mse")
    for i in range(len(data.test)):
        target = data.test.example(i, None)["target"]
        np.testing.assert_allclose(target, [wanted(i)], rtol=1e-6)
        assert target.dtype == np.float32
    outputs, target = MeanFeaturesRegression().predict(data)
    assert outputs.shape == target.shape == (5, 1)


def test_the_recipe_learns_numbers_of_whole_videos_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helixwave.report.as_svg", lambda figure: "")
    data = [f"data.{key}={value}" for key, value in write_lvu(tmp_path, "view_count").items()]
    small = [
        "model.d_model=8",
        "model.n_layer=1",
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
        "batches.workers=0",
    ]
    recipe = load_recipe("video/lvu", [*data, *small, "data.window=4", "objective.name=regression"])
    place = RunFolder(tmp_path / "run")
    place.create(recipe)
    results = run(recipe, place)
    assert results.monitor == "mse"
    target = [math.log(1000 * (i + 1)) - 11.76425435683139 for i in range(5)]
    rows = list(csv.DictReader((place.tables / "predictions.tsv").read_text().splitlines(), delimiter="\t"))
    # one row for each video, not for each of its windows
    assert [float(row["view_count true"]) for row in rows] == pytest.approx(target, rel=1e-4)


def test_the_mean_of_the_features_is_learnt_from(tmp_path: Path) -> None:
    data = LVU(**write_lvu(tmp_path))
    baseline = MeanFeaturesRegression()
    outputs, target = baseline.predict(data)
    assert torch.equal(outputs.argmax(1), target)
    assert target.tolist() == [0, 1, 0, 1, 0]
    assert "logistic regression on the mean of a video's features" in baseline.description
    data.test = object()  # type: ignore[assignment]
    with pytest.raises(InputError, match="mean_features_regression is for features of videos"):
        baseline.predict(data)


def write_breakfast(folder: Path) -> dict[str, str]:
    """Six people make two dishes in front of two cameras; the last two are tested."""
    rows: dict[str, list[str]] = {"train": [], "test": []}
    for person in range(3, 9):
        for i in range(4):
            dish, label = ("tea", "milk")[i % 2], (2, 0)[i % 2]
            name = f"P{person:02}-cam0{i // 2}-P{person:02}_{dish}"
            rows["test" if person > 6 else "train"].append(f"{name},{40 + i},{dish},{label}")
            features(folder / "features", name, label)
    for part, lines in rows.items():
        (folder / f"{part}.csv").write_text("file_name,duration,action,class_id\n" + "\n".join(lines) + "\n")
    return {"folder": str(folder), "features": str(folder / "features")}


def test_breakfast_holds_out_people(tmp_path: Path) -> None:
    data = Breakfast(**write_breakfast(tmp_path), frames=5, n_validation=1)
    assert data.classes == ["milk", "class 1", "tea"]
    people = {name: {video.name[:3] for video in each.videos} for name, each in data.listed.items()}
    assert [len(people[name]) for name in ("train", "validation", "test")] == [3, 1, 2]
    assert people["test"] == {"P07", "P08"}
    assert not people["train"] & people["validation"]
    assert data.train.length(0) == 5 * PATCHES
    assert data.describe()["people for validation"] == 1
    again = Breakfast(**write_breakfast(tmp_path), frames=5, n_validation=1)
    assert [video.name for video in again.train.videos] == [video.name for video in data.train.videos]


def test_features_of_other_forms(tmp_path: Path) -> None:
    flat = np.ones((5, D), dtype=np.float32)
    np.savez(tmp_path / "flat.npz", features=flat)
    assert FeatureVideo("flat", tmp_path / "flat.npz", 0).features().shape == (5, 1, D)
    np.savez(tmp_path / "two.npz", a=flat, b=flat)
    np.save(tmp_path / "counts.npy", np.ones((5, D), dtype=np.int64))
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "no_zip.npz").write_bytes(b"PK\x03\x04 garbage")
    for name, message in (
        ("two.npz", "it holds 2 arrays, expected one"),
        ("counts.npy", r"it holds int64 \[5, 4\], expected floating-point features"),
        ("text.npy", "no NumPy array"),
        ("no_zip.npz", "no NumPy array"),
    ):
        with pytest.raises(InputError, match=message):
            FeatureVideo(name, tmp_path / name, 0).features()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("0 c0 ../../secret tt0", "leads out of"),
        ("x c0 a tt0", r"test.csv: line 2: 'x c0 a tt0' is no row of the task scene"),
        ("", "the table has no row"),
        ("0 c0 nowhere tt0", "none of its 1 videos can be used. The first: no features .*data.features=FOLDER"),
    ],
)
def test_lvu_tables_that_make_no_sense(tmp_path: Path, table: str, message: str) -> None:
    given = write_lvu(tmp_path)
    (tmp_path / "scene" / "test.csv").write_text(f"header\n{table}")
    with pytest.raises(InputError, match=message):
        LVU(**given)


def test_errors(tmp_path: Path) -> None:
    given = write_lvu(tmp_path)
    with pytest.raises(InputError, match="window 0 and stride 1, expected at least one second"):
        LVU(**given, window=0)
    with pytest.raises(InputError, match=r"train.csv: cannot be read .*data.folder=FOLDER"):
        LVU(**{**given, "task": "year"})
    np.save(tmp_path / "features" / "test-0.npy", np.ones((5, D + 1), dtype=np.float32))
    with pytest.raises(InputError, match=r"the features have \[4, 5\] numbers, expected one width"):
        LVU(**given)


def test_breakfast_tables_that_make_no_sense(tmp_path: Path) -> None:
    given = write_breakfast(tmp_path)
    with pytest.raises(InputError, match="n_validation is 4, expected 1 to 3"):
        Breakfast(**given)
    with pytest.raises(InputError, match="frames is 0, expected at least 1"):
        Breakfast(**given, frames=0)
    header, test = "file_name,duration,action,class_id\n", tmp_path / "test.csv"
    for text, message in (
        (f"{header}P03-cam00-P03_tea,40,tea,2\n", "P03 is in train.csv and in test.csv"),
        (f"{header}someone,40,tea,2\n", "the video 'someone' does not begin with a person"),
        (f"{header}P07-cam00-P07_tea,40,tea,two\n", "line 2: class_id is 'two', expected a number from 0 on"),
        ("file_name,action\nP07,tea\n", "no column class_id, found file_name, action"),
        (header, "the table has no row"),
    ):
        test.write_text(text)
        with pytest.raises(InputError, match=message):
            Breakfast(**given, n_validation=1)
    test.unlink()
    with pytest.raises(InputError, match=r"test.csv: cannot be read .*data.folder=FOLDER"):
        Breakfast(**given, n_validation=1)
