"""Pictures of a run on the long-horizon benchmarks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from helixwave.data import Picture
from helixwave.style import COLOURS, GREY, in_style
from matplotlib.figure import Figure

from helixwave_domains.forecasting.conformal import coverage
from helixwave_domains.forecasting.forecast_pictures import weights_picture
from helixwave_domains.forecasting.long_horizon import LongHorizon
from helixwave_domains.forecasting.window_statistics import Floats

if TYPE_CHECKING:
    from helixwave_domains.forecasting.benchmark_run import Run

# channels that are drawn, and test windows that calibration is seen by
_MOST, _WINDOWS = 4, 200
_NOMINAL = np.round(np.arange(0.1, 0.96, 0.1), 2)


def pictures(source: LongHorizon, runs: "list[Run]") -> list[Picture]:
    """All pictures of the forecast page."""
    first = runs[0]
    found = [forecasts_picture(source, first), errors_by_step(source, runs), calibration_picture(source, first)]
    if hasattr(first.forecaster, "weights"):
        found.append(weights_picture(first.forecaster.weights(), source.classes))
    return found


@in_style
def forecasts_picture(source: LongHorizon, run: "Run") -> Picture:
    """The forecast of a window in the middle of the test part, with its 50 % and 90 % intervals."""
    values, forecaster = source.y.to_numpy(), run.forecaster
    L, H = forecaster.context_, forecaster.horizon_
    origin = (source.borders.validation + len(values) - H) // 2
    ((forecast, _),) = forecaster.predict_windows(source.y.iloc[origin - L : origin + H])
    steps = np.arange(1, H + 1)
    names = source.classes[:_MOST]
    figure = Figure(figsize=(7, 1.9 * len(names)), layout="constrained")
    for c, (axes, name) in enumerate(zip(np.atleast_1d(figure.subplots(len(names), sharex=True)), names, strict=True)):
        axes.plot(np.arange(-min(L, 3 * H) + 1, H + 1), values[origin - min(L, 3 * H) : origin + H, c], color=GREY)
        axes.plot(steps, forecast[0, :, c], color=COLOURS[0])
        for share in (0.9, 0.5):
            low, high = (forecast[0, :, c] + forecaster.errors_.quantile(0.5 + s * share / 2)[:, c] for s in (-1, 1))
            axes.fill_between(steps, low, high, color=COLOURS[0], alpha=0.2, linewidth=0)
        axes.set_title(name)
    axes.set_xlabel("step")
    return Picture("A forecast", "A window in the middle of the test part; bands are 50 % and 90 % intervals.", figure)


@in_style
def errors_by_step(source: LongHorizon, runs: "list[Run]") -> Picture:
    """Squared error of each step ahead, one line for each horizon."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for run in runs:
        part = source.test_part(run.forecaster.context_)
        sums = [((f - t) ** 2).sum(0) for f, t in run.forecaster.predict_windows(part)]
        error = np.sum(sums, axis=0).mean(1) / (len(part) - run.forecaster.context_ - run.horizon + 1)
        axes.plot(np.arange(1, run.horizon + 1), error, label=f"{run.horizon} steps")
    axes.set(xlabel="step", ylabel="mean squared error", ylim=(0, None))
    axes.legend()
    return Picture("Error by step", "Squared error of each step ahead over all test windows.", figure)


@in_style
def calibration_picture(source: LongHorizon, run: "Run") -> Picture:
    """How often test values lie in the central intervals of the shortest horizon."""
    part = source.test_part(run.forecaster.context_)
    pairs = [*run.forecaster.predict_windows(part)]
    forecast, target = (np.concatenate(each)[:: max(1, len(part) // _WINDOWS)] for each in zip(*pairs, strict=True))
    share = [_share(run.forecaster, forecast, target, nominal) for nominal in _NOMINAL]
    figure = Figure(figsize=(3.4, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--")
    axes.plot(_NOMINAL, share, marker="o", markersize=4)
    axes.set(xlabel="nominal coverage", ylabel="share within", xlim=(0, 1), ylim=(0, 1))
    caption = "The share of test values within central intervals, against what they say. Below the dashes: too narrow."
    return Picture("Calibration of residuals", caption, figure, {"nominal": _NOMINAL, "within": share})


def _share(forecaster: object, forecast: Floats, target: Floats, nominal: float) -> float:
    errors = forecaster.errors_  # type: ignore[attr-defined]
    low, high = (forecast + errors.quantile(0.5 + sign * nominal / 2) for sign in (-1, 1))
    return coverage(low, high, target)


@in_style
def errors_over_time(errors: Mapping[int, Floats]) -> Picture:
    """Squared errors of the test windows in order of time."""
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    for horizon, each in errors.items():
        axes.plot(each, label=f"{horizon} steps", linewidth=0.8)
    axes.set(xlabel="test window", ylabel="mean squared error", ylim=(0, None))
    axes.legend()
    return Picture("Error over time", "Where in the test part forecasts are off: each window's squared error.", figure)
