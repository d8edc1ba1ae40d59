"""Shoulder exercises as a smart watch measures them."""

from pathlib import Path
from typing import Any

import numpy as np
from helixwave.cards import supplied_arrays, supplied_path
from helixwave.data.splits import PARTS
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.video.motion_augmentation import Geometry, MotionAugmentation
from helixwave_domains.video.motion_series import LabelledMotion, MotionData

FOLDS = 5
CHANNELS = ["acceleration x", "acceleration y", "acceleration z", "rotation x", "rotation y", "rotation z"]
# on the other wrist the first axis points the other way, and turns about the other two are reversed
_WRIST = Geometry(vectors=[(0, 1, 2), (3, 4, 5)], mirrored=(0, 4, 5))
_CARD = "seglearn_watch"
_KEYS = ("X", "lengths", "y", "subject", "labels")


class SmartwatchExercises(MotionData):
    """Seven shoulder exercises of ten subjects, acceleration and rate of rotation at 50 Hz, 19 to 52 seconds each.

    No subject is in two parts: in each of five folds two are for testing, the two of the fold before it for validation
    and six for training. Each did each exercise with both arms: `mirror` makes one of the other. Source: Burns et al.,
    "Shoulder Physiotherapy Exercise Recognition: Machine Learning the Inertial Signals from a Smartwatch", 2018; the
    data card `seglearn_watch`.

    Args:
        file: `seglearn_watch.npz`; null: in the data folder.
        fold: 0 to 4, which two subjects are tested.
        crop, speed, rotation, mirror, amplitude, jitter: of training series, see `MotionAugmentation`.
    """

    def __init__(
        self,
        *,
        file: str | None = None,
        fold: int = 0,
        crop: float = 0.0,
        speed: float = 0.0,
        rotation: float = 0.0,
        mirror: float = 0.0,
        amplitude: float = 0.0,
        jitter: float = 0.0,
    ):
        if not 0 <= fold < FOLDS:
            raise InputError(f"data: fold is {fold}, expected 0 to {FOLDS - 1}")
        path = supplied_path(file, argument="file", card=_CARD, path="seglearn_watch.npz")
        found = _read(path)
        series = np.split(found["X"].astype(np.float32), np.cumsum(found["lengths"])[:-1])
        subject = found["subject"].astype(np.int64)
        part = _parts(subject, fold)
        places = {name: np.flatnonzero(part == i) for i, name in enumerate(PARTS)}
        super().__init__(
            LabelledMotion(
                names=[f"series {i} of subject {who}" for i, who in enumerate(subject)],
                series=series,
                labels=found["y"].astype(np.int64),
                classes=[str(label) for label in found["labels"]],
                channels=CHANNELS,
                geometry=_WRIST,
            ),
            places,
            augmentation=MotionAugmentation(crop, speed, rotation, mirror, amplitude, jitter),
            facts={f"subjects for {name}": " ".join(map(str, np.unique(subject[places[name]]))) for name in PARTS},
        )


def _parts(subject: NDArray[np.int64], fold: int) -> NDArray[np.int64]:
    """The part of each series: 2 for the subjects of this fold, 1 for those of the fold before it, else 0."""
    folds = np.searchsorted(np.unique(subject), subject) * FOLDS // len(np.unique(subject))
    return np.where(folds == fold, 2, np.where(folds == (fold - 1) % FOLDS, 1, 0))


def _read(path: Path) -> dict[str, Any]:
    """The arrays of the file."""
    arrays = supplied_arrays(path, _KEYS, card=_CARD)
    if arrays["X"].shape != (arrays["lengths"].sum(), len(CHANNELS)):
        raise InputError(
            f"{path}: X is {list(arrays['X'].shape)}, expected [{arrays['lengths'].sum()}, {len(CHANNELS)}], "
            "the steps of all series"
        )
    return arrays
