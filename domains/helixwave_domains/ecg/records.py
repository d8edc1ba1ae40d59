"""Recordings with targets, in the crops that a model reads: what all data sets of whole recordings share."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from helixwave.data import Example, Picture
from helixwave.data.splits import PARTS
from helixwave.errors import InputError
from helixwave.files import write_table
from helixwave.outputs import Predicts
from numpy.typing import NDArray

from helixwave_domains.ecg.leads import LEAD_SETS
from helixwave_domains.ecg.preprocessing import Prepared, Preprocessing
from helixwave_domains.ecg.recording import Recording, Signal

Aggregate = Literal["mean", "max"]
Targets = NDArray[np.int64] | NDArray[np.float32]
"""A class each `[M]`, or labels `[M, n]` in float32."""

log = logging.getLogger("helixwave")
_SHOWN = 3
_AT_ONCE = 64


@dataclass(frozen=True)
class Labelled:
    """A recording and what it is labelled with.

    Args:
        name: for tables and messages.
        open: reads it.
        target: a class, or labels `[n]` in float32.
    """

    name: str
    open: Callable[[], Recording]
    target: int | NDArray[np.float32]


@dataclass(frozen=True)
class Reading:
    """How recordings become examples.

    Args:
        preprocessing: the model's.
        measured: its constants `mean` and `deviation` are those of all training samples instead.
        stride: seconds from one crop to the next where recordings are evaluated; None: as long as a crop.
        aggregate: how the probabilities of a recording's crops become one.
        resample, missing_leads: as for `Prepared`.
    """

    preprocessing: Preprocessing
    measured: bool = False
    stride: float | None = None
    aggregate: Aggregate = "mean"
    resample: bool = False
    missing_leads: Literal["error", "zero"] = "error"

    def __post_init__(self) -> None:
        if self.stride is not None and self.stride <= 0:
            raise InputError(f"data: stride is {self.stride}, expected seconds, more than 0, or null")

    def read(self, recording: Recording) -> tuple[Signal, list[int]]:
        """Millivolts `[C, T]` as the model's preprocessing has them, and where the crops for evaluation begin."""
        prepared = Prepared(recording, self.preprocessing, self.resample, self.missing_leads)
        step = self.preprocessing.length
        if self.stride is not None:
            step = max(1, round(self.stride * self.preprocessing.rate))
        return prepared.read(0, prepared.n_sample), prepared.starts(step)


class RandomCrops:
    """Recordings for training: in each epoch a crop of each, drawn at random; without draws the first.

    Args:
        signals: prepared millivolts `[C, T]` each; what is shorter than a crop is one.
        targets: of each.
        preprocessing: scales a crop.
    """

    padding: int | float = 0.0

    def __init__(self, signals: Sequence[Signal], targets: Targets, preprocessing: Preprocessing):
        self.signals, self.targets, self.preprocessing = signals, targets, preprocessing

    def __len__(self) -> int:
        return len(self.signals)

    def length(self, index: int) -> int:
        return min(self.signals[index].shape[1], self.preprocessing.length)

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        signal = self.signals[index]
        last = max(signal.shape[1] - self.preprocessing.length, 0)
        start = 0 if rng is None else int(rng.integers(last + 1))
        crop = signal[:, start : start + self.preprocessing.length]
        return {"inputs": self.preprocessing.scaled(crop), "target": _target(self.targets, index)}


class ConsecutiveCrops:
    """Recordings for evaluation: their crops one after the other; the last one ends with the recording.

    Attributes:
        groups: the recording of each crop, `[M]`.
        aggregate: how the probabilities of a recording's crops become one.
    """

    padding: int | float = 0.0

    def __init__(
        self,
        signals: Sequence[Signal],
        starts: Sequence[Sequence[int]],
        targets: Targets,
        preprocessing: Preprocessing,
        *,
        aggregate: Aggregate,
    ):
        self.signals, self.targets, self.preprocessing, self.aggregate = signals, targets, preprocessing, aggregate
        self.starts = np.array([start for each in starts for start in each], dtype=np.int64)
        self.groups = np.repeat(np.arange(len(signals)), [len(each) for each in starts])

    def __len__(self) -> int:
        return len(self.groups)

    def length(self, index: int) -> int:
        signal = self.signals[self.groups[index]]
        return int(min(signal.shape[1] - self.starts[index], self.preprocessing.length))

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        record, start = int(self.groups[index]), int(self.starts[index])
        crop = self.signals[record][:, start : start + self.preprocessing.length]
        return {"inputs": self.preprocessing.scaled(crop), "target": _target(self.targets, record)}


