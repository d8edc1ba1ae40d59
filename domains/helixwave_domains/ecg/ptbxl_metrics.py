"""How sure a macro AUROC is: the bootstrap of the PTB-XL benchmark.

Source: Strodthoff et al., "Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL", 2021, and its code,
helme/ecg_ptbxl_benchmarking.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.ecg.challenge import Flags, Floats

Counts = NDArray[np.int64]

# counts of resamples that are held at once
_HELD = 2**20
# draws for each resample that is kept; a class with a single positive loses a third of them
_PATIENCE = 1_000


@dataclass(frozen=True)
class Interval:
    """A score of all recordings, and the quantiles of the same score over resamples of them."""

    value: float
    low: float
    high: float


def macro_auroc_interval(
    labels: Flags, probabilities: Floats, *, resamples: int = 1_000, coverage: float = 0.9, seed: int = 0
) -> Interval:
    """Macro AUROC with a bootstrap interval: recordings are drawn with replacement, as many as there are.

    Only resamples in which every class occurs and is missing at least once are kept. A class that does not do so in all
    recordings is left out.

    Args:
        labels: `[M, n_class]`.
        probabilities: `[M, n_class]`.
        resamples: how many are kept.
        coverage: of the interval; 0.9 gives the quantiles 0.05 and 0.95 of the benchmark.
        seed: of the draws.

    Raises:
        InputError: no such class, a NaN, or hardly any resample that could be kept.
    """
    labels, scores = np.asarray(labels, dtype=bool), np.asarray(probabilities, dtype=np.float64)
    if labels.shape != scores.shape or labels.ndim != 2 or np.isnan(scores).any():
        raise InputError(
            f"labels have the shape {list(labels.shape)}, probabilities {list(scores.shape)}: expected one and the "
            "same, [recordings, classes], without NaN"
        )
    varied = labels.any(axis=0) & ~labels.all(axis=0)
    if not varied.any():
        raise InputError("labels: no class occurs and is missing at least once, so there is no AUROC")
    labels, scores = labels[:, varied], scores[:, varied]
    everyone = np.ones((1, len(labels)), dtype=np.int64)
    drawn = [macro_aurocs(labels, scores, counts) for counts in bootstrap_counts(labels, resamples, seed)]
    low, high = np.quantile(np.concatenate(drawn), [(1 - coverage) / 2, (1 + coverage) / 2])
    return Interval(float(macro_aurocs(labels, scores, everyone)[0]), float(low), float(high))


def bootstrap_counts(labels: Flags, resamples: int, seed: int) -> Iterator[Counts]:
    """How often each recording is drawn, `[R, M]`, in resamples with every class of `labels` `[M, n_class]`."""
    rng, n = np.random.default_rng(seed), len(labels)
    positive, at_once = labels.astype(np.float64), min(max(1, _HELD // len(labels)), resamples)
    tried, found = 0, 0
    while found < resamples:
        if tried > _PATIENCE * resamples:
            raise InputError(
                f"bootstrap: only {found} of {tried} resamples have every class. Leave the rarest classes out"
            )
        counts = rng.multinomial(n, np.full(n, 1 / n), size=at_once)
        occurs = counts @ positive
        counts = counts[((occurs > 0) & (occurs < n)).all(axis=1)][: resamples - found]
        tried, found = tried + at_once, found + len(counts)
        if len(counts):
            yield counts


def macro_aurocs(labels: Flags, scores: Floats, counts: Counts) -> Floats:
    """Mean AUROC over the classes `[R]`, where recording `m` is there `counts[r, m]` times.

    Args:
        labels: `[M, n_class]`.
        scores: `[M, n_class]`.
        counts: `[R, M]`; every class occurs and is missing.
    """
    each = [_aurocs(*pair, counts) for pair in zip(labels.T, scores.T, strict=True)]
    return np.mean(each, axis=0)


def _aurocs(positive: Flags, scores: Floats, counts: Counts) -> Floats:
    """Of one class: how many negatives each positive is above, half of those beside it, over all pairs. `[R]`."""
    negative = np.flatnonzero(~positive)
    negative = negative[np.argsort(scores[negative], kind="stable")]
    below, up_to = (np.searchsorted(scores[negative], scores[positive], side=side) for side in ("left", "right"))
    passed = np.zeros((len(counts), len(negative) + 1), dtype=np.int64)
    np.cumsum(counts[:, negative], axis=1, out=passed[:, 1:])
    weight = counts[:, positive].astype(np.float64)
    won = (weight * (passed[:, below] + passed[:, up_to])).sum(axis=1) / 2
    return won / (weight.sum(axis=1) * passed[:, -1])
