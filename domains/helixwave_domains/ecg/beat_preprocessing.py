"""From a recording and its R peaks to what a model of single beats reads."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.ecg.preprocessing import Inputs, Prepared, Preprocessing
from helixwave_domains.ecg.recording import Recording, Signal

# intervals are read from 0.8 s, 75 beats a minute; small beside the lead, as they help with few beats and mislead with
# those of another rhythm
_USUAL = 0.8
_N_INTERVAL = 3


@dataclass(frozen=True)
class BeatPreprocessing:
    """How a model reads a beat, stored in its checkpoint. Training and prediction go through the same code.

    A beat is a window around its R peak, each lead in millivolts from its median: its size tells beats apart. Beside
    the leads stand three channels that are constant along the window: seconds from the beat before less 0.8, seconds
    to the beat after less 0.8, and the logarithm of the one after over the one before; zero without such a beat.

    Args:
        rate: samples a second.
        leads: in the order in which the model reads them.
        before, after: seconds of the window before the R peak, and from there on.
        intervals: whether the model reads the intervals.
        kind: tells it from the preprocessing of whole recordings.

    Raises:
        InputError: a value that makes no sense.
    """

    rate: float = 360.0
    leads: list[str] = field(default_factory=lambda: ["II"])
    before: float = 102 / 360
    after: float = 154 / 360
    intervals: bool = True
    kind: Literal["beats"] = "beats"

    def __post_init__(self) -> None:
        if min(self.before, self.after) <= 0:
            raise InputError(f"preprocessing: before {self.before} and after {self.after}, expected seconds, above 0")
        # checks the others
        _ = self.window

    @cached_property
    def window(self) -> Preprocessing:
        """How the leads of one window are read."""
        length = (self.n_before + round(self.after * self.rate)) / self.rate
        return Preprocessing(rate=self.rate, leads=self.leads, window=length, scale="none")

    @property
    def n_before(self) -> int:
        """Samples of a window before its R peak."""
        return round(self.before * self.rate)

    @property
    def n_channel(self) -> int:
        """Channels of the inputs."""
        return len(self.leads) + _N_INTERVAL * self.intervals

    def inputs(
        self,
        recording: Recording,
        peaks: Sequence[int] | NDArray[np.int64],
        *,
        resample: bool = False,
        missing_leads: Literal["error", "zero"] = "error",
    ) -> Inputs:
        """What a model reads of the beats of a recording: `[M, T, C]`.

        Args:
            recording: as its file has it.
            peaks: samples of its R peaks, of all beats and in order, at its own rate.
            resample, missing_leads: as for `Prepared`.

        Raises:
            InputError: a rate or leads that the model cannot be served with, or peaks that are not in order.
        """
        at = np.asarray(peaks, dtype=np.int64)
        if np.any(np.diff(at) <= 0) or (len(at) and (at[0] < 0 or at[-1] >= recording.n_sample)):
            raise InputError(f"{recording.source}: R peaks have to be samples of the recording in rising order")
        prepared = Prepared(recording, self.window, resample, missing_leads)
        starts = np.rint(at * self.rate / recording.rate).astype(int) - self.n_before
        windows = np.array([_read(prepared, start) for start in starts.tolist()])
        seconds = np.diff(at, prepend=np.nan, append=np.nan) / recording.rate
        return self.of_windows(windows, np.stack([seconds[:-1], seconds[1:]], axis=1))

    def of_windows(self, windows: NDArray[np.float32], seconds: NDArray[np.float64]) -> Inputs:
        """The same of windows that were cut already.

        Args:
            windows: millivolts `[M, leads, T]`, NaN where nothing is known.
            seconds: to the beat before and to the beat after `[M, 2]`, NaN where there is none.
        """
        length = self.window.length
        inputs = np.zeros((len(windows), length, self.n_channel), dtype=np.float32)
        for i, window in enumerate(windows):
            inputs[i, :, : len(self.leads)] = self.window.scaled(_from_median(window))
        if self.intervals:
            inputs[:, :, len(self.leads) :] = interval_channels(np.asarray(seconds))[:, None, :]
        return inputs

    def config(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return asdict(self)


def interval_channels(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a model reads of the intervals before and after a beat: `[..., 2]` -> `[..., 3]`."""
    before, after = seconds[..., 0], seconds[..., 1]
    channels = np.stack([before - _USUAL, after - _USUAL, np.log(after / before)], axis=-1)
    return np.nan_to_num(channels)


def _from_median(window: Signal) -> Signal:
    """Each lead `[leads, T]` less the median of what is known of it."""
    known = ~np.isnan(window)
    medians = [np.median(lead[seen]) if seen.any() else 0 for lead, seen in zip(window, known, strict=True)]
    return window - np.array(medians, dtype=window.dtype)[:, None]


def _read(prepared: Prepared, start: int) -> Signal:
    """A window that may reach over an end of the recording, where nothing is known."""
    stop, n = start + prepared.preprocessing.length, prepared.n_sample
    inside = prepared.read(max(start, 0), min(stop, n))
    return np.pad(inside, ((0, 0), (max(-start, 0), max(stop - n, 0))), constant_values=np.nan)
