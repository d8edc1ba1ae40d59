"""The scores of the PhysioNet/CinC Challenges 2020 and 2021, as their evaluation code defines them.

Source: Perez Alday et al., "Classification of 12-lead ECGs: the PhysioNet/Computing in Cardiology Challenge 2020",
2020; Reyna et al., "Will Two Do? Varying Dimensions in Electrocardiography", 2021.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.ecg.snomed import SINUS_RHYTHM, class_names, classes_named, reward_matrix, scored_classes

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ChallengeScores:
    """Scores of some recordings.

    Args:
        year: whose classes and measures they are.
        by_class: `auroc`, `auprc` and `f`, of 2020 also `f2` and `g2`: `[n_class]`, NaN where one is not defined.
        macro: the means of these over the classes for which they are defined, and `accuracy` (the share of recordings
            with every class right) and `challenge` (1: every class right; 0: always sinus rhythm).
    """

    year: int
    by_class: dict[str, Floats]
    macro: dict[str, float]


def challenge_scores(labels: Flags, outputs: Flags, probabilities: Floats, year: int = 2021) -> ChallengeScores:
    """All official scores.

    Args:
        labels: which classes each recording has, `[M, n_class]` in the order of `snomed.scored_classes`.
        outputs: which are predicted, `[M, n_class]`.
        probabilities: how likely each is, or any other number that grows with it, `[M, n_class]`; NaN counts as 0.
        year: 2020 or 2021.

    Raises:
        InputError: another year or shape, or no recording.
    """
    labels, outputs = _flags("labels", labels, year), _flags("outputs", outputs, year)
    numbers = np.asarray(probabilities, dtype=np.float64)
    if not labels.shape == outputs.shape == numbers.shape:
        shapes = ", ".join(str(list(each.shape)) for each in (labels, outputs, numbers))
        raise InputError(f"labels, outputs and probabilities have the shapes {shapes}: expected one and the same")
    found = [areas(*pair) for pair in zip(labels.T, np.where(np.isnan(numbers), 0, numbers).T, strict=True)]
    by_class = {"auroc": np.array([roc for roc, _ in found]), "auprc": np.array([pr for _, pr in found])}
    by_class["f"] = f_measure(labels, outputs)
    if year == 2020:
        by_class |= _beta_measures(labels, outputs)
    macro = {name: mean_of_defined(values) for name, values in by_class.items()}
    macro["accuracy"] = float((labels == outputs).all(axis=1).mean())
    macro["challenge"] = challenge_metric(labels, outputs, year)
    return ChallengeScores(year, by_class, macro)


def challenge_metric(labels: Flags, outputs: Flags, year: int = 2021) -> float:
    """The reward for all outputs `[M, n_class]`, scaled so that 1 is the labels' own and 0 that of always sinus rhythm.

    Outputs without any class get less than nothing. Where both ends are the same, it is 0.
    """
    labels, outputs = _flags("labels", labels, year), _flags("outputs", outputs, year)
    sinus = np.zeros_like(labels)
    sinus[:, class_names(year).index(SINUS_RHYTHM)] = True
    observed, correct, inactive = (_rewards(labels, given, year).sum() for given in (outputs, labels, sinus))
    return float((observed - inactive) / (correct - inactive)) if correct != inactive else 0.0


def label_matrix(codes: Iterable[Iterable[str]], year: int = 2021) -> Flags:
    """Which scored classes each recording has, `[M, n_class]`, from its codes; others are not scored."""
    rows = [sorted({number for code in each for number in classes_named(code, year)}) for each in codes]
    labels = np.zeros((len(rows), len(scored_classes(year))), dtype=bool)
    for row, numbers in enumerate(rows):
        labels[row, numbers] = True
    return labels


def in_classes(columns: Sequence[str], outputs: Flags, probabilities: Floats, year: int = 2021) -> tuple[Flags, Floats]:
    """Outputs and probabilities `[M, n_class]` of the scored classes from those of columns `[M, n_column]`.

    Columns have the names of codes or abbreviations, also several joined by `|`, in any order. Of columns that are one
    class, any output counts, and the mean of the probabilities. A class without a column is never predicted. A column
    that is not scored is left out. A probability that is not finite is 0; of 2020, infinity is kept and NaN is left out
    of the mean, and is 0 where nothing else is there.
    """
    n_class, n_record = len(scored_classes(year)), len(outputs)
    flags, numbers = np.zeros((n_record, n_class), dtype=bool), np.zeros((n_record, n_class))
    meant = [classes_named(column, year) for column in columns]
    for number in range(n_class):
        members = [place for place, classes in enumerate(meant) if number in classes]
        if members:
            flags[:, number] = np.asarray(outputs, dtype=bool)[:, members].any(axis=1)
            numbers[:, number] = _mean(np.asarray(probabilities, dtype=np.float64)[:, members], year)
    return flags, numbers


def areas(positive: Flags, scores: Floats) -> tuple[float, float]:
    """Areas under the receiver operating characteristic (trapezoids) and under precision and recall (steps).

    Args:
        positive: of one class `[M]`.
        scores: that should be greater where it is positive `[M]`; equal ones are one threshold.

    Returns:
        both; NaN where there is no positive, the first also where there is nothing else.
    """
    if not positive.any():
        return np.nan, np.nan
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last_of_tie = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    hits = np.cumsum(positive[order])[last_of_tie]
    alarms = last_of_tie + 1 - hits
    n_positive, n_negative = hits[-1], alarms[-1]
    rise = np.diff(hits, prepend=0) / n_positive
    average_precision = float((rise * hits / (hits + alarms)).sum())
    if not n_negative:
        return np.nan, average_precision
    specificity = 1 - alarms / n_negative
    before = np.append(1.0, specificity[:-1])
    return float((0.5 * rise * (specificity + before)).sum()), average_precision


def f_measure(labels: Flags, outputs: Flags) -> Floats:
    """`2 TP / (2 TP + FP + FN)` of each class `[n_class]`, NaN where it is neither there nor predicted."""
    hits = (labels & outputs).sum(axis=0)
    return ratio(2 * hits, labels.sum(axis=0) + outputs.sum(axis=0))


def mean_of_defined(values: Floats) -> float:
    """The mean without NaN; NaN where nothing else is there."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def ratio(part: NDArray[np.number], whole: NDArray[np.number]) -> Floats:
    """`part / whole`, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) != 0)


def _flags(name: str, given: Flags, year: int) -> Flags:
    n_class, flags = len(scored_classes(year)), np.asarray(given, dtype=bool)
    if flags.ndim != 2 or flags.shape[1] != n_class or not len(flags):
        raise InputError(
            f"{name} have the shape {list(flags.shape)}, expected [recordings, {n_class}] with the classes of "
            f"{year} in the order of snomed.scored_classes({year})"
        )
    return flags


def _rewards(labels: Flags, outputs: Flags, year: int) -> Floats:
    """Of each recording: the rewards of its pairs of true and predicted classes over the classes that are either."""
    either = np.maximum((labels | outputs).sum(axis=1), 1)
    return ((labels @ reward_matrix(year)) * outputs).sum(axis=1) / either


def _beta_measures(labels: Flags, outputs: Flags) -> dict[str, Floats]:
    """F and G with beta 2: a recording weighs the less the more labels it has."""
    weight = (1 / np.maximum(labels.sum(axis=1), 1))[:, None]
    hits, alarms, misses = (
        (weight * pair).sum(axis=0) for pair in (labels & outputs, outputs & ~labels, labels & ~outputs)
    )
    return {"f2": ratio(5 * hits, 5 * hits + alarms + 4 * misses), "g2": ratio(hits, hits + alarms + 2 * misses)}


def _mean(probabilities: Floats, year: int) -> Floats:
    """Of equivalent columns `[M, n]`: one number for each recording."""
    if year != 2020:
        return np.where(np.isfinite(probabilities), probabilities, 0).mean(axis=1)
    known = ~np.isnan(probabilities)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, probabilities, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.where(np.isnan(mean), 0, mean)
