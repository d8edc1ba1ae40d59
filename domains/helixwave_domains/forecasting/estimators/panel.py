"""Pandas frames of one series or of a panel, as arrays on one grid of time, and back."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from helixwave_domains.forecasting.window_statistics import Floats

Key: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Series:
    """One series of a panel.

    Args:
        key: the levels of the index above time; empty for a series by itself.
        times: labels `[T]` of its steps.
        values: `[T, C]`, NaN where missing.
        exogenous: `[T, K]`, K = 0 without any.
    """

    key: Key
    times: pd.Index
    values: Floats
    exogenous: Floats

    def __len__(self) -> int:
        return len(self.values)

    def after(self, other: "Series") -> "Series":
        """This one behind another: its steps that come later than the other's last."""
        new = self.times > other.times[-1]
        return Series(
            self.key,
            other.times.append(self.times[new]),
            np.concatenate([other.values, self.values[new]]),
            np.concatenate([other.exogenous, self.exogenous[new]]),
        )

    def first(self, steps: int) -> "Series":
        """Its first steps."""
        return Series(self.key, self.times[:steps], self.values[:steps], self.exogenous[:steps])

    def last(self, steps: int) -> "Series":
        """Its last steps, all if it is shorter."""
        begin = max(0, len(self) - steps)
        return Series(self.key, self.times[begin:], self.values[begin:], self.exogenous[begin:])


def read_panel(y: pd.DataFrame, X: pd.DataFrame | None) -> list[Series]:
    """The series of a frame; those that end earlier than the last get missing values up to there."""
    series = [_series(key, rows, X) for key, rows in _rows(y)]
    end = max(each.times[-1] for each in series)
    return [_padded(each, end) for each in series]


def _rows(y: pd.DataFrame) -> Iterator[tuple[Key, pd.DataFrame]]:
    if y.index.nlevels == 1:
        yield (), y
        return
    levels = list(range(y.index.nlevels - 1))
    for key, rows in y.groupby(level=levels, sort=False):
        yield key if isinstance(key, tuple) else (key,), rows.droplevel(levels)


def _series(key: Key, rows: pd.DataFrame, X: pd.DataFrame | None) -> Series:
    values = rows.to_numpy(dtype=np.float64, na_value=np.nan)
    return Series(key, rows.index, values, exogenous_at(X, key, rows.index))


def exogenous_at(X: pd.DataFrame | None, key: Key, times: pd.Index) -> Floats:
    """Exogenous variables of a series at some times `[T, K]`, NaN where there are none."""
    if X is None:
        return np.zeros((len(times), 0))
    rows = X.xs(key, level=list(range(len(key)))) if key else X
    found: Floats = rows.reindex(times).to_numpy(dtype=np.float64, na_value=np.nan)
    return found


def _padded(series: Series, end: Any) -> Series:
    if series.times[-1] == end:
        return series
    missing = _grid(series.times, end)
    values, exogenous = (np.full((len(missing), part.shape[1]), np.nan) for part in (series.values, series.exogenous))
    return Series(series.key, missing, values, exogenous).after(series)


def _grid(times: pd.Index, end: Any) -> pd.Index:
    """Labels from the last of `times` to `end`."""
    if isinstance(times, pd.DatetimeIndex):
        return pd.date_range(times[-1], end, freq=frequency(times) or end - times[-1])
    if isinstance(times, pd.PeriodIndex):
        return pd.period_range(times[-1], end, freq=times.freq)
    return pd.RangeIndex(times[-1], end + 1)


def frequency(times: pd.Index) -> Any:
    """The step of the grid of time where pandas has a name for it, else the most usual; None for whole numbers."""
    if isinstance(times, pd.PeriodIndex):
        return times.freq
    if not isinstance(times, pd.DatetimeIndex) or len(times) < 2:
        return None
    if times.freq is not None or len(times) < 3:
        return times.freq or times[1] - times[0]
    return pd.infer_freq(times) or pd.Series(times).diff().mode()[0]


def following(cutoff: pd.Index, steps: int, freq: Any) -> pd.Index | None:
    """The next labels after the last one where the grid is plain, made at once; None where it is not."""
    if not isinstance(cutoff, pd.DatetimeIndex):
        return None
    offset = pd.tseries.frequencies.to_offset(freq)
    if offset is None or not offset.is_on_offset(cutoff[-1]):
        return None
    return pd.date_range(cutoff[-1], periods=steps + 1, freq=offset)[1:]


def filled(values: Floats) -> Floats:
    """Missing values between others by interpolation, at the ends the nearest; zeros where all are missing."""
    if not np.isnan(values).any():
        return values
    steps = np.arange(len(values))
    known = ~np.isnan(values)
    columns = zip(values.T, known.T, strict=True)
    return np.stack([np.interp(steps, steps[k], v[k]) if k.any() else np.zeros(len(v)) for v, k in columns], axis=1)


def write_panel(parts: list[tuple[Key, pd.Index, Floats]], names: list[Any], columns: pd.Index) -> pd.DataFrame:
    """Frames of several series one above the other; `names` are those of the index's levels."""
    frames = [pd.DataFrame(values, index=times, columns=columns) for _, times, values in parts]
    if parts[0][0] == ():
        return frames[0].rename_axis(index=names[0])
    keys = [key for (key, times, _) in parts for _ in range(len(times))]
    labels = [label for _, times, _ in parts for label in times]
    whole = pd.MultiIndex.from_tuples([(*key, label) for key, label in zip(keys, labels, strict=True)], names=names)
    return pd.concat(frames).set_axis(whole)
