"""Breakfast: which of ten dishes somebody prepares, from the tables of a published split and precomputed features."""

import csv
import re
from pathlib import Path

import numpy as np
from helixwave.data.splits import PARTS
from helixwave.errors import InputError

from helixwave_domains.video.feature_videos import FeatureData, SampledFrames, with_features

_SUBJECT = re.compile(r"P\d+")
_COLUMNS = ("file_name", "action", "class_id")


class Breakfast(FeatureData):
    """Ten activities of some minutes, each by many people and seen by several cameras.

    The user's tables decide who is trained on and who is tested, such as those beside the code of Islam and Bertasius,
    "Long Movie Clip Classification with State-Space Video Models", 2022, in which no person is in both. They have no
    part for validation: some people of the training table are held out for it. A model reads so many frames of each
    video, evenly spaced and in training drawn at random, as in that code. Source: Kuehne et al., "The Language of
    Actions", 2014.

    Args:
        folder: of `train.csv` and `test.csv`, with the columns file_name, action and class_id; a name begins with the
            person, such as `P03-cam01-P03_cereals`.
        features: folder of an array for each video, `NAME.npy` or `NAME.npz` `[L, D]` or `[L, K, D]`.
        frames: that are read of a video.
        n_validation: people of the training table who are held out.
        split_seed: decides who.

    Raises:
        InputError: a table is not as described, a person is in both, or there are no features.
    """

    metric = "accuracy"

    def __init__(self, *, folder: str, features: str, frames: int = 64, n_validation: int = 4, split_seed: int = 0):
        if frames < 1:
            raise InputError(f"data: frames is {frames}, expected at least 1")
        tables = {name: _read(Path(folder) / f"{name}.csv") for name in ("train", "test")}
        people = {name: {_subject(video) for video in found[0]} for name, found in tables.items()}
        if people["train"] & people["test"]:
            raise InputError(f"{folder}: {min(people['train'] & people['test'])} is in train.csv and in test.csv")
        if not 1 <= n_validation < len(people["train"]):
            raise InputError(
                f"data: n_validation is {n_validation}, expected 1 to {len(people['train']) - 1}, as train.csv has more"
            )
        order = np.random.default_rng(split_seed).permutation(sorted(people["train"]))
        held_out = set(order[:n_validation].tolist())
        targets: dict[str, dict[str, int | float]] = {
            "train": {video: label for video, label in tables["train"][0].items() if _subject(video) not in held_out},
            "validation": {video: label for video, label in tables["train"][0].items() if _subject(video) in held_out},
            "test": dict(tables["test"][0]),
        }
        listed = {
            name: with_features(Path(features), targets[name], where=Path(folder) / f"{_file(name)}.csv")
            for name in PARTS
        }
        names = tables["test"][1] | tables["train"][1]
        super().__init__(
            [names.get(i, f"class {i}") for i in range(max(names) + 1)],
            listed,
            {name: SampledFrames(listed[name].videos, frames) for name in PARTS},
            {f"people for {name}": len({_subject(video) for video in targets[name]}) for name in PARTS},
        )


def _file(part: str) -> str:
    return "test" if part == "test" else "train"


def _subject(video: str) -> str:
    """The person whom a video shows."""
    found = _SUBJECT.match(video)
    if found is None:
        raise InputError(f"data: the video {video!r} does not begin with a person, such as P03")
    return found[0]


def _read(path: Path) -> tuple[dict[str, int], dict[int, str]]:
    """The class of each video by name, and the names of the classes."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            rows = list(csv.DictReader(f))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path}: cannot be read ({error}). Pass data.folder=FOLDER of train.csv and test.csv"
        ) from error
    if not rows:
        raise InputError(f"{path}: the table has no row")
    absent = [name for name in _COLUMNS if name not in rows[0]]
    if absent:
        raise InputError(f"{path}: no column {', '.join(absent)}, found {', '.join(rows[0])}")
    labels: dict[str, int] = {}
    names: dict[int, str] = {}
    for line, row in enumerate(rows, start=2):
        if not str(row["class_id"]).isdecimal():
            raise InputError(f"{path}: line {line}: class_id is {row['class_id']!r}, expected a number from 0 on")
        labels[row["file_name"]] = int(row["class_id"])
        names[int(row["class_id"])] = row["action"]
    return labels, names
