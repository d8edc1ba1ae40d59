"""Errors of forecasts `[W, N, H, C]` over windows, series, steps and targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from helixwave_domains.forecasting.backtest import Backtest
from helixwave_domains.forecasting.panels import Floats

Axes = tuple[int, ...]

WINDOWS, SERIES, STEPS, TARGETS = 0, 1, 2, 3

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Quantiles that show whether a forecast is calibrated."""


@dataclass(frozen=True)
class Scores:
    """Measures of one forecaster at each point, whose means over some axes are its errors.

    Args:
        points: by name of a measure, `[W, N, H, C]`, NaN where the truth or the measure is missing.
    """

    points: Mapping[str, Floats]

    def mean(self, axes: Axes) -> dict[str, Floats]:
        """Over axes of windows, series, steps and targets; RMSE is the root of a mean. NaN where nothing is known."""
        return {name: _mean(values, axes) ** (0.5 if name == "rmse" else 1) for name, values in self.points.items()}


def scores(result: Backtest, coverages: Sequence[float] = ()) -> dict[str, Scores]:
    """Measures of the model, named `model`, and of the seasonal naive forecast, `naive`.

    MAE, RMSE, MASE (in units of the seasonal naive error in sample), sMAPE (per cent, 0 to 200); of a model with
    quantiles also the pinball loss, the mean over their levels, and the share of the truth within central intervals.

    Args:
        result: the forecasts.
        coverages: of the intervals, whose two quantiles are among those of the result.
    """
    model = _point_scores(result, result.mean)
    if len(result.levels):
        model["pinball"] = pinball(result.truth, result.quantiles, result.levels).mean(-1)
    for coverage in coverages:
        lower, upper = (result.quantiles[..., at(result.levels, level)] for level in bounds(coverage))
        within = (lower <= result.truth) & (result.truth <= upper)
        model[f"coverage_{coverage:g}"] = np.where(np.isnan(result.truth), np.nan, within)
    return {"model": Scores(model), "naive": Scores(_point_scores(result, result.naive))}


def pinball(truth: Floats, quantiles: Floats, levels: Sequence[float]) -> Floats:
    """Pinball loss `[..., Q]` of quantiles `[..., Q]`: q (y - f) above a forecast f, (1 - q) (f - y) below it."""
    above = truth[..., None] - quantiles
    return np.maximum(np.asarray(levels) * above, (np.asarray(levels) - 1) * above)


def bounds(coverage: float) -> tuple[float, float]:
    """The levels of the two ends of a central interval."""
    return round((1 - coverage) / 2, 12), round((1 + coverage) / 2, 12)


def levels_of(coverages: Sequence[float]) -> list[float]:
    """The levels of the ends of central intervals, ascending."""
    return sorted({level for coverage in coverages for level in bounds(coverage)})


def at(levels: Sequence[float], level: float) -> int:
    """The place of a level."""
    return int(np.flatnonzero(np.isclose(levels, level, rtol=0, atol=1e-9))[0])


def _point_scores(result: Backtest, forecast: Floats) -> dict[str, Floats]:
    error = np.abs(result.truth - forecast)
    size = np.abs(result.truth) + np.abs(forecast)
    return {
        "mae": error,
        "rmse": error**2,
        "mase": error / result.scale[:, :, None],
        # two zeros are no error
        "smape": 200 * error / np.where(size == 0, 1, size),
    }


def _mean(values: Floats, axes: Axes) -> Floats:
    known = ~np.isnan(values)
    count = known.sum(axes)
    return np.where(count > 0, np.where(known, values, 0).sum(axes) / np.maximum(count, 1), np.nan)
