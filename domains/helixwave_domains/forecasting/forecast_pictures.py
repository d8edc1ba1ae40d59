"""Pictures of forecasts: series with intervals, errors by step, weights, and whether intervals hold what they say."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.data.source import Picture
from helixwave.files import atomic_write
from helixwave.style import COLOURS, DIVERGING, GREY, in_style, plain
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

from helixwave_domains.forecasting.backtest import Backtest
from helixwave_domains.forecasting.forecast_metrics import LEVELS, SERIES, TARGETS, WINDOWS, at, bounds, scores
from helixwave_domains.forecasting.panel_forecaster import Forecast
from helixwave_domains.forecasting.panels import Floats, Panel

Columns = dict[str, NDArray[Any]]

# panels of a figure, and how many horizons of history each shows
_MOST, _HISTORY = 12, 3


def save_picture(picture: Picture, path: Path) -> None:
    """Write a figure as PNG, SVG or PDF, by the ending of the name."""
    with atomic_write(path, "wb") as stream:
        picture.figure.savefig(stream, format=path.suffix[1:].lower(), dpi=150, bbox_inches="tight")


@in_style
def forecast_picture(panel: Panel, forecast: Forecast, levels: Sequence[float], coverages: Sequence[float]) -> Picture:
    """The end of each series, its forecast and central intervals; arguments as of `forecast_table`."""
    N, H, C = forecast.mean.shape
    drawn = [(n, c) for n in range(N) for c in range(C)][:_MOST]
    figure, grid = _figure(len(drawn))
    for axes, (n, c) in zip(grid, drawn, strict=True):
        series = panel.series[n]
        times, values = series.times[-_HISTORY * H :], series.values[-_HISTORY * H :, c]
        axes.plot(times, values, color="black", linewidth=1)
        ahead = panel.to_come(series, H)
        for number, coverage in enumerate(sorted(coverages, reverse=True)):
            lower, upper = (forecast.quantiles[n, :, c, at(levels, level)] for level in bounds(coverage))
            alpha = 0.2 + 0.6 * number / len(coverages)
            axes.fill_between(ahead, lower, upper, color=COLOURS[0], alpha=alpha, linewidth=0, label=f"{coverage:.0%}")
        axes.plot(ahead, forecast.mean[n, :, c], color=COLOURS[0], linestyle="-", label="forecast")
        axes.set_title(plain(_title(panel, n, c)))
        if times.dtype.kind == "M":
            locator = AutoDateLocator(minticks=3)
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    grid[0].legend()
    more = f" The first {_MOST} of {N * C} are drawn." if N * C > _MOST else ""
    caption = f"Forecasts of the next {H} steps with their intervals, behind the last {_HISTORY * H} known ones.{more}"
    return Picture("Forecast", caption, figure)


@in_style
def error_picture(result: Backtest, name: str) -> Picture:
    """Mean absolute error by step of the horizon, of the model and of the seasonal naive forecast."""
    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    table = _draw_errors(figure.subplots(), result, name)
    caption = (
        "Error by step of the horizon in units of the seasonal naive error in sample (MASE): means over all windows, "
    )
    return Picture("Error by step", f"{caption}series and targets.", figure, table)


@in_style
def calibration_pictures(result: Backtest) -> list[Picture]:
    """How often the truth lies in central intervals, and where among the quantiles; `LEVELS` are among its levels."""
    left, right = (Figure(figsize=(3.6, 3.2), layout="constrained") for _ in range(2))
    coverage = _draw_coverage(left.subplots(), result)
    ranks = _draw_ranks(right.subplots(), result)
    said = "The share of the truth within central intervals, against what they say. Below the dashed line: too narrow."
    even = (
        "Where the truth lies in the forecast distribution (its PIT). Even: calibrated; high ends: "
        "too narrow; a slope: too low or too high."
    )
    return [Picture("Coverage of intervals", said, left, coverage), Picture("PIT histogram", even, right, ranks)]


@in_style
def backtest_picture(result: Backtest, name: str) -> Picture:
    """Errors by step and, for a model with quantiles, both pictures of calibration side by side."""
    n_axes = 3 if len(result.levels) else 1
    figure = Figure(figsize=(4.2 * n_axes, 3.4), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, n_axes))
    table = _draw_errors(axes[0], result, name)
    if n_axes > 1:
        _draw_coverage(axes[1], result)
        _draw_ranks(axes[2], result)
    caption = f"{name} on {result.plan.windows} windows, beside the seasonal naive forecast."
    return Picture("Backtest", caption, figure, table)


@in_style
def weights_picture(weights: Sequence[Floats], names: Sequence[str]) -> Picture:
    """Heat maps of the weights `[H, L]` of a linear forecaster, for each target or one for all: its exact explanation.

    A row says what the forecast of one step is made of: how much each step of the context counts.
    """
    drawn = weights[:_MOST]
    figure, grid = _figure(len(drawn))
    for axes, each, name in zip(grid, drawn, names if len(weights) > 1 else ["all targets"], strict=False):
        H, L = each.shape
        most = np.quantile(np.abs(each), 0.999)
        image = axes.imshow(
            each, cmap=DIVERGING, vmin=-most, vmax=most, aspect="auto", extent=(-L + 0.5, 0.5, H + 0.5, 0.5)
        )
        axes.set(xlabel="step of the context (0: the last)", ylabel="step ahead", title=plain(name))
        figure.colorbar(image, ax=axes)
    caption = "What a forecast is made of: the weight of each step of the context (column) in each step ahead (row)."
    return Picture("Weights", caption, figure)


def _draw_errors(axes: Axes, result: Backtest, name: str) -> Columns:
    steps = np.arange(1, result.plan.horizon + 1)
    found = {who: each.mean((WINDOWS, SERIES, TARGETS)) for who, each in scores(result).items()}
    axes.plot(steps, found["model"]["mase"], label=plain(name))
    axes.plot(steps, found["naive"]["mase"], label="seasonal naive", color=GREY, linestyle="--")
    axes.set(xlabel="step", ylabel="MASE", title="Error by step", ylim=(0, None))
    axes.legend()
    columns = {f"{who}_{measure}": values for who, each in found.items() for measure, values in each.items()}
    return {"step": steps, **columns}


def _draw_coverage(axes: Axes, result: Backtest) -> Columns:
    nominal = np.asarray([level for level in LEVELS if level > 0.5]) * 2 - 1
    measured = scores(result, nominal.round(6).tolist())["model"].mean((0, 1, 2, 3))
    share = np.asarray([measured[f"coverage_{coverage:g}"] for coverage in nominal.round(6)])
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--")
    axes.plot(nominal, share, marker="o", markersize=4)
    axes.set(xlabel="nominal coverage", ylabel="share within", title="Coverage of intervals", xlim=(0, 1), ylim=(0, 1))
    return {"nominal": nominal, "share": share}


def _draw_ranks(axes: Axes, result: Backtest) -> Columns:
    quantiles = result.quantiles[..., [at(result.levels, level) for level in LEVELS]]
    known = ~np.isnan(result.truth)
    rank = (quantiles < result.truth[..., None]).sum(-1)[known]
    share = np.bincount(rank, minlength=len(LEVELS) + 1) / max(len(rank), 1)
    edges = np.asarray([0, *LEVELS, 1])
    axes.bar(edges[:-1], share / np.diff(edges), width=np.diff(edges), align="edge", edgecolor="white")
    axes.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
    axes.set(xlabel="probability integral transform", ylabel="density", title="PIT histogram", xlim=(0, 1))
    return {"from": edges[:-1], "to": edges[1:], "share": share}


def _figure(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with so many axes, in up to three columns."""
    n_column = min(count, 3)
    n_row = -(-count // n_column)
    figure = Figure(figsize=(4.4 * n_column, 2.6 * n_row), layout="constrained")
    grid = figure.subplots(n_row, n_column, squeeze=False).reshape(-1)
    for axes in grid[count:]:
        axes.remove()
    return figure, list(grid[:count])


def _title(panel: Panel, n: int, c: int) -> str:
    name, target = panel.series[n].name, panel.targets[c]
    return target if len(panel) == 1 else name if len(panel.targets) == 1 else f"{name}, {target}"
