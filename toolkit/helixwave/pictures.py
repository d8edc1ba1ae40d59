"""Figures that any domain's report can use. Only this file, `style` and the domains' own pictures import matplotlib."""

import base64
import io
from collections.abc import Callable
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from helixwave.calibration import reliability, wilson_interval
from helixwave.data.source import Picture
from helixwave.style import GREY, SEQUENTIAL, in_style, plain

# more curves than this are drawn without a legend, which would hide them
_NAMED = 12
# from 0 to 1 without cutting a line in half
_UNIT = (-0.01, 1.01)

Curves = dict[str, tuple[np.ndarray, np.ndarray]]
"""By name of a class or label: which predictions it is true of `[M]`, and their probabilities `[M]`."""


def as_svg(figure: Figure) -> str:
    """A figure as text that stands inside a page."""
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight")
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]


def as_png(figure: Figure) -> str:
    """A figure as a data URL; for pictures with too many marks for SVG."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110, bbox_inches="tight")
    return _png_url(data.getvalue())


def as_animation(frames: np.ndarray, rate: float = 8.0) -> str:
    """Frames uint8 `[T, H, W]` or `[T, H, W, 3]`, so many a second and again from the start, as a data URL of a PNG."""
    from PIL import Image

    data = io.BytesIO()
    first, *rest = map(Image.fromarray, frames)
    first.save(data, format="png", save_all=True, append_images=rest, duration=1000 / rate, loop=0)
    return _png_url(data.getvalue())


def _png_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


@in_style
def confusion_picture(truth: np.ndarray, probabilities: np.ndarray, classes: list[str]) -> Picture:
    """Rows are true classes, in per cent of each row."""
    counts = confusion_matrix(truth, probabilities.argmax(-1), labels=range(len(classes)))
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(1.6 + 0.55 * len(classes), 1.2 + 0.5 * len(classes)))
    axes = figure.subplots()
    axes.imshow(share, cmap=SEQUENTIAL, vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(share):
        colour = "white" if value > 0.6 else "black"
        axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=8, color=colour)
    names = [plain(name) for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), names)
    axes.set(xlabel="predicted", ylabel="true")
    table = {"true": classes, **{name: counts[:, i] for i, name in enumerate(classes)}}
    caption = "Per cent of each true class (row) that was predicted as each class."
    return Picture("Confusion matrix", caption, figure, table)


@in_style
def accuracy_picture(truth: np.ndarray, probabilities: np.ndarray, classes: list[str]) -> Picture:
    """The share that was predicted right, of all `[M]` and of each true class, with 95 % intervals."""
    right = probabilities.argmax(-1) == truth
    chosen = [np.ones(len(truth), dtype=bool), *(truth == i for i in range(len(classes)))]
    count = np.array([int(rows.sum()) for rows in chosen])
    share = np.array([right[rows].sum() for rows in chosen]) / np.maximum(count, 1)
    share[count == 0] = np.nan
    low, high = wilson_interval(share, count)
    names = ["all", *classes]
    figure = Figure(figsize=(4.6, 0.9 + 0.28 * len(names)))
    axes = figure.subplots()
    axes.hlines(range(len(names)), low, high, linewidth=1)
    axes.plot(share, range(len(names)), linestyle="none", marker="o", markersize=4)
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set(xlabel="predicted right")
    axes.set_xlim(right=_UNIT[1])
    axes.invert_yaxis()
    table = {"class": names, "count": count, "share": share, "low": low, "high": high}
    caption = (
        f"{share[0]:.3f} of {count[0]} were predicted right, 95 % interval {low[0]:.3f} to {high[0]:.3f}; below, of "
        "each true class. Wilson's intervals, which take each prediction as independent of the others."
    )
    return Picture("Accuracy", caption, figure, table)


def class_curves(truth: np.ndarray, probabilities: np.ndarray, classes: list[str]) -> Curves:
    """Each class against the rest; of two classes, the second. Classes `[M]`, probabilities `[M, n_class]`."""
    numbers = range(len(classes)) if len(classes) > 2 else [1]
    return {classes[i]: (truth == i, probabilities[:, i]) for i in numbers}


def label_curves(truth: np.ndarray, probabilities: np.ndarray, labels: list[str]) -> Curves:
    """Each label where it is known: truth `[M, n_label]` is 0, 1 or NaN."""
    known = ~np.isnan(truth)
    return {label: (truth[known[:, i], i] == 1, probabilities[known[:, i], i]) for i, label in enumerate(labels)}


@in_style
def roc_picture(curves: Curves) -> Picture:
    """Receiver operating characteristics: one for each class or label that is both there and not."""

    def points(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        false_rate, true_rate, _ = roc_curve(positive, scores)
        return false_rate, true_rate, roc_auc_score(positive, scores)

    figure, axes = _square("false positive rate", "true positive rate")
    table = _draw(axes, curves, points)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--")
    _legend(axes, "lower right")
    caption = "One curve for each, with the area under it. Dashed: chance."
    return Picture("Receiver operating characteristic", caption, figure, table)


@in_style
def precision_recall_picture(curves: Curves) -> Picture:
    """Precision against recall: one curve for each class or label that is both there and not."""

    def points(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        precision, recall, _ = precision_recall_curve(positive, scores)
        return recall, precision, average_precision_score(positive, scores)

    figure, axes = _square("recall", "precision")
    table = _draw(axes, curves, points)
    if len(curves) == 1:
        axes.axhline(next(iter(curves.values()))[0].mean(), color=GREY, linewidth=0.8, linestyle="--")
    _legend(axes, "lower left")
    caption = "One curve for each, with its average precision." + (" Dashed: chance." if len(curves) == 1 else "")
    return Picture("Precision and recall", caption, figure, table)


@in_style
def calibration_picture(probability: np.ndarray, came_true: np.ndarray, what: str) -> Picture:
    """Reliability diagram of probabilities `[M]` and whether they came true `[M]`; `what` they are, for the caption."""
    found = reliability(probability, came_true)
    filled = found.count > 0
    figure = Figure(figsize=(4.2, 4.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--")
    x, share = found.probability[filled], found.share[filled]
    upper.vlines(x, *found.interval[:, filled], linewidth=1)
    upper.plot(x, share, linestyle="none", marker="o", markersize=4)
    upper.set(ylabel="came true", xlim=_UNIT, ylim=_UNIT, title=f"ECE {found.error:.3f}")
    lower.bar(found.edges[:-1], found.count, width=np.diff(found.edges), align="edge", edgecolor="white")
    lower.set(xlabel="predicted probability", ylabel="count")
    table = {
        "from": found.edges[:-1],
        "to": found.edges[1:],
        "count": found.count,
        "mean_probability": found.probability,
        "came_true": found.share,
    }
    caption = (
        f"{what}, in bins: the share that came true, with its 95 % interval, against the mean probability. Below the "
        "dashed line: too sure. ECE: the expected calibration error."
    )
    return Picture("Calibration", caption, figure, table)


@in_style
def scatter_picture(truth: np.ndarray, predictions: np.ndarray, names: list[str], most: int = 2000) -> Picture:
    """Predictions `[M, n]` against the truth, at most so many points of each number."""
    figure, axes = _square("true", "predicted")
    kept = np.linspace(0, len(truth) - 1, min(most, len(truth))).astype(int)
    for i, name in enumerate(names):
        axes.plot(truth[kept, i], predictions[kept, i], ".", markersize=3, label=plain(name))
    axes.legend()
    columns = [("true", truth), ("predicted", predictions)]
    table = {f"{name} {kind}": values[kept, i] for i, name in enumerate(names) for kind, values in columns}
    caption = "Each sequence or position of the test split: predicted against true."
    return Picture("Predictions", caption, figure, table)


@in_style
def learning_curves(history: list[dict[str, float]], monitor: str) -> Picture:
    """Loss on training and validation data and the monitored metric, by epoch."""
    figure = Figure(figsize=(7.5, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    for key, label in [("train_loss", "training"), ("val_loss", "validation")]:
        left.plot(epochs, [row[key] for row in history], label=label, marker=".")
    left.set(xlabel="epoch", ylabel="loss")
    left.legend()
    right.plot(epochs, [row[f"val_{monitor}"] for row in history], marker=".", color="C2")
    right.set(xlabel="epoch", ylabel=f"validation {monitor}")
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
    return Picture("Learning curves", "Training and validation loss, and the validation score, by epoch.", figure)


def _square(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.2, 3.8))
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y)
    return figure, axes


def _draw(
    axes: Axes, curves: Curves, points: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, float]]
) -> dict[str, np.ndarray]:
    """Draw a curve for each name that has both positives and negatives; what is drawn, as columns."""
    names, drawn = [np.empty(0, dtype=str)], [np.empty((2, 0))]
    for name, (positive, scores) in curves.items():
        if positive.any() and not positive.all():
            x, y, area = points(positive, scores)
            x, y = _thinned(x, y)
            # the number first, because matplotlib hides what begins with an underscore
            axes.plot(x, y, label=f"{area:.3f} {plain(name)}")
            names.append(np.full(len(x), name))
            drawn.append(np.stack([x, y]))
    axes.set(xlim=_UNIT, ylim=_UNIT)
    columns = np.concatenate(drawn, axis=1)
    x_name, y_name = (label.replace(" ", "_") for label in (axes.get_xlabel(), axes.get_ylabel()))
    return {"name": np.concatenate(names), x_name: columns[0], y_name: columns[1]}


def _legend(axes: Axes, place: Literal["lower left", "lower right"]) -> None:
    if 0 < len(axes.get_legend_handles_labels()[0]) <= _NAMED:
        axes.legend(loc=place)


def _thinned(x: np.ndarray, y: np.ndarray, most: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """A curve with at most `most` points, the ends included."""
    kept = np.unique(np.linspace(0, len(x) - 1, min(most, len(x))).astype(int))
    return x[kept], y[kept]
