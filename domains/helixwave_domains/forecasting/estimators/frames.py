"""Panels of arrays as the frames that sktime takes, and its forecasts as arrays."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helixwave_domains.forecasting.panels import Floats, Panel
from helixwave_domains.forecasting.time_grid import Frequency


def sktime_frames(panel: Panel) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Targets and exogenous variables as sktime takes them: an index of time, with names of series above it in a panel.

    Steps of months and longer are periods, whole numbers are counted; series are aligned at their ends.
    """
    y = _frame(panel, [series.values for series in panel.series], panel.targets, panel.last)
    if not panel.exogenous:
        return y, None
    X = [series.exogenous[: len(series)] for series in panel.series]
    return y, _frame(panel, X, panel.exogenous, panel.last)


def future_frame(panel: Panel, horizon: int) -> pd.DataFrame | None:
    """Exogenous variables of the next steps."""
    if not panel.exogenous:
        return None
    X = [series.exogenous[len(series) : len(series) + horizon] for series in panel.series]
    return _frame(panel, X, panel.exogenous, panel.last + horizon)


def forecast_array(forecast: pd.DataFrame, panel: Panel, horizon: int) -> Floats:
    """What a forecaster says of a panel `[N, H, n]`, n columns, in the order of the panel's series."""
    values = forecast.to_numpy(np.float64).reshape(-1, horizon, forecast.shape[1])
    if len(panel) == 1:
        return values
    order = forecast.index.get_level_values(0)[::horizon]
    return values[order.get_indexer([series.name for series in panel.series])]


def _frame(panel: Panel, parts: Sequence[Floats], columns: Sequence[str], end: int) -> pd.DataFrame:
    """Series one above the other in the order of their names, the last row of each at the position `end`."""
    order = np.argsort([series.name for series in panel.series])
    parts = [parts[n] for n in order]
    lengths = np.asarray(list(map(len, parts)))
    longest = int(lengths.max())
    times = _index(panel.frequency, np.arange(end - longest + 1, end + 1))
    if len(panel) == 1:
        return pd.DataFrame(parts[0], index=times.rename("time"), columns=list(columns))
    codes = [
        np.repeat(np.arange(len(parts)), lengths),
        np.concatenate([np.arange(longest - n, longest) for n in lengths]),
    ]
    names = pd.Index([panel.series[n].name for n in order])
    index = pd.MultiIndex([names, times], codes, names=["series", "time"])
    return pd.DataFrame(np.concatenate(parts), index=index, columns=list(columns))


def _index(frequency: Frequency, positions: NDArray[np.int64]) -> pd.Index:
    labels = frequency.labels(positions)
    match frequency.unit:
        case "n":
            return pd.RangeIndex(positions[0], positions[-1] + 1)
        case "MS" | "ME":
            return pd.PeriodIndex(labels, freq=f"{frequency.count}M")
        case "us":
            return pd.DatetimeIndex(labels, freq=pd.Timedelta(frequency.count, "us"))
        case "B":
            return pd.DatetimeIndex(labels, freq="B")
