"""One ECG as it was recorded, whatever file it came from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float32]
"""Millivolts `[leads, samples]`, NaN where nothing was recorded."""


@dataclass(frozen=True)
class Annotation:
    """A mark of the file: a beat, a rhythm that begins, a comment.

    Args:
        sample: where it stands, from 0.
        symbol: the code of WFDB, such as `N`, `V` or `+`.
        text: what stands beside it, such as `(AFIB`.
    """

    sample: int
    symbol: str
    text: str = ""


@dataclass(frozen=True)
class Recording:
    """One ECG. The signal is read when it is asked for, so that a day of it can be read piece by piece.

    Args:
        leads: canonical names in canonical order, see `leads`; leads of no known name follow as the file names them.
        rate: samples a second.
        n_sample: samples of each lead.
        load: millivolts `[leads, stop - start]` of the samples from `start` up to `stop`, in float32.
        source: the file.
        format: of the file: `WFDB`, `EDF`, `DICOM`, ...
        names: of the leads in the file, such as `MLII`.
        units: of the leads in the file and where they are said, such as `uV (header)` or `mV (declared)`.
        annotations: marks in the order of time.
        labels: codes of diagnoses; None where the file says nothing of them.
        facts: what the file says besides: age, sex, ...
        notes: what a reader left out or took for granted, for the user.
    """

    leads: tuple[str, ...]
    rate: float
    n_sample: int
    load: Callable[[int, int], Signal]
    source: Path
    format: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    annotations: tuple[Annotation, ...] = ()
    labels: tuple[str, ...] | None = None
    facts: Mapping[str, str | float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.n_sample / self.rate

    @property
    def signal(self) -> Signal:
        """All of it: millivolts `[leads, samples]`."""
        return self.load(0, self.n_sample)


def held(signal: Signal) -> Callable[[int, int], Signal]:
    """The `load` of a signal that is in memory."""
    return lambda start, stop: signal[:, start:stop]
