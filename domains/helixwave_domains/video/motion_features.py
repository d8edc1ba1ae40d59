"""What a practitioner measures first of a motion: size, shape and rhythm of each channel and of each vector."""

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from helixwave_domains.video.motion_augmentation import Series

Features = NDArray[np.float64]
Signals = NDArray[np.float64]
"""Channels `[T, C]` without gaps."""

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# cycles a step, in octaves
_BANDS = (0.0, 1 / 128, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 0.5)
_TINY = 1e-12


def motion_features(series: Sequence[Series], vectors: Sequence[Sequence[int]], points: int) -> Features:
    """Features of each series `[M, F]`.

    Args:
        series: `[T, C]` each; missing values are interpolated.
        vectors: the channels of each vector, whose length and turning count too.
        points: so many values of each channel at even distances are features as well.
    """
    return np.array([_features(filled(each), vectors, points) for each in series])


def filled(series: Series) -> Signals:
    """A series `[T, C]` whose gaps are bridged in a straight line; a channel without any value is zero."""
    signals = series.astype(np.float64)
    for channel in signals.T:
        known = np.flatnonzero(~np.isnan(channel))
        channel[:] = np.interp(np.arange(len(channel)), known, channel[known]) if len(known) else 0.0
    return signals


def _features(signals: Signals, vectors: Sequence[Sequence[int]], points: int) -> Features:
    lengths = [np.linalg.norm(signals[:, list(channels)], axis=1) for channels in vectors]
    speeds = [np.linalg.norm(_changes(signals[:, list(channels)]), axis=1) for channels in vectors]
    measured = np.stack([*signals.T, *lengths, *speeds], axis=1)
    turns = [_turning(signals[:, list(channels)]) for channels in vectors]
    found = [_statistics(measured), _spectrum(measured), _correlations(measured), *turns, _sampled(signals, points)]
    return np.concatenate(found)


def _changes(signals: Signals) -> Signals:
    """Differences of neighbouring steps, zero before the first `[T, C]`."""
    return np.diff(signals, axis=0, prepend=signals[:1])


def _statistics(signals: Signals) -> Features:
    """Of each channel: mean, spread, range, quantiles, energy, roughness and skewness."""
    centred = signals - signals.mean(0)
    deviation = signals.std(0)
    found = [
        signals.mean(0),
        deviation,
        signals.min(0),
        signals.max(0),
        *np.quantile(signals, _QUANTILES, axis=0),
        (signals**2).mean(0),
        abs(_changes(signals)).mean(0),
        (centred**3).mean(0) / (deviation**3 + _TINY),
    ]
    return np.concatenate(found)


def _spectrum(signals: Signals) -> Features:
    """Of each channel without its mean: the strongest frequency, its share of the power, and shares of octaves."""
    power = abs(np.fft.rfft(signals - signals.mean(0), axis=0)) ** 2
    frequencies = np.fft.rfftfreq(len(signals))
    total = power.sum(0) + _TINY
    inside = [(low < frequencies) & (frequencies <= high) for low, high in pairwise(_BANDS)]
    found = [frequencies[power.argmax(0)], power.max(0) / total, *(power[chosen].sum(0) / total for chosen in inside)]
    return np.concatenate(found)


def _correlations(signals: Signals) -> Features:
    """Of each pair of channels; zero where one never changes."""
    centred = signals - signals.mean(0)
    size = np.linalg.norm(centred, axis=0) + _TINY
    correlation = (centred / size).T @ (centred / size)
    return np.array([correlation[pair] for pair in combinations(range(signals.shape[1]), 2)])


def _turning(vector: Signals) -> Features:
    """How far the path of a vector turns from step to step: to the left, to the right, and in all."""
    changes = _changes(vector)[1:]
    if len(changes) < 2:
        return np.zeros(3)
    before, after = changes[:-1], changes[1:]
    # the plane of the first two axes gives the direction
    signed = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    angle = np.arctan2(signed, (before[:, :2] * after[:, :2]).sum(1))
    return np.array([angle.mean(), angle.std(), abs(angle).mean()])


def _sampled(signals: Signals, points: int) -> Features:
    """Values at even distances from the first step to the last, by linear interpolation."""
    times = np.linspace(0, len(signals) - 1, points)
    return np.concatenate([np.interp(times, np.arange(len(signals)), channel) for channel in signals.T])
