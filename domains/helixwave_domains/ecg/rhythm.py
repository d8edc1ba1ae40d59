"""Atrial fibrillation in windows of long recordings whose rhythm is marked."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from helixwave.cards import supplied_path
from helixwave.data import Picture
from helixwave.data.splits import PARTS, split_groups
from helixwave.errors import InputError

from helixwave_domains.ecg.formats import read_recording
from helixwave_domains.ecg.preprocessing import Prepared, Preprocessing
from helixwave_domains.ecg.recording import Annotation, Recording, Signal
from helixwave_domains.ecg.records import ConsecutiveCrops, RandomCrops, describe_targets, lead_names

CLASSES = ["N", "AF"]
_MARKS = {"(N": 0, "(AFIB": 1, "(AFL": 1}
_MIXED = -1


@dataclass(frozen=True)
class _Windows:
    """Windows of one recording, those of one rhythm alone."""

    patient: str
    signals: list[Signal]
    labels: list[int]
    mixed: int


class CPSC2021:
    """Windows of two-lead recordings with or without atrial fibrillation, which the flutter counts as.

    The rhythm of a window follows from the marks `(N`, `(AFIB` and `(AFL` of the recording, sinus rhythm before the
    first; windows in which it changes are left out and counted. Patients are on one side of the split. Source: Wang et
    al., "Paroxysmal Atrial Fibrillation Events Detection from Dynamic ECG Recordings: The 4th China Physiological
    Signal Challenge 2021", PhysioNet.

    Args:
        folder: with records `data_PATIENT_RECORD` as WFDB; null: in the data folder.
        rate, leads, window, scale, mean, deviation, highpass, lowpass: see `Preprocessing`; leads also as a number.
        stride: seconds from one training window to the next; those of the other parts follow each other.
        validation, test: shares of the patients.
        split_seed: of the split.
    """

    def __init__(
        self,
        *,
        folder: str | None = None,
        rate: float = 200.0,
        leads: list[str] | int = 2,
        window: float = 10.0,
        scale: Literal["window", "constants", "none"] = "window",
        mean: float = 0.0,
        deviation: float = 1.0,
        highpass: float | None = None,
        lowpass: float | None = None,
        stride: float = 5.0,
        validation: float = 0.2,
        test: float = 0.3,
        split_seed: int = 0,
    ):
        self.classes = CLASSES
        settings = Preprocessing(rate, lead_names(leads), window, scale, mean, deviation, highpass, lowpass)
        self.preprocessing = settings.config()
        self.reads = {"channels": len(settings.leads)}
        place = supplied_path(folder, argument="folder", card="cpsc2021_sample")
        recordings = _recordings(place)
        # the split follows from windows side by side, whatever the stride of training is
        apart = [_windows(patient, each, settings, settings.length) for patient, each in recordings]
        rows = [(each.patient, label) for each in apart for label in each.labels]
        chosen = split_groups(
            [patient for patient, _ in rows],
            [label for _, label in rows],
            validation=validation,
            test=test,
            seed=split_seed,
        )
        self.patients = {name: sorted({rows[i][0] for i in places}) for name, places in chosen.items()}
        dense = [_windows(*each, settings, max(1, round(stride * rate))) for each in recordings]
        parts = {name: _of(self.patients[name], dense if name == "train" else apart) for name in PARTS}
        self.mixed = {name: sum(each.mixed for each in windows) for name, windows in parts.items()}
        self.train = RandomCrops(*_joined(parts["train"]), settings)
        self.validation, self.test = (
            ConsecutiveCrops(signals, [[0]] * len(signals), labels, settings, aggregate="mean")
            for signals, labels in (_joined(parts[name]) for name in PARTS[1:])
        )

    def describe(self) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        for name in PARTS:
            split = getattr(self, name)
            counts = describe_targets(split.targets, self.classes)
            facts[name] = f"{len(split)} windows ({counts}) of patients {', '.join(self.patients[name])}"
        counts = ", ".join(f"{count} {name}" for name, count in self.mixed.items())
        return {**facts, "windows in which the rhythm changes, left out": counts}

    def export(self, model: Any, folder: Path) -> list[Picture]:
        return []


def rhythm_of(marks: Sequence[Annotation], start: float, stop: float) -> int | None:
    """The place in `CLASSES` of the rhythm from sample `start` up to `stop`; None: it changes in between.

    Raises:
        InputError: a rhythm that is not known.
    """
    changes = [(-np.inf, 0), *((mark.sample, _MARKS[mark.text]) for mark in marks)]
    starts = np.array([sample for sample, _ in changes])
    first, last = np.searchsorted(starts, [start, stop], side="right") - 1
    # a mark at the end belongs to the next window
    last -= int(starts[last] == stop and last > first)
    found = {changes[i][1] for i in range(first, last + 1)}
    return found.pop() if len(found) == 1 else None


def _recordings(folder: Path) -> list[tuple[str, Recording]]:
    paths = sorted(folder.glob("data_*_*.hea"))
    if not paths:
        raise InputError(f"{folder}: no records data_PATIENT_RECORD.hea are there. Pass data.folder=PATH")
    return [(path.stem.split("_")[1], read_recording(path)) for path in paths]


def _windows(patient: str, recording: Recording, settings: Preprocessing, stride: int) -> _Windows:
    """The windows of one rhythm of a recording; what is shorter than a window is one."""
    prepared = Prepared(recording, settings, resample=True)
    signal = prepared.read(0, prepared.n_sample)
    marks = _rhythms(recording)
    signals, labels = [], []
    for start in prepared.starts(stride):
        piece = signal[:, start : start + settings.length]
        ratio = recording.rate / settings.rate
        label = rhythm_of(marks, start * ratio, (start + piece.shape[1]) * ratio)
        signals.append(piece)
        labels.append(_MIXED if label is None else label)
    kept = [i for i, label in enumerate(labels) if label != _MIXED]
    return _Windows(patient, [signals[i] for i in kept], [labels[i] for i in kept], len(labels) - len(kept))


def _rhythms(recording: Recording) -> list[Annotation]:
    marks = [mark for mark in recording.annotations if mark.text.startswith("(")]
    unknown = Counter(mark.text for mark in marks if mark.text not in _MARKS)
    if unknown:
        raise InputError(
            f"{recording.source}: the rhythm {next(iter(unknown))!r} is marked, expected {', '.join(_MARKS)}"
        )
    return marks


def _of(patients: list[str], windows: list[_Windows]) -> list[_Windows]:
    return [each for each in windows if each.patient in patients]


def _joined(windows: list[_Windows]) -> tuple[list[Signal], Any]:
    signals = [signal for each in windows for signal in each.signals]
    return signals, np.array([label for each in windows for label in each.labels], dtype=np.int64)
