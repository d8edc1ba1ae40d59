"""The user's own motion: tables of point tracks or sensors with a class for each series."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from helixwave.data.splits import PARTS, given_parts, split_groups
from helixwave.errors import InputError, nearest

from helixwave_domains.video.motion_augmentation import Geometry, MotionAugmentation
from helixwave_domains.video.motion_series import LabelledMotion, MotionData
from helixwave_domains.video.motion_tables import Columns, MotionTable, read_motion


class LabelledMotionTable(MotionData):
    """Series of any lengths from a table with a row for each step of each series, or from a folder of such tables.

    Empty cells are missing values, which the model is told of. A group, such as a subject, is in one part as a whole.

    Args:
        table: CSV, TSV or Parquet with all series, or a folder with a file for each.
        series: the column that says which series a row belongs to; in a folder that is the file's name.
        label: the column of the class.
        time: the column by which the rows of a series are sorted; null: they come in order.
        group: the column of the group; null: each series is one.
        split: the column that says train, validation or test; null: groups are dealt out.
        channels: columns that the model reads; null: all others that hold numbers.
        vectors: names of the channels of each vector in the plane or in space, which `rotation` turns together.
        mirrored: names of the channels that change their sign in a mirror image, for `mirror`.
        validation, test: shares of the groups, where no column says the split.
        split_seed: of the split, stratified by class.
        crop, speed, rotation, mirror, amplitude, jitter: of training series, see `MotionAugmentation`.
    """

    def __init__(
        self,
        *,
        table: str,
        series: str = "series",
        label: str = "label",
        time: str | None = None,
        group: str | None = None,
        split: str | None = None,
        channels: list[str] | None = None,
        vectors: list[list[str]] | None = None,
        mirrored: list[str] | None = None,
        validation: float = 0.15,
        test: float = 0.2,
        split_seed: int = 0,
        crop: float = 0.0,
        speed: float = 0.0,
        rotation: float = 0.0,
        mirror: float = 0.0,
        amplitude: float = 0.0,
        jitter: float = 0.0,
    ):
        columns = Columns(series, label, time, group, split, channels)
        found = read_motion(Path(table), columns)
        words = found.facts[label]
        classes = sorted(set(words))
        if len(classes) < 2:
            raise InputError(f"{table}: all series have the label {classes[0]!r}, nothing to learn")
        labels = np.array([classes.index(word) for word in words], dtype=np.int64)
        groups = found.names if group is None else found.facts[group]
        if split is None:
            places = split_groups(groups, labels, validation=validation, test=test, seed=split_seed)
        else:
            places = given_parts(found.facts[split], where=table)
        geometry = _geometry(vectors or [], mirrored or [], found.channels)
        motion = LabelledMotion(found.names, found.series, labels, classes, found.channels, geometry)
        super().__init__(
            motion,
            {name: np.array(places[name], dtype=np.int64) for name in PARTS},
            augmentation=MotionAugmentation(crop, speed, rotation, mirror, amplitude, jitter),
            facts=_facts(found, columns, places, groups),
        )


def _facts(
    found: MotionTable, columns: Columns, places: dict[str, list[int]], groups: Sequence[str]
) -> dict[str, str | int]:
    """What the report says of the table."""
    facts: dict[str, str | int] = {"channels": ", ".join(found.channels)}
    if columns.group is not None:
        tested = {groups[i] for i in places["test"]}
        facts["groups in training and test"] = len(tested & {groups[i] for i in places["train"]})
    if columns.time is not None:
        facts["series whose steps are not even in time, read as if they were"] = found.uneven
    if found.unused:
        facts["columns without numbers, left out"] = ", ".join(found.unused)
    return facts


def _geometry(vectors: Sequence[Sequence[str]], mirrored: Sequence[str], channels: list[str]) -> Geometry:
    """Vectors and mirrored channels by their places."""
    for argument, names in [*(("vectors", vector) for vector in vectors), ("mirrored", mirrored)]:
        for name in names:
            if name not in channels:
                raise InputError(f"data: {argument} has {name!r}, which is no channel. {nearest(name, channels)}")
    for vector in vectors:
        if len(vector) not in (2, 3):
            raise InputError(f"data: vectors has {list(vector)}, expected two channels (a plane) or three (space)")
    places = [[channels.index(name) for name in vector] for vector in vectors]
    return Geometry(places, [channels.index(name) for name in mirrored])
