"""The dynamical model of the ECG by McSharry et al., in twelve leads and for any sequence of heart beats.

A point goes round a circle once a beat; at five angles (P, Q, R, S, T) it is pushed up or down, and it is drawn back to
the baseline: `dz/dt = -sum_i a_i d_i exp(-d_i^2 / 2 b_i^2) - z`, where `d_i` is the angle from wave i. NeuroKit2 solves
these equations for each lead anew, in seconds, and brings every lead to one height; here the circle is walked exactly
and all leads are sums of the same five waves, in milliseconds. That both give the same ECG is tested.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

WAVES = ("P", "Q", "R", "S", "T")
# of each step a second; samples are every so many steps
_STEPS = 1000


@dataclass(frozen=True)
class Shape:
    """How the waves of a beat lie on the circle, at 60 beats a minute.

    Args:
        angles, widths: of the waves P, Q, R, S and T, in radians.
    """

    angles: tuple[float, ...] = (-np.pi * 70 / 180, -np.pi / 12, 0.0, np.pi / 12, np.pi * 100 / 180)
    widths: tuple[float, ...] = (0.25, 0.1, 0.1, 0.1, 0.4)

    def at(self, rate: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Angles and widths at another heart rate in beats a minute: waves do not shrink as much as pauses do."""
        factor = np.sqrt(rate / 60)
        spread = np.array([np.sqrt(factor), factor, 1, factor, np.sqrt(factor)])
        return np.array(self.angles) * spread, np.array(self.widths) * factor


def waves(
    peaks: NDArray[np.float64],
    seconds: float,
    rate: int,
    *,
    shape: Shape = Shape(),
    kept: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """The five waves, each alone and of height 1: `[5, seconds * rate]`.

    Source: McSharry et al., "A dynamical model for generating synthetic electrocardiogram signals", 2003, equation 1.

    Args:
        peaks: seconds of the R peaks, the first not behind 0 and the last not before the end.
        seconds: how long.
        rate: samples a second, a divisor of 1000.
        shape: of the beats.
        kept: which beats there are; None: all.
    """
    time = np.arange(round(peaks[0] * _STEPS), round(seconds * _STEPS)) / _STEPS
    turn = np.interp(time, peaks, np.arange(len(peaks)))
    angles, widths = shape.at(60 / float(np.diff(peaks).mean()))
    away = 2 * np.pi * turn - angles[:, None]
    # a wave belongs to the beat whose angle it is nearest to
    beat = np.round(away / (2 * np.pi))
    away -= 2 * np.pi * beat
    push = -away * np.exp(-0.5 * (away / widths[:, None]) ** 2)
    # exact for a push that is constant during a step
    decay = np.exp(-1 / _STEPS)
    gate = 1.0 if kept is None else kept[np.clip(beat, 0, len(peaks) - 1).astype(int)]
    height = lfilter([1 - decay], [1, -decay], push * gate, axis=1)
    height -= np.median(height, axis=1, keepdims=True)
    # a turn of one radian a second is 2 pi turns a minute: the height of one wave that is walked through once
    usual = widths**2 / (2 * np.pi / float(np.diff(peaks).mean()))
    return height[:, len(time) - round(seconds * _STEPS) :: _STEPS // rate] / usual[:, None]
