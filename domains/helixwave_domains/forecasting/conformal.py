"""How far forecasts are off on windows that they were not fitted to, as intervals for new ones."""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from helixwave_domains.forecasting.window_statistics import Floats

# order statistics that are kept of each step: a level is met to a 500th, and never undershot
KEPT = 500


class Errors(Protocol):
    """A distribution of errors; arrays are `[H, C]`: each step of each channel has its own."""

    def quantile(self, level: float) -> Floats:
        """What to add to a forecast so that a share `level` of what comes lies below."""

    def sigma(self) -> Floats:
        """The standard deviation."""


class GaussianErrors:
    """Errors taken to be normal about 0.

    Args:
        errors: target less forecast on other windows, `[n, H, C]`.
    """

    def __init__(self, errors: NDArray[np.floating]):
        self._sigma = np.sqrt(np.mean(np.square(errors, dtype=np.float64), axis=0))

    def quantile(self, level: float) -> Floats:
        return self._sigma * NormalDist().inv_cdf(level)

    def sigma(self) -> Floats:
        return self._sigma


class ConformalErrors:
    """Split-conformal intervals: the k-th least absolute error of n, k = ceil((n + 1) coverage), to both sides.

    They cover at least as often as they say where windows are exchangeable (Lei et al. 2018, theorem 2.2), whatever the
    distribution. Quantiles are the ends of the central intervals, so that they never cross.
    """

    def __init__(self, errors: NDArray[np.floating]):
        self._count = len(errors)
        self._sigma = np.sqrt(np.mean(np.square(errors, dtype=np.float64), axis=0))
        ordered = np.sort(np.abs(errors), axis=0)
        ranks = np.unique(np.ceil(np.linspace(1, self._count, min(KEPT, self._count))).astype(int))
        self._ranks, self._scores = ranks, ordered[ranks - 1].astype(np.float32)

    def quantile(self, level: float) -> Floats:
        coverage = abs(2 * level - 1)
        rank = min(max(math.ceil((self._count + 1) * coverage), 1), self._count)
        score = self._scores[np.searchsorted(self._ranks, rank)]
        return math.copysign(1.0, level - 0.5) * score.astype(np.float64) if coverage else np.zeros_like(self._sigma)

    def sigma(self) -> Floats:
        return self._sigma


KINDS_OF_ERRORS: dict[str, Callable[[NDArray[np.floating]], Errors]] = {
    "gaussian": GaussianErrors,
    "conformal": ConformalErrors,
}


def coverage(lower: Floats, upper: Floats, target: Floats) -> float:
    """The share of known targets within their intervals."""
    known = ~np.isnan(target)
    return float(((lower <= target) & (target <= upper))[known].mean())


def evenly(count: int, most: int) -> Sequence[int]:
    """Up to `most` of the numbers below `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
