"""Fingertip tracks of four gestures in front of a webcam."""

from pathlib import Path

import numpy as np
from helixwave.cards import read_card
from helixwave.data.splits import PARTS
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.video.motion_augmentation import Geometry, MotionAugmentation
from helixwave_domains.video.motion_series import LabelledMotion, MotionData

STEPS = 16
# the file counts x in widths and y in heights of a frame of 960 x 540 pixels
_ASPECT = 960 / 540


class HandGestures(MotionData):
    """Tracks of a fingertip, 16 frames of x and y from the first one on: stop, clockwise, counter clockwise, move.

    Rows of the file are windows that slide over a few long recordings by one frame, so that neighbours share 15 of
    their 16 points. The split is therefore by time: of each gesture the first rows are for training and the last for
    testing, and the 15 rows that would overlap with the part before them are left out. So are rows without a hand, in
    which all points are zero. Source: the data card `hand_gestures`.

    Args:
        folder: of `point_history.csv` and `point_history_labels.csv`; null: in the data folder.
        validation, test: shares of the rows of each gesture.
        crop, speed, rotation, amplitude, jitter: of training series, see `MotionAugmentation`.
    """

    def __init__(
        self,
        *,
        folder: str | None = None,
        validation: float = 0.1,
        test: float = 0.2,
        crop: float = 0.0,
        speed: float = 0.0,
        rotation: float = 0.0,
        amplitude: float = 0.0,
        jitter: float = 0.0,
    ):
        if min(validation, test) <= 0 or validation + test >= 1:
            raise InputError(f"data: validation {validation} and test {test}, expected shares that leave some to train")
        card = read_card("hand_gestures")
        found = [Path(folder) / file.path if folder else card.file(file.path) for file in card.files]
        labels, tracks = _read(found[0])
        hand = tracks.any(axis=(1, 2))
        classes = [line.strip() for line in _text(found[1]).splitlines() if line.strip()]
        if labels.max() >= len(classes):
            raise InputError(f"{found[1]}: it names {len(classes)} classes, {found[0].name} has class {labels.max()}")
        motion = LabelledMotion(
            names=[f"row {i + 1}" for i in range(len(labels))],
            series=list(tracks),
            labels=labels,
            classes=classes,
            channels=["x", "y"],
            geometry=Geometry(vectors=[(0, 1)]),
        )
        part = parts_by_time(labels, (1 - validation - test, 1 - test), gap=STEPS - 1)
        super().__init__(
            motion,
            {name: np.flatnonzero((part == i) & hand) for i, name in enumerate(PARTS)},
            augmentation=MotionAugmentation(crop, speed, rotation, 0.0, amplitude, jitter),
            facts={
                "rows between the parts, left out as they overlap": int((part < 0).sum()),
                "rows without a hand, left out": int((~hand).sum()),
            },
        )


def parts_by_time(labels: NDArray[np.int64], cuts: tuple[float, float], *, gap: int) -> NDArray[np.int64]:
    """The part of each row `[M]`: 0, 1 or 2 by its place among the rows of its class, -1 in a gap behind a cut."""
    part = np.full(len(labels), -1)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        first, second = (round(cut * len(rows)) for cut in cuts)
        part[rows[:first]] = 0
        part[rows[first + gap : second]] = 1
        part[rows[second + gap :]] = 2
    return part


def _read(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Classes `[M]` and tracks `[M, 16, 2]` in heights of a frame."""
    lines = _text(path).splitlines()
    try:
        rows = np.array([[float(cell) for cell in line.split(",")] for line in lines])
    except ValueError as error:
        raise InputError(f"{path}: no table of numbers with as many in each row ({error})") from error
    if rows.ndim != 2 or rows.shape[1] != 1 + 2 * STEPS or not np.isfinite(rows).all():
        raise InputError(f"{path}: expected rows of a class and {2 * STEPS} numbers, found {list(rows.shape)}")
    tracks = rows[:, 1:].reshape(-1, STEPS, 2) * [_ASPECT, 1]
    return rows[:, 0].astype(np.int64), tracks.astype(np.float32)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}). See the data card hand_gestures") from error
