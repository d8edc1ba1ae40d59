"""Neighbouring rows of a series that become one."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helixwave_domains.forecasting.frame_options import JoinedBy
from helixwave_domains.forecasting.frame_rows import Rows
from helixwave_domains.forecasting.panels import Floats


def joined(rows: Rows, starts: NDArray[Any], how: JoinedBy) -> Rows:
    """One row for each group: targets and exogenous variables are joined where known, the rest is that of the first."""
    join = _last if how == "last" else _sum if how == "sum" else _mean
    first = rows.take(starts)
    return replace(first, values=join(rows.values, starts), exogenous=join(rows.exogenous, starts))


def _sum(values: Floats, starts: NDArray[Any]) -> Floats:
    known = np.add.reduceat(~np.isnan(values), starts, dtype=int)
    return np.where(known > 0, np.add.reduceat(np.nan_to_num(values), starts), np.nan)


def _mean(values: Floats, starts: NDArray[Any]) -> Floats:
    known = np.add.reduceat(~np.isnan(values), starts, dtype=int)
    return _sum(values, starts) / np.maximum(known, 1)


def _last(values: Floats, starts: NDArray[Any]) -> Floats:
    rows = np.arange(len(values))[:, None]
    firsts = np.repeat(starts, np.diff(starts, append=len(values)))[:, None]
    # of each group the number of the last row that is known, or of its first
    latest = np.maximum.reduceat(np.where(np.isnan(values), firsts, rows), starts)
    return np.take_along_axis(values, latest, axis=0)
