"""When frames are read: times in seconds from the beginning of a video, and which frame is seen at each."""

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

Times = NDArray[np.float64]
"""Seconds from the first frame of a video."""

# time stamps are fractions, seconds are not: what differs by less than this is the same time
SAME = 1e-6


def uniform_times(start: float, stop: float, n: int, rng: np.random.Generator | None = None) -> Times:
    """The middles of `n` equal parts of the time from `start` to `stop`, or a time drawn from each of them."""
    within = np.full(n, 0.5) if rng is None else rng.random(n)
    return start + (np.arange(n) + within) * (stop - start) / n


def dense_times(start: float, rate: float, n: int) -> Times:
    """`n` times from `start` on, `1 / rate` seconds apart."""
    return start + np.arange(n) / rate


def window_starts(duration: float, length: float, stride: float) -> Times:
    """Where windows begin that slide over a video; the last one ends with it, so that nothing is left out.

    Args:
        duration: seconds of the video; what is shorter than a window is one.
        length: seconds of a window.
        stride: seconds from one window to the next.

    Raises:
        InputError: a length or stride that is not more than 0.
    """
    for name, value in (("window", length), ("stride", stride)):
        if not 0 < value < np.inf:
            raise InputError(f"{name} is {value}, expected seconds, more than 0")
    last = max(duration - length, 0.0)
    return np.append(np.arange(0, last - SAME, stride), last)


def frames_at(stamps: Times, times: Times) -> NDArray[np.int64]:
    """Which frame is seen at each time: the last whose time stamp has come; before all of them the first.

    With this rule a video of any rate, constant or not, is resampled to any other.

    Args:
        stamps: when the frames begin to be shown, in order, at least one `[N]`.
        times: `[M]`.

    Returns:
        numbers of frames `[M]`.
    """
    return np.maximum(np.searchsorted(stamps, times + SAME, side="right") - 1, 0)
