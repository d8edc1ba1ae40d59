"""Figures that any domain's report can use. Only this file and the domains' own pictures import matplotlib."""

import base64
import io

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from helixwave.data.source import Picture

_ROC = "Receiver operating characteristic"


def as_svg(figure: Figure) -> str:
    """A figure as text that stands inside a page."""
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight")
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]


def as_png(figure: Figure) -> str:
    """A figure as a data URL; for pictures with too many marks for SVG."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110, bbox_inches="tight")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def confusion_picture(truth: np.ndarray, probabilities: np.ndarray, classes: list[str]) -> Picture:
    """Rows are true classes, in per cent of each row."""
    counts = confusion_matrix(truth, probabilities.argmax(-1), labels=range(len(classes)))
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(1.6 + 0.55 * len(classes), 1.2 + 0.5 * len(classes)))
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(share):
        axes.text(
            column,
            row,
            f"{100 * value:.0f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if value > 0.6 else "black",
        )
    names = [_plain(name) for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), names)
    axes.set(xlabel="predicted", ylabel="true")
    return Picture("Confusion matrix", "Per cent of each true class (row) that was predicted as each class.", figure)


def roc_picture(truth: np.ndarray, probabilities: np.ndarray, classes: list[str]) -> Picture:
    """One curve for each class against the rest; for two classes, of the second."""
    numbers = range(len(classes)) if len(classes) > 2 else [1]
    figure = _roc_figure({classes[i]: (truth == i, probabilities[:, i]) for i in numbers})
    return Picture(_ROC, "Each class against the rest, with the area under the curve.", figure)


def labels_roc_picture(truth: np.ndarray, probabilities: np.ndarray, labels: list[str]) -> Picture:
    """One curve for each label `[M, n_label]`; where the truth is NaN it is not scored."""
    known = ~np.isnan(truth)
    columns = {label: (truth[known[:, i], i] == 1, probabilities[known[:, i], i]) for i, label in enumerate(labels)}
    return Picture(_ROC, "Each label, with the area under the curve.", _roc_figure(columns))


def scatter_picture(truth: np.ndarray, predictions: np.ndarray, names: list[str], most: int = 2000) -> Picture:
    """Predictions `[M, n]` against the truth, at most so many points of each number."""
    figure = Figure(figsize=(4.2, 3.8))
    axes = figure.subplots()
    kept = np.linspace(0, len(truth) - 1, min(most, len(truth))).astype(int)
    for i, name in enumerate(names):
        axes.plot(truth[kept, i], predictions[kept, i], ".", markersize=3, label=_plain(name))
    axes.set(xlabel="true", ylabel="predicted")
    axes.legend(fontsize=8, frameon=False)
    return Picture("Predictions", "Each sequence or position of the test split: predicted against true.", figure)


def _roc_figure(curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """One curve for each name that has positives and negatives: which they are, and the scores."""
    figure = Figure(figsize=(4.2, 3.8))
    axes = figure.subplots()
    for name, (positive, scores) in curves.items():
        if positive.any() and not positive.all():
            false_rate, true_rate, _ = roc_curve(positive, scores)
            area = roc_auc_score(positive, scores)
            # the number first, because matplotlib hides what begins with an underscore
            axes.plot(*_thinned(false_rate, true_rate), label=f"{area:.3f} {_plain(name)}", linewidth=1.2)
    if axes.lines:
        axes.legend(fontsize=8, loc="lower right", frameon=False)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle="--")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.01))
    return figure


def learning_curves(history: list[dict[str, float]], monitor: str) -> Picture:
    """Loss on training and validation data and the monitored metric, by epoch."""
    figure = Figure(figsize=(7.5, 2.8))
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    for key, label in [("train_loss", "training"), ("val_loss", "validation")]:
        left.plot(epochs, [row[key] for row in history], label=label, marker=".", linewidth=1.2)
    left.set(xlabel="epoch", ylabel="loss")
    left.legend(fontsize=8, frameon=False)
    right.plot(epochs, [row[f"val_{monitor}"] for row in history], marker=".", linewidth=1.2, color="C2")
    right.set(xlabel="epoch", ylabel=f"validation {monitor}")
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.tight_layout()
    return Picture("Learning curves", "Training and validation loss, and the validation score, by epoch.", figure)


def _plain(name: str) -> str:
    """A name as matplotlib shows it letter by letter: a pair of dollar signs would begin a formula."""
    return name.replace("$", r"\$")


def _thinned(x: np.ndarray, y: np.ndarray, most: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """A curve with at most `most` points, the ends included."""
    kept = np.unique(np.linspace(0, len(x) - 1, min(most, len(x))).astype(int))
    return x[kept], y[kept]
