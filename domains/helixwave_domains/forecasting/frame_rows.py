"""Series in long and wide frames: which columns are what, and the rows of each series."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.forecasting.frame_options import Cells, Columns, frame_name
from helixwave_domains.forecasting.frames import Table, read_table
from helixwave_domains.forecasting.panels import Floats
from helixwave_domains.forecasting.time_grid import Times


@dataclass(frozen=True)
class Rows:
    """One series as it stands in a file.

    Args:
        name: from the column of ids, or that of the file.
        numbers: of the rows in the table `[R]`, -1 for one that was made.
        times: labels `[R]`.
        values: targets `[R, C]`, NaN where missing.
        exogenous: `[R, K]`.
        static: `[R, S]`.
    """

    name: str
    numbers: NDArray[np.int64]
    times: Times
    values: Floats
    exogenous: Floats
    static: Floats

    def __len__(self) -> int:
        return len(self.times)

    def take(self, index: Any) -> "Rows":
        """Some of the rows, in any order."""
        parts = {key: getattr(self, key)[index] for key in ("numbers", "times", "values", "exogenous", "static")}
        return replace(self, **parts)


@dataclass(frozen=True)
class Frame:
    """The series of a file.

    Args:
        table: where they were read from.
        columns: what its columns are, with all targets named.
        series: in the order of their first rows.
    """

    table: Table
    columns: Columns
    series: list[Rows]

    def where(self, rows: Rows, index: int) -> str:
        """The place of a row in the file, for messages."""
        return f"{self.table.where(int(rows.numbers[index]))}{self.of(rows)}"

    def of(self, rows: Rows) -> str:
        """The name of a series, if there are several."""
        return "" if self.columns.id is None else f" (series {rows.name!r})"


def read_frame(path: Path, columns: Columns, cells: Cells | None = None) -> Frame:
    """Read the series of a file; they are as they stand there, whatever their flaws.

    Raises:
        InputError: no such file or column, or a cell that is no number, no time or no name; with its line.
    """
    for name in columns.named:
        if columns.named.count(name) > 1:
            raise InputError(f"column {name!r} was named twice. A column is one of --time, --id, --target, ...")
    table = read_table(path, cells or Cells(), [name for name in (columns.time, columns.id) if name is not None])
    table.expect(columns.named)
    if not columns.targets:
        columns = replace(columns, targets=tuple(table.columns_of_numbers(columns.named)))
    whole = Rows(
        frame_name(path),
        np.arange(len(table.frame)),
        table.times(columns.time),
        table.numbers(columns.targets),
        table.numbers(columns.exogenous),
        table.numbers(columns.static),
    )
    return Frame(table, columns, [whole] if columns.id is None else _split(whole, *table.names(columns.id)))


def _split(whole: Rows, numbers: NDArray[np.int64], names: list[str]) -> list[Rows]:
    """The series of a long frame, by the number of the name of each row."""
    order = np.argsort(numbers, kind="stable")
    starts = np.searchsorted(numbers[order], np.arange(1, len(names)))
    return [replace(whole.take(rows), name=name) for name, rows in zip(names, np.split(order, starts), strict=True)]
