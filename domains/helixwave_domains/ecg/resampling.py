"""Another sampling rate, piece by piece: a piece is what it would be in the whole."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from helixwave.errors import InputError
from scipy.signal import firwin, resample_poly

from helixwave_domains.ecg.recording import Recording, Signal

# taps of the filter on either side for each step of the coarser rate, as in scipy's own default
_REACH = 10
# a ratio of two rates with larger terms would need a filter of more taps than an ECG has samples
_LARGEST = 2_000


@dataclass(frozen=True)
class Resampling:
    """A recording at another rate, by a polyphase filter (Kaiser window, as `scipy.signal.resample_poly`).

    Before the first sample and behind the last, these are repeated. A missing value is replaced by its nearest
    neighbour, so that it cannot spread, and is missing again afterwards.

    Args:
        recording: what is read.
        rate: the wanted one.

    Raises:
        InputError: the two rates have no ratio of small whole numbers.
    """

    recording: Recording
    rate: float

    def __post_init__(self) -> None:
        exact = Fraction(self.rate).limit_denominator(10**6) / Fraction(self.recording.rate).limit_denominator(10**6)
        if max(self.ratio.numerator, self.ratio.denominator) > _LARGEST or abs(float(self.ratio / exact) - 1) > 1e-6:
            raise InputError(
                f"{self.recording.source}: {self.recording.rate:g} Hz cannot be resampled to {self.rate:g} Hz. Is the "
                "rate right? Convert it to a whole number of Hz"
            )

    @cached_property
    def ratio(self) -> Fraction:
        """Samples there are afterwards for each that there was."""
        wanted, found = (Fraction(rate).limit_denominator(10**6) for rate in (self.rate, self.recording.rate))
        return (wanted / found).limit_denominator(_LARGEST)

    @property
    def n_sample(self) -> int:
        """Samples at the new rate."""
        return -(-self.recording.n_sample * self.ratio.numerator // self.ratio.denominator)

    def read(self, start: int, stop: int) -> Signal:
        """Millivolts `[leads, stop - start]` of the samples `start` to `stop` at the new rate."""
        up, down = self.ratio.numerator, self.ratio.denominator
        if up == down:
            return self.recording.load(start, stop)
        # a piece begins where a sample of the one rate falls on one of the other
        margin = _REACH * max(up, down) // up + 1
        first = ((start * down // up - margin) // down) * down
        last = stop * down // up + margin + 1
        piece = self._extended(first, last)
        missing = np.isnan(piece)
        piece = np.where(missing, _nearest_known(piece), piece) if missing.any() else piece
        made = resample_poly(piece.astype(np.float64), up, down, axis=1, window=self._filter)
        offset = first * up // down
        made = made[:, start - offset : stop - offset].astype(np.float32)
        if missing.any():
            nearest = np.clip(np.rint(np.arange(start, stop) * down / up).astype(int) - first, 0, piece.shape[1] - 1)
            made[missing[:, nearest]] = np.nan
        return made

    @cached_property
    def _filter(self) -> np.ndarray:
        up, down = self.ratio.numerator, self.ratio.denominator
        largest = max(up, down)
        return firwin(2 * _REACH * largest + 1, 1 / largest, window=("kaiser", 5.0))

    def _extended(self, first: int, last: int) -> Signal:
        """Samples at the old rate, also from where there are none."""
        n = self.recording.n_sample
        inside = self.recording.load(max(first, 0), min(last, n))
        return np.pad(inside, ((0, 0), (max(-first, 0), max(last - n, 0))), mode="edge")


def _nearest_known(signal: Signal) -> Signal:
    """Each lead with every missing value replaced by the nearest known one, zeros where there is none."""
    filled = np.zeros_like(signal)
    for lead, values in enumerate(signal):
        known = np.flatnonzero(~np.isnan(values))
        if len(known):
            place = np.searchsorted(known, np.arange(len(values)))
            before, after = known[np.maximum(place - 1, 0)], known[np.minimum(place, len(known) - 1)]
            at = np.arange(len(values))
            filled[lead] = values[np.where(np.abs(at - before) <= np.abs(after - at), before, after)]
    return filled
