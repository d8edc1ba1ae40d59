"""Beats in the five classes of ANSI/AAMI EC57, and how well a classifier tells them apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from helixwave.errors import InputError, nearest

from helixwave_domains.ecg.challenge import Floats, mean_of_defined, ratio

AAMI_CLASSES = {
    "N": "any beat that is in no other class",
    "S": "supraventricular ectopic beat",
    "V": "ventricular ectopic beat",
    "F": "fusion of a ventricular and a normal beat",
    "Q": "paced or unknown beat",
}

# every symbol of a beat in PhysioNet's files; supraventricular escape beats (e, j, n) are in N, as EC57 has it
_SYMBOLS = {"N": "NLRBejn", "S": "AaJS", "V": "VEr", "F": "F", "Q": "/fQ?"}

BEATS = {symbol: group for group, symbols in _SYMBOLS.items() for symbol in symbols}
"""The class of each symbol of a beat.

Source: ANSI/AAMI EC57; de Chazal et al., "Automatic Classification of Heartbeats Using ECG Morphology and Heartbeat
Interval Features", 2004, table 1.
"""

NON_BEATS = frozenset('~|sT*D"=p^t+u![]@x()')
"""Symbols of marks that are no beat: rhythm, noise, waves, flutter, comments, a P wave that is not conducted."""


@dataclass(frozen=True)
class BeatScores:
    """How well classes of beats are found.

    Args:
        classes: their names.
        count: true beats of each `[n_class]`.
        by_class: `sensitivity`, `ppv` (positive predictive value) and `f1`, `[n_class]`, NaN where one is not defined:
            no such beat, none predicted, neither.
        macro: the means of these over the classes that have true beats, a value that is not defined being 0; and
            `accuracy`, the share of all beats.
    """

    classes: tuple[str, ...]
    count: Floats
    by_class: dict[str, Floats]
    macro: dict[str, float]


def aami_class(symbol: str) -> str | None:
    """N, S, V, F or Q; None if the symbol marks no beat.

    Raises:
        InputError: the symbol is not one of PhysioNet's.
    """
    if symbol in NON_BEATS:
        return None
    if symbol not in BEATS:
        raise InputError(f"annotation: no symbol {symbol!r}. {nearest(symbol, BEATS)}")
    return BEATS[symbol]


def aami_beat_scores(truth: Sequence[str], predicted: Sequence[str]) -> BeatScores:
    """Scores in the classes N, S, V, F, Q of beats that have symbols `[M]`, such as `L` and `/`.

    Raises:
        InputError: a symbol that is no beat, or another number of predictions.
    """
    groups = [np.array([_beat(symbol) for symbol in symbols], dtype=str) for symbols in (truth, predicted)]
    return beat_scores(groups[0].tolist(), groups[1].tolist(), list(AAMI_CLASSES))


def beat_scores(truth: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> BeatScores:
    """Scores in `classes` of beats that have their names `[M]`.

    Raises:
        InputError: no beat, another number of predictions, or a name that is not among the classes.
    """
    if not len(truth) or len(truth) != len(predicted):
        raise InputError(f"beats: {len(truth)} true and {len(predicted)} predicted, expected as many, and at least one")
    unknown = sorted({*truth, *predicted}.difference(classes))
    if unknown:
        raise InputError(f"beats: {unknown[0]!r} is not among the classes. {nearest(unknown[0], classes)}")
    true, given = (np.asarray(names)[:, None] == np.asarray(classes) for names in (truth, predicted))
    hits, count, called = (flags.sum(axis=0) for flags in (true & given, true, given))
    by_class = {"sensitivity": ratio(hits, count), "ppv": ratio(hits, called), "f1": ratio(2 * hits, count + called)}
    macro = {name: mean_of_defined(np.nan_to_num(values[count > 0])) for name, values in by_class.items()}
    macro["accuracy"] = float(hits.sum() / len(truth))
    return BeatScores(tuple(classes), count.astype(np.float64), by_class, macro)


def _beat(symbol: str) -> str:
    group = aami_class(symbol)
    if group is None:
        raise InputError(f"beats: the symbol {symbol!r} marks no beat. Leave such annotations out")
    return group
