"""How good each lead of a recording is: reported, never mended and never dropped."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helixwave_domains.ecg.recording import Recording, Signal

# spectra and amplitudes are those of pieces of this many seconds, long enough to tell 0.5 Hz from 0
_PIECE = 8.0
# samples that are read at once
_BLOCK = 1 << 17

SHORTEST = 2.0
"""Seconds: less holds hardly two beats of a slow heart."""
FLAT = 1.0
"""Seconds of one value: between two beats an amplifier still shows noise."""
CLIPPED = 0.02, 5
"""Seconds and samples at the lead's extreme value: a peak is sharper, a limited one is cut off for longer."""
CLIPPED_RUNS = 3
"""So many runs at an extreme: one or two may be chance in coarse steps."""
OUTSIDE = 10.0
"""Millivolts: what electrocardiographs record is within this range, also with the offset of an electrode."""
AMPLITUDES = 0.02, 20.0
"""Millivolts from the lowest to the highest value of a piece: beyond, the unit is suspected to be another one."""
WANDER = 0.5
"""Hz: below the slowest heart rate that is usual; and the share of the power below it that hides the rest."""
HUM = 0.02
"""Millivolts of 50 or 60 Hz that thicken the line on ECG paper by 0.2 mm to either side."""
# by how much a peak of the mains stands above the spectrum beside it, in power
_ABOVE = 10.0
_MAINS = (50.0, 60.0)


@dataclass(frozen=True)
class LeadQuality:
    """What was found in one lead.

    Args:
        lead: its name.
        missing: share of the samples that are not there.
        flat: share in runs of one value that last `FLAT` seconds or more; longest_flat: seconds of the longest run.
        saturated: share in runs at the lowest or highest value of the lead.
        outside: share beyond `OUTSIDE` millivolts.
        amplitude: millivolts from the lowest to the highest value in a piece of 8 s, the median of all pieces.
        wander: share of the power that lies below `WANDER` Hz.
        hum: millivolts of the mains; hum_frequency: 50 or 60 Hz.
        flags: the findings that a user should know of.
    """

    lead: str
    missing: float
    flat: float
    longest_flat: float
    saturated: float
    outside: float
    amplitude: float
    wander: float
    hum: float
    hum_frequency: float
    flags: tuple[str, ...] = ()


