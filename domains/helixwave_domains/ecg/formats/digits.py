"""Millivolts as 16-bit numbers, for the formats that hold these."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helixwave_domains.ecg.recording import Recording, Signal

# samples that are converted at once
BLOCK = 1 << 17
MISSING = -32768
# the range of the digits, so that a range of whole microvolts belongs to it in every step below
LOWEST, HIGHEST = -32764, 32764
# microvolts: the first holds the usual steps of electrocardiographs exactly, the second the offset of an electrode
_STEPS = (0.25, 1.0)


@dataclass(frozen=True)
class Digits:
    """A recording as 16-bit numbers: microvolts are `centre + step * digit`, both `[leads]`, whole or a quarter."""

    recording: Recording
    steps: NDArray[np.float64]
    centres: NDArray[np.float64]

    def blocks(self) -> Iterator[NDArray[np.int16]]:
        """Digits `[leads, n]`, piece by piece; `MISSING` where nothing was recorded."""
        for signal in blocks_of(self.recording):
            made = np.rint((signal * 1e3 - self.centres[:, None]) / self.steps[:, None])
            yield np.where(np.isnan(made), MISSING, made).astype(np.int16)

    @property
    def coarse(self) -> list[str]:
        """What is lost where a lead has too large a range for the usual steps."""
        rows = zip(self.recording.leads, self.steps, strict=True)
        return [f"lead {lead} is kept in steps of {step:g} uV" for lead, step in rows if step > _STEPS[-1]]


def digits_of(recording: Recording) -> Digits:
    """The finest steps in which 16 bits hold each lead, and 0 mV."""
    low, high = np.zeros(len(recording.leads)), np.zeros(len(recording.leads))
    for signal in blocks_of(recording):
        low = np.fmin(low, np.fmin.reduce(signal * 1e3, axis=1))
        high = np.fmax(high, np.fmax.reduce(signal * 1e3, axis=1))
    centres = np.where(np.maximum(-low, high) < HIGHEST * _STEPS[0], 0, np.rint((low + high) / 2))
    reach = np.maximum(high - centres, centres - low) / HIGHEST
    steps = np.select([reach <= step for step in _STEPS], _STEPS, np.ceil(reach))
    return Digits(recording, steps, centres)


def blocks_of(recording: Recording) -> Iterator[Signal]:
    """The signal from its beginning to its end, piece by piece."""
    for start in range(0, recording.n_sample, BLOCK):
        yield recording.load(start, min(start + BLOCK, recording.n_sample))


def count_missing(recording: Recording) -> int:
    """How many values are missing."""
    return sum(int(np.isnan(signal).sum()) for signal in blocks_of(recording))


def not_kept(recording: Recording, kept: frozenset[str]) -> list[str]:
    """What a format has no place for: of labels, annotations, age and sex those that are there and not `kept`."""
    there = {
        "labels": bool(recording.labels),
        "annotations": bool(recording.annotations),
        "age": "age" in recording.facts,
        "sex": "sex" in recording.facts,
    }
    return [f"{name} cannot be kept in this format" for name, known in there.items() if known and name not in kept]
