"""How far forecasts are off on windows that they were not fitted to, as intervals for new ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from helixwave_domains.forecasting.window_statistics import Floats

Arrays: TypeAlias = dict[str, NDArray[Any]]

# order statistics that are kept of each step: a level is met to a 500th, and never undershot
KEPT = 500


class Errors(Protocol):
    """A distribution of errors; arrays are `[H, C]`: each step of each channel has its own."""

    @classmethod
    def of(cls, errors: Floats) -> Self:
        """From targets less forecasts on windows that were not fitted to, `[n, H, C]`."""

    def quantile(self, level: float) -> Floats:
        """What to add to a forecast so that a share `level` of what comes lies below."""


@dataclass(frozen=True)
class GaussianErrors:
    """Errors taken to be normal about 0.

    Args:
        sigma: root mean square, `[H, C]`.
    """

    sigma: Floats

    @classmethod
    def of(cls, errors: Floats) -> Self:
        return cls(np.sqrt(np.mean(errors**2, axis=0)).astype(np.float64))

    def quantile(self, level: float) -> Floats:
        return self.sigma * NormalDist().inv_cdf(level)


@dataclass(frozen=True)
class ConformalErrors:
    """Split-conformal intervals: the k-th least absolute error of n, k = ceil((n + 1) coverage), to both sides.

    They cover at least as often as they say where windows are exchangeable (Lei et al. 2018, theorem 2.2), whatever the
    distribution. Quantiles are the ends of central intervals, so that they never cross.

    Args:
        count: n, `[]`.
        ranks: of the order statistics that are kept, ascending, `[m]`.
        scores: absolute errors of these ranks, `[m, H, C]`.
    """

    count: NDArray[np.int64]
    ranks: NDArray[np.int64]
    scores: NDArray[np.float64]

    @classmethod
    def of(cls, errors: Floats) -> Self:
        n = len(errors)
        ranks = np.unique(np.ceil(np.linspace(1, n, min(KEPT, n))).astype(np.int64))
        return cls(np.array(n), ranks, np.sort(np.abs(errors), axis=0)[ranks - 1].astype(np.float64))

    def quantile(self, level: float) -> Floats:
        coverage, n = abs(2 * level - 1), int(self.count)
        if not coverage:
            return np.zeros_like(self.scores[0])
        rank = min(math.ceil((n + 1) * coverage), n)
        return math.copysign(1.0, level - 0.5) * self.scores[np.searchsorted(self.ranks, rank)]


ERRORS: dict[str, Any] = {"gaussian": GaussianErrors, "conformal": ConformalErrors}


def coverage(lower: Floats, upper: Floats, target: Floats) -> float:
    """The share of known targets within their intervals."""
    known = ~np.isnan(target)
    return float(((lower <= target) & (target <= upper))[known].mean())


def evenly(count: int, most: int) -> Sequence[int]:
    """Up to `most` of the numbers below `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
