"""Long-form video understanding: nine tasks on clips of films, from the benchmark's tables and precomputed features."""

import math
from pathlib import Path
from typing import Literal

from helixwave.data.splits import PARTS
from helixwave.errors import InputError

from helixwave_domains.video.feature_videos import FeatureData, RandomWindows, SlidingWindows, with_features

Task = Literal[
    "relationship", "way_speaking", "scene", "director", "writer", "year", "genre", "like_ratio", "view_count"
]
_FILES = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}
# what the published code takes from the numbers so that they lie around zero
_MEAN_LOG_VIEWS = 11.76425435683139
_MEAN_LIKES = 9.138220535629456


class LVU(FeatureData):
    """One task of the LVU benchmark: what a clip of some minutes shows, or how it was received.

    A video is judged by the mean of what a model says of all its windows of a minute, one each second, which chooses
    as the published sum of softmaxes does. In training one window of each video is drawn in each epoch. `like_ratio`
    and `view_count` are numbers, for `objective.name=regression`: tenths of likes among likes and dislikes, and the
    logarithm of views, both less the published mean. Sources: Wu and Kraehenbuehl, "Towards Long-Form Video
    Understanding", 2021; windows and numbers as in Islam and Bertasius, "Long Movie Clip Classification with
    State-Space Video Models", 2022, and its code.

    Args:
        folder: of the tables, `TASK/train.csv`, `val.csv` and `test.csv`: a header, then words between blanks, first a
            class and its name (or likes and dislikes, or views), last the names of the clip and of the film.
        features: folder of an array for each clip, one frame a second, `NAME.npy` or `NAME.npz` `[L, D]` or
            `[L, K, D]`.
        task: which of the nine.
        window: seconds.
        stride: seconds from one window to the next in validation and test.

    Raises:
        InputError: a table or its line is not as described, or there are no features.
    """

    def __init__(self, *, folder: str, features: str, task: Task = "relationship", window: int = 60, stride: int = 1):
        if min(window, stride) < 1:
            raise InputError(f"data: window {window} and stride {stride}, expected at least one second")
        tables = {part: _read(Path(folder) / task / file, task) for part, file in _FILES.items()}
        names: dict[int, str] = {}
        for _, found in tables.values():
            names |= found
        numbers = task in ("like_ratio", "view_count")
        listed = {
            part: with_features(Path(features), targets, where=Path(folder) / task / _FILES[part])
            for part, (targets, _) in tables.items()
        }
        self.metric = "mse" if numbers else "accuracy"
        splits = {
            name: RandomWindows(listed[name].videos, window)
            if name == "train"
            else SlidingWindows(listed[name].videos, window, stride=stride)
            for name in PARTS
        }
        classes: list[str] = [task] if numbers else [names.get(i, f"class {i}") for i in range(max(names) + 1)]
        facts = {"windows": f"{window} s, every {stride} s in validation and test"}
        super().__init__(classes, listed, splits, facts)


def _read(path: Path, task: Task) -> tuple[dict[str, int | float], dict[int, str]]:
    """The target of each clip by name, and the names of the classes."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}). Pass data.folder=FOLDER of the benchmark's tables"
        ) from error
    targets: dict[str, int | float] = {}
    names: dict[int, str] = {}
    for number, line in enumerate(lines, start=2):
        cells = line.split()
        try:
            clip = cells[-2]
            targets[clip] = _target(cells, task)
        except (IndexError, ValueError, ZeroDivisionError) as error:
            raise InputError(f"{path}: line {number}: {line!r} is no row of the task {task}") from error
        if isinstance(targets[clip], int):
            names[int(targets[clip])] = " ".join(cells[1:-2])
    if not targets:
        raise InputError(f"{path}: the table has no row")
    return targets, names


def _target(cells: list[str], task: Task) -> int | float:
    if task == "view_count":
        return math.log(float(cells[0])) - _MEAN_LOG_VIEWS
    if task == "like_ratio":
        likes, dislikes = float(cells[0]), float(cells[1])
        return 10 * likes / (likes + dislikes) - _MEAN_LIKES
    label = int(cells[0])
    if label < 0 or len(cells) < 4:
        raise ValueError(cells)
    return label
