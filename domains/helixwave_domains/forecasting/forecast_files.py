"""Forecasts and errors as CSV or Parquet, each with a manifest that says what it was made from."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.errors import InputError
from helixwave.files import atomic_write
from numpy.typing import NDArray

from helixwave_domains.forecasting.backtest import Backtest
from helixwave_domains.forecasting.forecast_metrics import WINDOWS, at, bounds, scores
from helixwave_domains.forecasting.panel_forecaster import Forecast
from helixwave_domains.forecasting.panels import Floats, Panel
from helixwave_domains.forecasting.time_grid import written

_TABLES = (".csv", ".parquet")
_PICTURES = (".png", ".svg", ".pdf")

Table = dict[str, NDArray[Any]]
"""Columns `[R]` by name."""


@dataclass(frozen=True)
class Places:
    """Where results go.

    Args:
        table: forecasts or errors: NAME.csv or NAME.parquet.
        picture: of them: NAME.png, NAME.svg or NAME.pdf.
        weights: picture of the weights of a linear model.
        save: folder of the fitted model.
    """

    table: Path
    picture: Path | None = None
    weights: Path | None = None
    save: Path | None = None

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.table, self.picture, self.weights, self.save) if path]

    def expect_free(self, source: Path, overwrite: bool) -> None:
        """Check them before anything is computed.

        Raises:
            InputError: another ending, two outputs in one place, the input itself, or a file that is there.
        """
        for kinds, paths in ((_TABLES, [self.table]), (_PICTURES, [self.picture, self.weights])):
            for path in filter(None, paths):
                if path.suffix.lower() not in kinds:
                    raise InputError(f"{path}: expected a name that ends in {' or '.join(kinds)}")
        places = [path.resolve() for path in self.paths]
        for path, place in zip(self.paths, places, strict=True):
            if place == source.resolve():
                raise InputError(f"{path}: this is the input. Choose another output")
            if places.count(place) > 1:
                raise InputError(f"{path}: two outputs would go there. Choose another name for one")
            if path.exists() and not overwrite:
                raise InputError(f"{path}: is there already. Choose another output, or --overwrite")


def forecast_table(panel: Panel, forecast: Forecast, levels: Sequence[float], coverages: Sequence[float]) -> Table:
    """A row for each step of each target of each series, with the ends of central intervals.

    Args:
        panel: what was forecast.
        forecast: its next steps `[N, H, C]`.
        levels: of the forecast's quantiles, among them the ends of all intervals.
        coverages: of the intervals.
    """
    N, H, C = forecast.mean.shape
    times = np.stack([panel.to_come(series, H) for series in panel.series])
    shape = (N, C, H)
    table = {
        "id": np.broadcast_to(np.asarray([s.name for s in panel.series], dtype=object)[:, None, None], shape),
        "time": np.broadcast_to(times[:, None], shape),
        "step": np.broadcast_to(np.arange(1, H + 1), shape),
        "target": np.broadcast_to(np.asarray(panel.targets, dtype=object)[:, None], shape),
        "mean": forecast.mean.swapaxes(1, 2),
    }
    for coverage in coverages:
        for end, level in zip(("lower", "upper"), bounds(coverage), strict=True):
            table[f"{end}_{coverage:g}"] = forecast.quantiles[..., at(levels, level)].swapaxes(1, 2)
    return {name: column.reshape(-1) for name, column in table.items()}


def backtest_table(result: Backtest, coverages: Sequence[float]) -> Table:
    """A row for each step of each target of each series: mean errors over windows, of the model and the naive one."""
    by_step = {name: each.mean((WINDOWS,)) for name, each in scores(result, coverages).items()}
    shape = result.truth.shape[1:]
    names = np.asarray([series.name for series in result.panel.series], dtype=object)
    table: dict[str, Floats | NDArray[Any]] = {
        "id": np.broadcast_to(names[:, None, None], shape),
        "target": np.broadcast_to(np.asarray(result.panel.targets, dtype=object), shape),
        "step": np.broadcast_to(np.arange(1, shape[1] + 1)[:, None], shape),
        "windows": (~np.isnan(result.truth)).sum(WINDOWS),
        **by_step["model"],
        **{f"naive_{name}": values for name, values in by_step["naive"].items()},
    }
    return {name: column.swapaxes(1, 2).reshape(-1) for name, column in table.items()}


def write_table(path: Path, table: Table, manifest: Mapping[str, Any]) -> None:
    """Write a table as NAME.csv or NAME.parquet, and beside it `NAME.csv.manifest.json`.

    Raises:
        InputError: the disk is full, or Parquet needs a package that is not there.
    """
    rows = len(next(iter(table.values())))
    with atomic_write(path.with_name(f"{path.name}.manifest.json")) as stream:
        json.dump({"rows": rows, **manifest}, stream, indent=2, default=str)
    if path.suffix.lower() == ".parquet":
        _write_parquet(path, table)
        return
    with atomic_write(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(table)
        writer.writerows(zip(*map(_cells, table.values()), strict=True))


def _write_parquet(path: Path, table: Table) -> None:
    try:
        import pyarrow as pa
        from pyarrow.parquet import write_table as write
    except ImportError as error:
        raise InputError(f"{path}: writing Parquet needs pyarrow: pip install 'helixwave[forecasting]'") from error
    with atomic_write(path, "wb") as stream:
        write(pa.table({name: pa.array(column) for name, column in table.items()}), stream)


def _cells(column: NDArray[Any]) -> list[str]:
    if column.dtype.kind == "f":
        return ["" if math.isnan(value) else f"{value:.9g}" for value in column.tolist()]
    return written(column)
