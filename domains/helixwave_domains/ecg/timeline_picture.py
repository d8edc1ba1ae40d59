"""What a model says along a long recording: a heat map of probabilities over the hours."""

from collections.abc import Sequence

import numpy as np
from helixwave.style import SEQUENTIAL, in_style, plain
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# columns of a picture, and classes in it
_COLUMNS, _MOST = 800, 12
# seconds between marks of the time, up to a day
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)


@in_style
def timeline_picture(starts: Floats, probabilities: Floats, classes: Sequence[str], *, end: float) -> Figure:
    """Probabilities of each window by class and time; white where there is no window.

    A column of a picture that holds several windows shows the largest, so that a short episode of a long recording is
    seen. Of many classes those with the largest probabilities are drawn, which the title says.

    Args:
        starts: of the windows, in seconds and in order `[W]`.
        probabilities: `[W, n_class]`.
        classes: names.
        end: of the recording, in seconds.
    """
    drawn = np.sort(np.argsort(-probabilities.max(0), kind="stable")[:_MOST])
    columns, edges = in_columns(starts, probabilities[:, drawn], end)
    names = [plain(classes[i]) for i in drawn]
    figure = Figure(figsize=(9, 1.4 + 0.28 * len(names)), layout="constrained")
    axes = figure.subplots()
    mesh = axes.pcolormesh(
        edges, np.arange(len(names) + 1), columns.T, cmap=SEQUENTIAL, vmin=0, vmax=1, rasterized=True
    )
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MultipleLocator(next((step for step in _STEPS if end / step <= 9), end)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda second, _: _clock(second)))
    axes.set(xlabel="time in the recording (h:min:s)", xlim=(0, end))
    if len(classes) > len(names):
        axes.set_title(f"the {len(names)} of {len(classes)} classes with the largest probabilities")
    figure.colorbar(mesh, ax=axes, label="probability", pad=0.01)
    return figure


def in_columns(starts: Floats, probabilities: Floats, end: float) -> tuple[Floats, Floats]:
    """The largest probabilities of windows that begin in each column `[n, n_class]`, and the edges `[n + 1]`.

    No more columns than a picture has, and as many as windows if these are fewer.
    """
    if len(starts) <= _COLUMNS:
        return probabilities, np.append(starts, max(end, starts[-1]))
    edges = np.linspace(0, end, _COLUMNS + 1)
    column = np.clip(np.searchsorted(edges, starts, side="right") - 1, 0, _COLUMNS - 1)
    largest = np.full((_COLUMNS, probabilities.shape[1]), -np.inf)
    np.maximum.at(largest, column, probabilities)
    return np.where(np.isfinite(largest), largest, np.nan), edges


def _clock(second: float) -> str:
    minutes, seconds = divmod(round(second), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
