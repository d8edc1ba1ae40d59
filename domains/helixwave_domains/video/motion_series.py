"""Labelled motion in three parts: what all data sets of point tracks and of movement sensors share."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helixwave.data import Example, Picture
from helixwave.data.splits import PARTS
from helixwave.errors import InputError
from helixwave.files import write_table
from numpy.typing import NDArray

from helixwave_domains.video.motion_augmentation import Geometry, MotionAugmentation, Series

_AT_ONCE = 64


@dataclass(frozen=True)
class MotionPreprocessing:
    """How a series is read by a model, stored in its checkpoint.

    Args:
        channels: their names.
        mean, deviation: of each channel over all known values of the training series.
    """

    channels: list[str]
    mean: list[float]
    deviation: list[float]

    @classmethod
    def measured(cls, channels: Sequence[str], series: Sequence[Series]) -> "MotionPreprocessing":
        """The constants of series `[T, C]`; a channel that never changes keeps its scale."""
        steps = np.concatenate(series).astype(np.float64)
        known = ~np.isnan(steps)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, steps, 0).sum(0) / count
        deviation = np.sqrt(np.where(known, (steps - mean) ** 2, 0).sum(0) / count)
        return cls(list(channels), mean.tolist(), np.where(deviation > 0, deviation, 1.0).tolist())

    def scaled(self, series: Series) -> Series:
        """What a model reads of a series `[T, C]`."""
        return ((series - np.array(self.mean)) / np.array(self.deviation)).astype(np.float32)

    def config(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return asdict(self)


class MotionSplit:
    """Series of one part.

    Args:
        series: `[T, C]` each, as measured.
        labels: places in the classes `[M]`.
        preprocessing: scales them.
        geometry: of their channels.
        augmentation: what is done to examples that are augmented.
    """

    padding: int | float = 0.0

    def __init__(
        self,
        series: Sequence[Series],
        labels: NDArray[np.int64],
        preprocessing: MotionPreprocessing,
        *,
        geometry: Geometry,
        augmentation: MotionAugmentation | None = None,
    ):
        self.series, self.labels, self.preprocessing = series, labels, preprocessing
        self.geometry, self.augmentation = geometry, augmentation or MotionAugmentation()
        self.deviation = np.array(preprocessing.deviation, dtype=np.float32)

    def __len__(self) -> int:
        return len(self.labels)

    def length(self, index: int) -> int:
        return len(self.series[index])

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        series = self.series[index]
        if rng is not None:
            series = self.augmentation.drawn(series, rng, self.geometry, self.deviation)
        return {"inputs": self.preprocessing.scaled(series), "target": int(self.labels[index])}


@dataclass(frozen=True)
class LabelledMotion:
    """Series with a class each.

    Args:
        names: of the series.
        series: `[T, C]` each, NaN where a value is missing.
        labels: places in the classes `[M]`.
        classes: their names.
        channels: names of the channels.
        geometry: of the channels.
    """

    names: Sequence[str]
    series: Sequence[Series]
    labels: NDArray[np.int64]
    classes: list[str]
    channels: list[str]
    geometry: Geometry = field(default_factory=Geometry)


class MotionData:
    """Three parts of labelled motion.

    Args:
        motion: all of it.
        places: the series of each part.
        augmentation: of those for training.
        facts: more lines for the report.

    Raises:
        InputError: a part without a series.
    """

    def __init__(
        self,
        motion: LabelledMotion,
        places: Mapping[str, NDArray[np.int64]],
        *,
        augmentation: MotionAugmentation,
        facts: Mapping[str, Any] | None = None,
    ):
        empty = [name for name in PARTS if not len(places[name])]
        if empty:
            raise InputError(f"data: no series is for {empty[0]}. Give some to each of {', '.join(PARTS)}")
        self.motion, self.places, self.facts = motion, places, dict(facts or {})
        self.classes = motion.classes
        settings = MotionPreprocessing.measured(motion.channels, [motion.series[i] for i in places["train"]])
        self.preprocessing, self.reads = settings.config(), {"channels": len(motion.channels)}
        self.train, self.validation, self.test = (
            MotionSplit(
                [motion.series[i] for i in places[name]],
                motion.labels[places[name]],
                settings,
                geometry=motion.geometry,
                augmentation=augmentation if name == "train" else None,
            )
            for name in PARTS
        )

    def describe(self) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        for name in PARTS:
            split: MotionSplit = getattr(self, name)
            counts = np.bincount(split.labels, minlength=len(self.classes))
            classes = ", ".join(f"{count} {label}" for count, label in zip(counts, self.classes, strict=True))
            steps = [len(each) for each in split.series]
            facts[name] = f"{len(steps)} series of {min(steps)} to {max(steps)} steps ({classes})"
        missing = sum(int(np.isnan(each).sum()) for each in self.motion.series)
        values = sum(each.size for each in self.motion.series)
        return {**facts, "missing values": f"{missing} of {values}", **self.facts}

    def export(self, model: Any, folder: Path) -> list[Picture]:
        """A table of the test series with their classes and probabilities."""
        probabilities = predicted(model, self.test)
        columns: dict[str, Any] = {
            "series": [self.motion.names[i] for i in self.places["test"]],
            "true": [self.classes[label] for label in self.test.labels],
            "predicted": [self.classes[label] for label in probabilities.argmax(1)],
        }
        columns |= {f"p {name}": probabilities[:, i] for i, name in enumerate(self.classes)}
        write_table(folder / "test_predictions.tsv", columns)
        return []


def predicted(model: Any, split: MotionSplit) -> NDArray[np.float32]:
    """Probabilities of each series of a split `[M, n_class]`."""
    from helixwave.data import make_loader
    from helixwave.recipe import Batches

    device = next(model.parameters()).device
    temperature = getattr(model, "config", {}).get("calibration", {}).get("temperature", 1.0)
    with torch.inference_mode():
        pieces = [
            (model(batch["inputs"].to(device), batch["lengths"].to(device)) / temperature).softmax(-1).cpu()
            for batch in make_loader(split, Batches(size=_AT_ONCE), seed=0)
        ]
    return torch.cat(pieces).float().numpy()
