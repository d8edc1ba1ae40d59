"""Whether probabilities are what they say: of all that is predicted with 0.8, eight in ten should come true."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Reliability:
    """Predictions in bins of equal width, from 0 to 1.

    Args:
        edges: of the bins `[n_bin + 1]`.
        count: predictions in each bin `[n_bin]`.
        probability: their mean in each bin, NaN in an empty one.
        share: how many of them came true, NaN in an empty one.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    probability: NDArray[np.float64]
    share: NDArray[np.float64]

    @property
    def interval(self) -> NDArray[np.float64]:
        """Wilson's 95 % interval of the share in each bin `[2, n_bin]`, NaN in an empty one.

        Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
        """
        z2 = 1.96**2
        with np.errstate(divide="ignore", invalid="ignore"):
            centre = (self.share + z2 / (2 * self.count)) / (1 + z2 / self.count)
            spread = np.sqrt(self.share * (1 - self.share) / self.count + z2 / (4 * self.count**2))
            half = np.sqrt(z2) * spread / (1 + z2 / self.count)
        return np.stack([centre - half, centre + half])

    @property
    def error(self) -> float:
        """Expected calibration error: how far share and probability are apart, in the mean over all predictions.

        Source: Guo et al., "On Calibration of Modern Neural Networks", 2017, section 2.
        """
        filled = self.count > 0
        apart = np.abs(self.share[filled] - self.probability[filled])
        return float((self.count[filled] * apart).sum() / max(int(self.count.sum()), 1))


def reliability(probability: np.ndarray, came_true: np.ndarray, n_bin: int = 15) -> Reliability:
    """Compare probabilities `[M]` with what came true `[M]`.

    A probability on an edge counts in the bin below it, 0 in the first, as in the paper.
    """
    edges = np.linspace(0, 1, n_bin + 1)
    bins = np.clip(np.searchsorted(edges, probability, side="left") - 1, 0, n_bin - 1)
    count = np.bincount(bins, minlength=n_bin)
    with np.errstate(invalid="ignore"):
        means = (np.bincount(bins, weights=values, minlength=n_bin) / count for values in (probability, came_true))
        return Reliability(edges, count, *means)
