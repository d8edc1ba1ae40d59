"""Single beats of the MIT-BIH Arrhythmia Database."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.cards import supplied_arrays, supplied_path
from helixwave.data import Example, Picture
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.ecg.beat_augmentation import BeatAugmentation
from helixwave_domains.ecg.beat_preprocessing import BeatPreprocessing
from helixwave_domains.ecg.preprocessing import Inputs

NAMES = {"N": "normal", "R": "right bundle branch block", "A": "atrial premature", "V": "ventricular premature"}
NAMES |= {"/": "paced", "f": "fusion of paced and normal"}
"""What the symbols of the beats stand for."""

_CARD = "mitdb_beats"
_KEYS = ("x_adu", "y", "classes", "record", "rr_prev", "rr_next", "split", "fs", "gain", "baseline")
_PARTS = ("train", "validation", "test")


class BeatSplit:
    """Beats of one part.

    Args:
        inputs: `[M, T, C]`.
        labels: places in the classes `[M]`.
        augmentation: what is done to examples that are augmented.
        seconds: to the beats before and after `[M, 2]`; None: the inputs have no intervals.
    """

    padding: int | float = 0.0

    def __init__(
        self,
        inputs: Inputs,
        labels: NDArray[np.int64],
        *,
        augmentation: BeatAugmentation | None = None,
        seconds: NDArray[np.float64] | None = None,
    ):
        self.inputs, self.labels, self.seconds = inputs, labels, seconds
        self.augmentation = augmentation or BeatAugmentation()

    def __len__(self) -> int:
        return len(self.labels)

    def length(self, index: int) -> int:
        return self.inputs.shape[1]

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        if rng is None:
            return {"inputs": self.inputs[index], "target": int(self.labels[index])}
        share = self.augmentation.share(rng)
        other = int(rng.integers(len(self)))
        mixed = share * self._augmented(index, rng) + (1 - share) * self._augmented(other, rng)
        # in the mean over many draws, the loss of a label that is mixed as the inputs are
        label = self.labels[index if rng.random() < share else other]
        return {"inputs": mixed.astype(np.float32), "target": int(label)}

    def _augmented(self, index: int, rng: np.random.Generator) -> Inputs:
        inputs = self.augmentation.lead(self.inputs[index, :, :1], rng)
        if self.seconds is None:
            return inputs
        channels = self.augmentation.intervals(self.seconds[index], rng)
        return np.concatenate([inputs, np.broadcast_to(channels, (len(inputs), len(channels)))], axis=1)


class MitdbBeats:
    """Beats of ten records of the MIT-BIH Arrhythmia Database in six classes, one lead at 360 Hz.

    The split of the file is by time within each record: a model has seen other beats of the same patient. With
    `test_records` it is between patients; a class that is not on both sides is then left out. Source: Moody and Mark,
    "The impact of the MIT-BIH Arrhythmia Database", 2001; between patients: de Chazal et al., "Automatic
    classification of heartbeats", 2004, section II.

    Args:
        file: `mitdb10_beats.npz`; null: in the data folder.
        test_records: records whose beats are tested and never trained on; null: the split of the file.
        intervals: whether a model reads the intervals to the neighbouring beats beside the lead.
        shift: in training, windows are moved by up to so many samples in either direction.
        amplitude: and are made larger or smaller by a factor with this deviation of its logarithm.
        noise: and get white noise of up to this deviation in millivolts.
        wander: and stand on a baseline whose slope and bend have this deviation in millivolts.
        jitter: and both intervals are longer or shorter by a factor with this deviation of its logarithm.
        interval_noise: and noise of this deviation is added to what a model reads of them.
        mixup: and an example is a mean of two beats, weighted by a draw from Beta(mixup, mixup); 0: of one alone.
    """

    def __init__(
        self,
        *,
        file: str | None = None,
        test_records: list[int] | None = None,
        intervals: bool = True,
        shift: int = 0,
        amplitude: float = 0.0,
        noise: float = 0.0,
        wander: float = 0.0,
        jitter: float = 0.0,
        interval_noise: float = 0.0,
        mixup: float = 0.0,
    ):
        augmentation = BeatAugmentation(shift, amplitude, noise, wander, jitter, interval_noise, mixup)
        beats = _Beats(file)
        part = beats.part if test_records is None else beats.part_between(test_records)
        kept = set(range(len(beats.symbols))) if test_records is None else _on_both_sides(beats.labels, part)
        self.classes = [symbol for place, symbol in enumerate(beats.symbols) if place in kept]
        self.left_out = Counter(beats.symbols[label] for label in beats.labels if label not in kept)
        number = np.array([self.classes.index(symbol) if symbol in self.classes else -1 for symbol in beats.symbols])
        self.test_records = test_records
        settings = BeatPreprocessing(intervals=intervals)
        self.preprocessing = settings.config()
        self.reads = {"channels": settings.n_channel, "n_lead": len(settings.leads)}
        self.record: dict[str, NDArray[np.int64]] = {}
        splits = []
        for place, name in enumerate(_PARTS):
            chosen = np.flatnonzero((part == place) & np.isin(beats.labels, list(kept)))
            inputs = settings.of_windows(beats.windows[chosen], beats.seconds[chosen])
            self.record[name] = beats.record[chosen]
            seconds = beats.seconds[chosen] if intervals else None
            own = augmentation if name == "train" else None
            splits.append(BeatSplit(inputs, number[beats.labels[chosen]], augmentation=own, seconds=seconds))
        self.train, self.validation, self.test = splits

    def describe(self) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        for name in _PARTS:
            labels = getattr(self, name).labels
            counts = np.bincount(labels, minlength=len(self.classes))
            classes = ", ".join(f"{count} {symbol}" for symbol, count in zip(self.classes, counts, strict=True))
            records = " ".join(map(str, np.unique(self.record[name])))
            facts[name] = f"{len(labels)} beats ({classes}) of records {records}"
        shared = set(self.record["train"]) & set(self.record["test"])
        facts["records in training and test"] = len(shared)
        if self.left_out:
            facts["beats of classes that are not in training and test, left out"] = ", ".join(
                f"{count} {symbol}" for symbol, count in self.left_out.items()
            )
        return facts

    def export(self, model: Any, folder: Path) -> list[Picture]:
        """How much of the score the split within records is worth, by a classifier that takes a moment."""
        if self.test_records is not None:
            return []
        from helixwave_domains.ecg.beat_pictures import between_patients

        return [between_patients(self)]


class _Beats:
    """The beats of the file as it has them."""

    def __init__(self, file: str | None):
        path = supplied_path(file, argument="file", card=_CARD, path="mitdb10_beats.npz")
        found = supplied_arrays(path, _KEYS, card=_CARD)
        # counts of the recorder
        millivolts = (found["x_adu"].astype(np.float32) - float(found["baseline"])) / float(found["gain"])
        self.windows = millivolts[:, None, :]
        self.seconds = np.stack([found["rr_prev"], found["rr_next"]], axis=1) / float(found["fs"])
        self.symbols = [str(symbol) for symbol in found["classes"]]
        self.labels, self.part = found["y"].astype(np.int64), found["split"].astype(np.int64)
        self.record = found["record"].astype(np.int64)

    def part_between(self, test_records: list[int]) -> NDArray[np.int64]:
        """A split between patients; of the others, the file's validation part stays for validation."""
        known = np.unique(self.record).tolist()
        unknown = sorted(set(test_records) - set(known))
        if unknown or not 0 < len(set(test_records)) < len(known):
            raise InputError(f"data: test_records is {test_records}, expected some of {', '.join(map(str, known))}")
        return np.where(np.isin(self.record, test_records), 2, np.where(self.part == 1, 1, 0))


def _on_both_sides(labels: NDArray[np.int64], part: NDArray[np.int64]) -> set[int]:
    return set(labels[part == 0].tolist()) & set(labels[part == 2].tolist())
