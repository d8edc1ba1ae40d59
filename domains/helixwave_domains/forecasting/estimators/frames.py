"""Panels of arrays as the frames that sktime takes, and its forecasts as arrays."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helixwave_domains.forecasting.panels import Floats, Panel
from helixwave_domains.forecasting.time_grid import Frequency


def sktime_frames(panel: Panel, horizon: int) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Targets and exogenous variables as sktime takes them: an index of time, with names of series above it in a panel.

    Steps of months and longer are periods, whole numbers are counted; series are aligned at their ends.
    """
    y = [series.values for series in panel.series]
    X = [series.exogenous[: len(series) + horizon] for series in panel.series]
    frames = (_frame(panel, y, 0, panel.targets), _frame(panel, X, horizon, panel.exogenous))
    return frames[0], frames[1] if panel.exogenous else None


def _frame(panel: Panel, parts: list[Floats], ahead: int, columns: Sequence[str]) -> pd.DataFrame:
    end = panel.last + ahead
    index = [_index(panel.frequency, np.arange(end - len(part) + 1, end + 1)) for part in parts]
    if len(panel) == 1:
        return pd.DataFrame(parts[0], index=index[0].rename("time"), columns=list(columns))
    names = np.repeat([series.name for series in panel.series], list(map(len, parts)))
    levels = pd.MultiIndex.from_arrays([names, index[0].append(index[1:])], names=["series", "time"])
    return pd.DataFrame(np.concatenate(parts), index=levels, columns=list(columns))


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


def forecast_array(forecast: pd.DataFrame, panel: Panel, horizon: int) -> Floats:
    """What a forecaster says of a panel `[N, H, n]`, n columns, in the order of the panel's series."""
    values = forecast.to_numpy(np.float64).reshape(-1, horizon, forecast.shape[1])
    if len(panel) == 1:
        return values
    order = forecast.index.get_level_values(0)[::horizon]
    return values[order.get_indexer([series.name for series in panel.series])]
