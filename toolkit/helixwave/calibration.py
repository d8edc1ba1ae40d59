"""Whether probabilities are what they say: of all that is predicted with 0.8, eight in ten should come true."""

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from helixwave.outputs import Predicts

# a handful of examples that are all predicted right would ask for certainty
_COLDEST, _HOTTEST = 0.25, 10.0
_TEMPERATURES = 400


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
        """95 % interval of the share in each bin `[2, n_bin]`, NaN in an empty one."""
        return wilson_interval(self.share, self.count)

    @property
    def error(self) -> float:
        """Expected calibration error: how far share and probability are apart, in the mean over all predictions.

        Source: Guo et al., "On Calibration of Modern Neural Networks", 2017, section 2.
        """
        filled = self.count > 0
        apart = np.abs(self.share[filled] - self.probability[filled])
        return float((self.count[filled] * apart).sum() / max(int(self.count.sum()), 1))


def wilson_interval(share: NDArray[np.float64], count: NDArray[np.int64]) -> NDArray[np.float64]:
    """Where a share of so many independent draws lies with 95 % confidence `[2, ...]`, NaN if there are none.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    z2 = 1.96**2
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = (share + z2 / (2 * count)) / (1 + z2 / count)
        spread = np.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
        half = np.sqrt(z2) * spread / (1 + z2 / count)
    return np.stack([centre - half, centre + half])


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


def fit_temperature(outputs: Tensor, target: Tensor, predicts: Predicts) -> float:
    """What logits `[M, n]` are divided by so that the targets are as likely as can be; from 1/4 to 10.

    Args:
        target: classes `[M]`, or labels `[M, n]` of 0 and 1, NaN where unknown.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017, section 4.2 (temperature scaling).
    """
    temperatures = np.geomspace(_COLDEST, _HOTTEST, _TEMPERATURES)
    if predicts == "labels":
        known = ~target.isnan()
        logits, truth = outputs[known].double(), target[known].double()
        losses = [float(F.binary_cross_entropy_with_logits(logits / t, truth)) for t in temperatures]
    else:
        losses = [float(F.cross_entropy(outputs.double() / t, target)) for t in temperatures]
    return round(float(temperatures[int(np.argmin(losses))]), 4) if len(outputs) else 1.0


def best_thresholds(probabilities: np.ndarray, truth: np.ndarray) -> list[float]:
    """For each label the probability from which on calling it there gives the highest F1; 1/2 for one that is never.

    Args:
        probabilities: `[M, n]`.
        truth: 0, 1 or, where unknown, NaN, `[M, n]`.
    """
    return [
        _best_threshold(p[known], t[known])
        for p, t in zip(probabilities.T, truth.T, strict=True)
        for known in [~np.isnan(t)]
    ]


def _best_threshold(probability: np.ndarray, truth: np.ndarray) -> float:
    """Half way between two neighbouring probabilities, so that rounding decides nothing."""
    if not truth.any():
        return 0.5
    order = np.argsort(-probability, kind="stable")
    p, hits = probability[order], np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(p) + 1) + truth.sum())
    # equal probabilities are called together
    last = np.append(p[1:] != p[:-1], True)
    best = int(np.argmax(np.where(last, f1, -1)))
    lower = p[best + 1] if best + 1 < len(p) else 0.0
    return round(float((p[best] + lower) / 2), 6)
