"""From a recording to what a model reads: the leads, the rate, the filter and the scale that its checkpoint names."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from helixwave.errors import InputError
from helixwave.registry import check_arguments
from helixwave.signature import signature_of
from numpy.typing import NDArray
from scipy.signal import fftconvolve, firwin

from helixwave_domains.ecg.leads import expect_leads, with_leads
from helixwave_domains.ecg.recording import Recording, Signal
from helixwave_domains.ecg.resampling import Resampling

Inputs = NDArray[np.float32]
"""What a model reads of one window: `[T, C]`, time first, zeros where a lead or a sample is missing."""

# a lead that hardly moves is not blown up to the size of a heart beat, in millivolts
LEAST_SPREAD = 0.01
# the filters' cut-off frequencies are as sharp as this many periods of the lowest allow
_PERIODS = 1.5


@dataclass(frozen=True)
class Preprocessing:
    """How a recording is read by a model, stored in its checkpoint. Training and prediction go through the same code.

    Args:
        rate: samples a second.
        leads: in the order in which the model reads them.
        window: seconds that the model reads at once.
        scale: each lead of a window has mean 0 and deviation 1 (`window`), the constants `mean` and `deviation` are
            used for all (`constants`), or millivolts stay as they are (`none`).
        mean, deviation: of `constants`, in millivolts.
        highpass, lowpass: cut-off frequencies in Hz of a filter without delay; null: none.

    Raises:
        InputError: a value that makes no sense.
    """

    rate: float
    leads: list[str]
    window: float = 10.0
    scale: Literal["window", "constants", "none"] = "window"
    mean: float = 0.0
    deviation: float = 1.0
    highpass: float | None = None
    lowpass: float | None = None

    def __post_init__(self) -> None:
        expect_leads("preprocessing.leads", self.leads)
        _require(0 < self.rate <= 10_000, "rate", self.rate, "1 to 10,000 Hz")
        _require(0 < self.window * self.rate < 1e8, "window", self.window, "seconds, more than 0")
        _require(self.deviation > 0, "deviation", self.deviation, "more than 0")
        for name in ("highpass", "lowpass"):
            cut = getattr(self, name)
            _require(cut is None or 0 < cut < self.rate / 2, name, cut, f"0 to {self.rate / 2:g} Hz, half of the rate")
        both = self.highpass is not None and self.lowpass is not None
        _require(not both or self.highpass < self.lowpass, "highpass", self.highpass, "less than lowpass")  # type: ignore[operator]

    @property
    def length(self) -> int:
        """Samples of a window."""
        return max(1, round(self.window * self.rate))

    @cached_property
    def taps(self) -> NDArray[np.float64] | None:
        """The filter's impulse response, symmetric; None: no filter."""
        cuts = [cut for cut in (self.highpass, self.lowpass) if cut is not None]
        if not cuts:
            return None
        half = int(np.ceil(_PERIODS * self.rate / min(cuts)))
        kind = {1: "highpass" if self.highpass else "lowpass", 2: "bandpass"}[len(cuts)]
        return firwin(2 * half + 1, cuts, pass_zero=kind, fs=self.rate)

    def scaled(self, window: Signal) -> Inputs:
        """What a model reads of millivolts `[C, T]` at the right rate: `[T, C]`."""
        known = ~np.isnan(window)
        if self.scale == "window":
            count = np.maximum(known.sum(1, keepdims=True), 1)
            mean = np.where(known, window, 0).sum(1, keepdims=True, dtype=np.float64) / count
            spread = np.sqrt((np.where(known, window - mean, 0) ** 2).sum(1, keepdims=True) / count)
            window = (window - mean) / np.maximum(spread, LEAST_SPREAD)
        elif self.scale == "constants":
            window = (window - self.mean) / self.deviation
        return np.ascontiguousarray(np.where(known, window, 0).T, dtype=np.float32)

    def config(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return asdict(self)


def preprocessing_from(config: Mapping[str, Any], *, where: str) -> Preprocessing:
    """What `Preprocessing.config` gave, checked.

    Raises:
        InputError: an unknown or missing key, or a value of another type.
    """
    check_arguments(where, signature_of(Preprocessing), config)
    return Preprocessing(**config)


@dataclass(frozen=True)
class Prepared:
    """A recording with a model's leads, rate and filter, read window by window.

    Args:
        recording: as its file has it.
        preprocessing: the model's.
        resample: another rate is resampled, and not refused.
        missing_leads: leads that are neither there nor derived are zeros, or refused.

    Raises:
        InputError: a rate or leads that the model cannot be served with.
    """

    recording: Recording
    preprocessing: Preprocessing
    resample: bool = False
    missing_leads: Literal["error", "zero"] = "error"

    def __post_init__(self) -> None:
        found, wanted = self.recording.rate, self.preprocessing.rate
        if found != wanted and not self.resample:
            raise InputError(
                f"{self.recording.source}: it has {found:g} Hz, the model reads {wanted:g} Hz. Pass --resample "
                "(in Python: resample=True, in a recipe: data.resample=true)"
            )
        if not self.recording.n_sample:
            raise InputError(f"{self.recording.source}: it has no samples")

    @cached_property
    def resampled(self) -> Resampling:
        """The model's leads at the model's rate, unfiltered."""
        chosen = with_leads(self.recording, self.preprocessing.leads, missing=self.missing_leads)
        return Resampling(chosen, self.preprocessing.rate)

    @property
    def n_sample(self) -> int:
        """Samples at the model's rate."""
        return self.resampled.n_sample

    def read(self, start: int, stop: int) -> Signal:
        """Filtered millivolts `[C, stop - start]` in the model's leads and rate; NaN where nothing is known."""
        taps = self.preprocessing.taps
        if taps is None:
            return self.resampled.read(start, stop)
        half, n = len(taps) // 2, self.n_sample
        piece = self.resampled.read(max(start - half, 0), min(stop + half, n))
        piece = np.pad(piece, ((0, 0), (max(half - start, 0), max(stop + half - n, 0))), mode="edge")
        missing = np.isnan(piece)
        made = fftconvolve(np.where(missing, 0, piece), taps[None], mode="valid", axes=1).astype(np.float32)
        made[missing[:, half : half + stop - start]] = np.nan
        return made

    def starts(self, stride: int) -> list[int]:
        """Where windows begin; the last one ends with the recording, so that no sample is left out."""
        last = max(self.n_sample - self.preprocessing.length, 0)
        return [*range(0, last, stride), last]

    def windows(self, stride: int, *, at_once: int = 64) -> Iterator[tuple[int, Inputs]]:
        """The first sample of each window and what the model reads of it, in pieces of `at_once` windows."""
        starts, length = self.starts(stride), self.preprocessing.length
        for group in (starts[i : i + at_once] for i in range(0, len(starts), at_once)):
            piece = self.read(group[0], min(group[-1] + length, self.n_sample))
            for start in group:
                window = piece[:, start - group[0] : start - group[0] + length]
                yield start, self.preprocessing.scaled(window)


def _require(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise InputError(f"preprocessing.{name} is {value!r}, expected {expected}")
