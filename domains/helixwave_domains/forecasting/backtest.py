"""Rolling-origin evaluation: forecasts from several points of the past, beside the seasonal naive one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from helixwave.errors import InputError

from helixwave_domains.forecasting.panel_forecaster import Forecast, PanelForecaster
from helixwave_domains.forecasting.panels import Floats, Panel

Strategy = Literal["refit", "update", "once"]


@dataclass(frozen=True)
class Plan:
    """Which windows are forecast, and how.

    Args:
        horizon: steps of each window.
        windows: how many there are; the last ends with the series.
        step: steps from the beginning of one window to that of the next.
        strategy: whether the model is fitted anew before each window, updated, or fitted once and only told the values.
    """

    horizon: int
    windows: int
    step: int
    strategy: Strategy = "refit"

    def cuts(self) -> list[int]:
        """How many steps before the end of the series each window begins, the earliest first."""
        return [self.horizon + self.step * before for before in reversed(range(self.windows))]


@dataclass(frozen=True)
class Backtest:
    """Forecasts of W windows of N series with C targets, and what came.

    Args:
        panel: the series.
        plan: the windows.
        truth: `[W, N, H, C]`, NaN where missing.
        mean: the model's point forecasts, of the same shape.
        naive: the seasonal naive ones.
        levels: of the quantiles `[Q]`.
        quantiles: `[W, N, H, C, Q]`.
        scale: mean absolute error in sample of the seasonal naive forecast of each window `[W, N, C]`; NaN without one.
    """

    panel: Panel
    plan: Plan
    truth: Floats
    mean: Floats
    naive: Floats
    levels: Sequence[float]
    quantiles: Floats
    scale: Floats


def backtest(
    panel: Panel,
    plan: Plan,
    season: int,
    new_forecaster: Callable[[], PanelForecaster],
    levels: Sequence[float] = (),
    progress: Callable[[], None] = lambda: None,
) -> Backtest:
    """Forecast the windows of a plan, each from what came before it.

    Args:
        panel: with exogenous variables as they came, if it has any.
        plan: the windows.
        season: steps of a season, of the naive forecast and of the scale of MASE.
        new_forecaster: makes one that is not fitted.
        levels: of the quantiles.
        progress: called after each window.

    Raises:
        InputError: a series is too short for the plan, or the forecaster refuses.
    """
    if plan.horizon < 1 or plan.windows < 1 or plan.step < 1:
        raise InputError(
            f"{plan.windows} windows of {plan.horizon} steps, {plan.step} apart: expected at least 1 of each"
        )
    panels = [panel.without_end(cut) for cut in plan.cuts()]
    forecasts = []
    for forecast in _forecasts(panels, plan, new_forecaster, levels):
        forecasts.append(forecast)
        progress()
    return Backtest(
        panel,
        plan,
        np.stack([panel.last_values(cut, plan.horizon) for cut in plan.cuts()]),
        np.stack([forecast.mean for forecast in forecasts]),
        np.stack([[seasonal_naive(s.values, season, plan.horizon) for s in each.series] for each in panels]),
        levels,
        np.stack([forecast.quantiles for forecast in forecasts]),
        np.stack([[naive_error(s.values, season) for s in each.series] for each in panels]),
    )


def _forecasts(
    panels: list[Panel], plan: Plan, new_forecaster: Callable[[], PanelForecaster], levels: Sequence[float]
) -> Iterator[Forecast]:
    forecaster = new_forecaster()
    for number, panel in enumerate(panels):
        if number == 0 or plan.strategy == "refit":
            forecaster = new_forecaster()
            forecaster.fit(panel, plan.horizon)
        else:
            forecaster.read(panel, learn=plan.strategy == "update")
        yield forecaster.forecast(panel, plan.horizon, levels)


def seasonal_naive(values: Floats, season: int, horizon: int) -> Floats:
    """The last known value of the same season: `[T, C]` becomes `[horizon, C]`, NaN where none is known.

    A series shorter than a season repeats its last known value.
    """
    season = season if season <= len(values) else 1
    by_season = np.stack([_last_known(values[phase::season]) for phase in range(season)])
    return by_season[(len(values) + np.arange(horizon)) % season]


def naive_error(values: Floats, season: int) -> Floats:
    """Mean absolute difference of values `[T, C]` that are a season apart, `[C]`: the unit of MASE.

    NaN where no such pair is known, or all are equal.

    Source: Hyndman and Koehler, "Another look at measures of forecast accuracy", 2006, section 4.
    """
    apart = np.abs(values[season:] - values[:-season])
    known = ~np.isnan(apart)
    error = np.where(known, apart, 0).sum(0) / np.maximum(known.sum(0), 1)
    return np.where(error > 0, error, np.nan)


def _last_known(values: Floats) -> Floats:
    """Of each column of `[T, C]`."""
    known = ~np.isnan(values)
    last = len(values) - 1 - known[::-1].argmax(0)
    return values[last, np.arange(values.shape[1])]
