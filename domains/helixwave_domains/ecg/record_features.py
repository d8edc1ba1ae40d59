"""What a cardiologist would measure first: how fast and how evenly a heart beats, and how large each lead is."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import periodogram

from helixwave_domains.ecg.beat_detection import detect, lead_of_beats
from helixwave_domains.ecg.recording import Signal

# Hz: waves P and T, the QRS complex, what is sharper, and muscle or mains
_BANDS = ((0.5, 5.0), (5.0, 15.0), (15.0, 30.0), (30.0, 50.0))
_TINY = 1e-9


def record_features(
    signals: Sequence[Signal], leads: Sequence[str], rate: float, amplitudes: bool = True
) -> NDArray[np.float64]:
    """Features of each recording `[M, F]`, of the rhythm and if asked of the leads; NaN is read as zero."""
    beats = lead_of_beats(leads)
    sizes = [lead_features(each, rate) if amplitudes else [] for each in signals]
    return np.array([[*rhythm_features(each[beats], rate), *size] for each, size in zip(signals, sizes, strict=True)])


def rhythm_features(lead: NDArray[np.float32], rate: float) -> list[float]:
    """Of the R peaks of a lead `[T]`: whether there are any, beats a minute, and how unlike their intervals are.

    The coefficient of variation, the same of successive differences, the share of these above 50 ms, and the shortest
    and the longest interval over the median. Zeros where there are too few.
    """
    intervals = np.diff(detect(lead, rate)) / rate
    if len(intervals) < 2:
        return [0.0] * 7
    mean, median, change = intervals.mean(), np.median(intervals), np.diff(intervals)
    return [
        1.0,
        60 / mean,
        intervals.std() / mean,
        float(np.sqrt((change**2).mean())) / mean,
        float((abs(change) > 0.05).mean()),
        intervals.min() / median,
        intervals.max() / median,
    ]


def lead_features(signal: Signal, rate: float) -> list[float]:
    """Of each lead `[C, T]`: spread, lowest and highest value from the median, roughness, shares of the spectrum."""
    leads = np.nan_to_num(signal.astype(np.float64))
    leads = leads - np.median(leads, axis=1, keepdims=True)
    frequencies, power = periodogram(leads, fs=rate, axis=1)
    total = power[:, frequencies >= _BANDS[0][0]].sum(1) + _TINY
    bands = [power[:, (low <= frequencies) & (frequencies < high)].sum(1) / total for low, high in _BANDS]
    roughness = abs(np.diff(leads, axis=1)).mean(1) * rate
    found = [np.log(leads.std(1) + 1e-3), leads.min(1), leads.max(1), np.log(roughness + 1e-3), *bands]
    return np.concatenate(found).tolist()