class RecordData:
    """Three parts of labelled recordings.

    A recording that cannot be read or served is left out, counted, and named with its reason in `left_out.tsv`.

    Args:
        classes: names of the classes or labels.
        parts: the recordings for training, validation and testing.
        reading: how they become examples.
        facts: more lines for the report.
        left_out: recordings that are in no part, and why.

    Raises:
        InputError: a part has no recording that can be used.
    """

    def __init__(
        self,
        classes: list[str],
        parts: Mapping[str, Sequence[Labelled]],
        reading: Reading,
        *,
        facts: Mapping[str, int | str] | None = None,
        left_out: Mapping[str, str] | None = None,
    ):
        self.classes, self.facts, self.reading = classes, dict(facts or {}), reading
        self.left_out = dict(left_out or {})
        self.names: dict[str, list[str]] = {}
        read = {name: self._read(name, parts[name]) for name in PARTS}
        signals, _, targets = read["train"]
        settings = with_constants_of(signals, reading.preprocessing) if reading.measured else reading.preprocessing
        self.preprocessing = settings.config()
        self.reads = {"channels": len(settings.leads)}
        self.train = RandomCrops(signals, targets, settings)
        self.validation, self.test = (
            ConsecutiveCrops(*read[name], settings, aggregate=reading.aggregate) for name in PARTS[1:]
        )

    def _read(self, part: str, recordings: Sequence[Labelled]) -> tuple[list[Signal], list[list[int]], Targets]:
        signals, starts, used = [], [], []
        for each in recordings:
            try:
                signal, begins = self.reading.read(each.open())
            except InputError as error:
                self.left_out[each.name] = str(error)
                log.warning("left out: %s", error)
                continue
            signals.append(signal)
            starts.append(begins)
            used.append(each)
        if not used:
            reason = f" The first: {next(iter(self.left_out.values()))}" if recordings else ""
            raise InputError(f"data: none of the {len(recordings)} recordings for {part} can be used.{reason}")
        self.names[part] = [each.name for each in used]
        return signals, starts, np.array([each.target for each in used])

    def describe(self) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        for name in PARTS:
            split = getattr(self, name)
            counts = describe_targets(split.targets, self.classes)
            facts[name] = f"{len(split.signals)} recordings ({counts})"
        facts |= self.facts
        facts["recordings that could not be used, left out"] = len(self.left_out)
        for name, reason in list(self.left_out.items())[:_SHOWN]:
            facts[f"left out: {name}"] = reason
        return facts

    def export(self, model: Any, folder: Path) -> list[Picture]:
        """A table of the test recordings with their targets and probabilities, and one of what was left out."""
        target, probabilities = self.test.targets, self.predicted(model)
        columns: dict[str, Any] = {"recording": self.names["test"]}
        if target.ndim == 1:
            columns["true"] = [self.classes[i] for i in target]
        else:
            columns |= {f"true {name}": target[:, i].astype(int) for i, name in enumerate(self.classes)}
        columns |= {name: probabilities[:, i] for i, name in enumerate(self.classes)}
        write_table(folder / "test_predictions.tsv", columns)
        if self.left_out:
            write_table(folder / "left_out.tsv", {"recording": self.left_out, "reason": self.left_out.values()})
        return []

    def predicted(self, model: Any) -> NDArray[np.float32]:
        """Probabilities of each test recording `[M, n_class]`."""
        from helixwave.data import make_loader
        from helixwave.outputs import grouped_outputs, readable
        from helixwave.recipe import Batches

        predicts: Predicts = "class" if self.test.targets.ndim == 1 else "labels"
        device = next(model.parameters()).device
        temperature = getattr(model, "config", {}).get("calibration", {}).get("temperature", 1.0)
        with torch.inference_mode():
            pieces = [
                model(batch["inputs"].to(device), batch["lengths"].to(device)).cpu() / temperature
                for batch in make_loader(self.test, Batches(size=_AT_ONCE), seed=0)
            ]
        groups = torch.from_numpy(self.test.groups)
        outputs = grouped_outputs(torch.cat(pieces).float(), groups, predicts, self.reading.aggregate)
        return readable(outputs, predicts).numpy()


def read_as(
    *,
    rate: float,
    leads: list[str] | int,
    window: float,
    scale: Literal["window", "constants", "none"],
    mean: float | None,
    deviation: float | None,
    highpass: float | None,
    lowpass: float | None,
    stride: float | None = None,
    aggregate: Aggregate = "mean",
    resample: bool = False,
    missing_leads: Literal["error", "zero"] = "error",
) -> Reading:
    """How recordings become examples, from the arguments that all data sets of recordings have.

    Constants that are asked for and not given are measured on the training recordings.

    Raises:
        InputError: a value that makes no sense.
    """
    if (mean is None) != (deviation is None):
        raise InputError(f"data: mean is {mean} and deviation {deviation}, expected both of them or neither")
    given = {} if mean is None or deviation is None else {"mean": mean, "deviation": deviation}
    settings = Preprocessing(rate, lead_names(leads), window, scale, highpass=highpass, lowpass=lowpass, **given)
    return Reading(settings, scale == "constants" and not given, stride, aggregate, resample, missing_leads)


def with_constants_of(signals: Sequence[Signal], preprocessing: Preprocessing) -> Preprocessing:
    """The same, with the mean and the deviation of all known samples of all leads, as one number each."""
    known = [signal[~np.isnan(signal)].astype(np.float64) for signal in signals]
    count = max(sum(map(len, known)), 1)
    mean = sum(float(each.sum()) for each in known) / count
    square = sum(float(((each - mean) ** 2).sum()) for each in known) / count
    return replace(preprocessing, mean=mean, deviation=max(square**0.5, 1e-6))


def lead_names(leads: list[str] | int) -> list[str]:
    """Names of leads, or those of the set of so many leads.

    Raises:
        InputError: there is no set of so many.
    """
    if isinstance(leads, list):
        return leads
    if leads not in LEAD_SETS:
        raise InputError(f"data: leads is {leads}, expected names or one of {', '.join(map(str, LEAD_SETS))}")
    return list(LEAD_SETS[leads])


def describe_targets(targets: Targets, classes: Sequence[str]) -> str:
    """How often each class or label occurs, and which do not."""
    counts = np.bincount(targets, minlength=len(classes)) if targets.ndim == 1 else np.nansum(targets, axis=0)
    found = ", ".join(f"{count:.0f} {name}" for name, count in zip(classes, counts, strict=True) if count)
    absent = ", ".join(name for name, count in zip(classes, counts, strict=True) if not count)
    return "; ".join(filter(None, [found, f"no {absent}" if absent else ""]))


def _target(targets: Targets, index: int) -> int | NDArray[np.float32]:
    return int(targets[index]) if targets.ndim == 1 else targets[index]
