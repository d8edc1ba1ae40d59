"""Scores of each class as a picture with its table, for the report."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from helixwave.data import Picture
from helixwave.style import COLOURS, GREY, MARKERS, in_style, plain
from matplotlib.figure import Figure

from helixwave_domains.ecg.aami import BEATS, BeatScores, aami_beat_scores, beat_scores
from helixwave_domains.ecg.challenge import Floats, areas, f_measure


def diagnoses_picture(truth: Floats, probabilities: Floats, classes: Sequence[str]) -> Picture:
    """AUROC, AUPRC and F of each label.

    Args:
        truth: 0, 1 or NaN `[M, n_class]`.
        probabilities: `[M, n_class]`; above a half, a label is predicted.
        classes: names of the labels.
    """
    known, positive = ~np.isnan(truth), truth == 1
    scores = np.array([areas(positive[seen, i], probabilities[seen, i]) for i, seen in enumerate(known.T)])
    values = {"AUROC": scores[:, 0], "AUPRC": scores[:, 1], "F": f_measure(positive, (probabilities > 0.5) & known)}
    count = positive.sum(axis=0)
    table = {"class": list(classes), "recordings": known.sum(axis=0), "positive": count, **values}
    names = [f"{name} ({n})" for name, n in zip(classes, count, strict=True)]
    caption = (
        "Each label with the number of test recordings that have it: areas under the receiver operating characteristic "
        "and under precision and recall, and the F-measure of what is predicted with more than 0.5. What is not "
        "defined has no mark."
    )
    return Picture("Scores of each label", caption, _marks(values, names), table)


def beat_pictures(truth: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> list[Picture]:
    """Sensitivity, positive predictive value and F1 of each class of beats; of MIT-BIH symbols also in AAMI's classes.

    Args:
        truth: names of the true classes `[M]`.
        predicted: of those that are predicted `[M]`.
        classes: all names.
    """
    pictures = [_beats_picture(beat_scores(truth, predicted, classes), "Beats of each class")]
    if set(classes) <= set(BEATS):
        pictures.append(_beats_picture(aami_beat_scores(truth, predicted), "Beats in the classes of AAMI EC57"))
    return pictures


def _beats_picture(scores: BeatScores, title: str) -> Picture:
    count = scores.count.astype(int)
    table: dict[str, Iterable[Any]] = {"class": scores.classes, "beats": count, **scores.by_class}
    names = [f"{name} ({n})" for name, n in zip(scores.classes, count, strict=True)]
    titles = {"sensitivity": "sensitivity", "ppv": "positive predictive value", "f1": "F1"}
    marks = {titles[name]: values for name, values in scores.by_class.items()}
    macro = ", ".join(f"{titles[name]} {scores.macro[name]:.3f}" for name in titles)
    caption = (
        f"Each class with the number of its test beats. Means over the classes that occur: {macro}; "
        f"{100 * scores.macro['accuracy']:.1f} % of all beats are right. What is not defined has no mark."
    )
    return Picture(title, caption, _marks(marks, names), table)


@in_style
def _marks(values: Mapping[str, Floats], names: Sequence[str]) -> Figure:
    """A row for each name, a mark for each of its values."""
    figure = Figure(figsize=(6.2, 1.0 + 0.2 * len(names)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(names))
    axes.hlines(places, 0, 1, color=GREY, linewidth=0.4)
    for (name, each), colour, marker in zip(values.items(), COLOURS, MARKERS, strict=False):
        axes.plot(each, places, linestyle="none", marker=marker, markersize=4.5, color=colour, label=name)
    axes.set_yticks(places, [plain(name) for name in names])
    axes.set(xlim=(-0.01, 1.01), ylim=(len(names) - 0.5, -0.5))
    figure.legend(loc="outside upper right", ncols=len(values))
    return figure