def assess(recording: Recording) -> dict[str, LeadQuality]:
    """The quality of each lead by its name; the recording is read once, piece by piece."""
    length = max(min(round(_PIECE * recording.rate), recording.n_sample), 1)
    leads = [_Lead(name, recording.rate, length) for name in recording.leads]
    step = max(_BLOCK // length, 1) * length
    for start in range(0, recording.n_sample, step):
        signal = recording.load(start, min(start + step, recording.n_sample))
        for lead, values in zip(leads, signal, strict=True):
            lead.add(values)
    return {lead.name: lead.finding(recording.n_sample) for lead in leads}


@dataclass
class _Runs:
    """Runs of one value, across blocks; extremes with the runs at them."""

    rate: float
    flat: int = 0
    longest: int = 0
    lowest: float = math.inf
    highest: float = -math.inf
    clipped: dict[str, list[int]] = field(default_factory=lambda: {"low": [], "high": []})
    value: float = math.nan
    length: int = 0

    def add(self, values: Signal) -> None:
        """Go on with the next samples."""
        starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
        lengths = np.diff(np.append(starts, len(values)))
        heights = values[starts].astype(np.float64)
        if heights[0] == self.value:
            lengths[0] += self.length
        elif self.length:
            heights, lengths = np.append(self.value, heights), np.append(self.length, lengths)
        self.value, self.length = float(heights[-1]), int(lengths[-1])
        self._count(heights[:-1], lengths[:-1])

    def end(self) -> None:
        """Count the last run."""
        self._count(np.array([self.value]), np.array([self.length]))

    def _count(self, heights: NDArray[np.float64], lengths: NDArray[np.int_]) -> None:
        known = ~np.isnan(heights)
        heights, lengths = heights[known], lengths[known]
        if not len(heights):
            return
        self.longest = max(self.longest, int(lengths.max()))
        self.flat += int(lengths[lengths >= FLAT * self.rate].sum())
        seconds, samples = CLIPPED
        long = lengths >= max(seconds * self.rate, samples)
        if heights.min() < self.lowest:
            self.lowest, self.clipped["low"] = float(heights.min()), []
        if heights.max() > self.highest:
            self.highest, self.clipped["high"] = float(heights.max()), []
        self.clipped["low"] += lengths[long & (heights == self.lowest)].tolist()
        self.clipped["high"] += lengths[long & (heights == self.highest)].tolist()

    @property
    def saturated(self) -> int:
        """Samples at extremes that are met again and again."""
        return sum(sum(runs) for runs in self.clipped.values() if len(runs) >= CLIPPED_RUNS)


class _Lead:
    """What is summed up of one lead while it is read."""

    def __init__(self, name: str, rate: float, length: int):
        self.name, self.rate, self.length = name, rate, length
        self.missing = self.outside = self.pieces = 0
        self.runs = _Runs(rate)
        self.amplitudes: list[float] = []
        self.power = np.zeros(length // 2 + 1)

    def add(self, values: Signal) -> None:
        """Go on with the next samples."""
        self.missing += int(np.isnan(values).sum())
        self.outside += int((np.abs(values) > OUTSIDE).sum())
        self.runs.add(values)
        whole = len(values) // self.length
        pieces = values[: whole * self.length].reshape(whole, self.length).astype(np.float64)
        pieces = pieces[~np.isnan(pieces).any(axis=1)]
        self.amplitudes += np.ptp(pieces, axis=1).tolist() if len(pieces) else []
        pieces = (pieces - pieces.mean(axis=1, keepdims=True)) * np.hanning(self.length)
        self.power += (np.abs(np.fft.rfft(pieces, axis=1)) ** 2).sum(axis=0)
        self.pieces += len(pieces)

    def finding(self, n_sample: int) -> LeadQuality:
        """What all of it amounts to."""
        self.runs.end()
        hum, frequency = self._hum()
        n = max(n_sample, 1)
        found = LeadQuality(
            lead=self.name,
            missing=self.missing / n,
            flat=self.runs.flat / n,
            longest_flat=self.runs.longest / self.rate,
            saturated=self.runs.saturated / n,
            outside=self.outside / n,
            amplitude=float(np.median(self.amplitudes)) if self.amplitudes else math.nan,
            wander=self._wander(),
            hum=hum,
            hum_frequency=frequency,
        )
        return replace(found, flags=tuple(_flags(found, n_sample / self.rate)))

    @property
    def _frequencies(self) -> NDArray[Any]:
        return np.fft.rfftfreq(self.length, 1 / self.rate)

    def _wander(self) -> float:
        total = self.power[1:].sum()
        low = (self._frequencies > 0) & (self._frequencies < WANDER)
        return float(self.power[low].sum() / total) if total > 0 else 0.0

    def _hum(self) -> tuple[float, float]:
        """The larger of the two, 0 where nothing stands out or the rate is too low to tell."""
        found = [(self._tone(mains), mains) for mains in _MAINS if mains + 4 < self.rate / 2 and self.pieces]
        return max(found, default=(0.0, 0.0)) if any(height for height, _ in found) else (0.0, 0.0)

    def _tone(self, frequency: float) -> float:
        """Amplitude in millivolts of what stands above the spectrum beside it."""
        apart = np.abs(self._frequencies - frequency)
        peak, beside = self.power[apart <= 1], self.power[(apart > 2) & (apart < 4)]
        if not len(peak) or not len(beside) or peak.max() < _ABOVE * beside.mean():
            return 0.0
        # by Parseval's theorem a sine of amplitude A under a window w has A^2 / 4 * N * sum(w^2) on one side
        window = np.hanning(self.length)
        energy = (peak - beside.mean()).clip(0).sum() / self.pieces
        return float(np.sqrt(4 * energy / (self.length * (window**2).sum())))


def _flags(found: LeadQuality, seconds: float) -> Iterator[str]:
    if seconds < SHORTEST:
        yield "too short"
    if found.missing:
        yield "missing values"
    if found.flat:
        yield "flat"
    if found.saturated:
        yield "saturated"
    if found.outside:
        yield "out of range"
    if not found.flat and not AMPLITUDES[0] <= found.amplitude <= AMPLITUDES[1] and not math.isnan(found.amplitude):
        yield "wrong unit suspected"
    if found.wander > WANDER:
        yield "baseline wander"
    if found.hum > HUM:
        yield f"{found.hum_frequency:g} Hz hum"
