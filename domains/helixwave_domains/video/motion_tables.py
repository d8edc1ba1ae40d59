"""Tables of motion: one long table of all series, or a folder with a table for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.errors import InputError, nearest
from numpy.typing import NDArray

from helixwave_domains.video.motion_augmentation import Series

_ENDINGS = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are called.

    Args:
        series: what a row belongs to; the file, for a folder of tables.
        label: the class of its series, the same in all rows.
        time: the rows of a series are sorted by it; None: they come in order.
        group: who or what a series is of, the same in all rows; None: each series is a group.
        split: the part of its series; None: the groups are dealt out.
        channels: the others; None: all that hold numbers.
    """

    series: str = "series"
    label: str = "label"
    time: str | None = None
    group: str | None = None
    split: str | None = None
    channels: Sequence[str] | None = None

    @property
    def facts(self) -> list[str]:
        """Columns that say something of a whole series."""
        return [name for name in (self.label, self.group, self.split) if name is not None]


@dataclass(frozen=True)
class MotionTable:
    """The series of a table.

    Args:
        names: of the series.
        series: channels `[T, C]` each, NaN where a cell is empty.
        channels: names of the channels.
        facts: of each series, by the name of the column.
        uneven: how many series have steps that are not equally far apart in time.
        unused: columns that are neither named nor hold numbers.
    """

    names: list[str]
    series: list[Series]
    channels: list[str]
    facts: dict[str, list[str]]
    uneven: int
    unused: list[str]


def read_motion(place: Path, columns: Columns) -> MotionTable:
    """Read a CSV, TSV or Parquet table in long format, or all tables of a folder, a series each.

    Raises:
        InputError: a file cannot be read, a column is missing, a cell is no number, or rows of a series disagree.
    """
    frame = _folder(place, columns) if place.is_dir() else _frame(place)
    named = [name for name in (columns.series, *columns.facts, columns.time, *(columns.channels or ())) if name]
    for name in named:
        if name not in frame.columns:
            raise InputError(f"{place}: no column {name!r}. {nearest(name, list(frame.columns))}")
    channels, unused = _channels(frame, columns, place)
    numbers = np.stack([_numbers(frame, name, place) for name in channels], axis=1)
    times = None if columns.time is None else _times(frame, columns.time, place)
    table = MotionTable([], [], channels, {name: [] for name in columns.facts}, 0, unused)
    uneven = 0
    for name, rows in _rows_of(frame, columns.series, place).items():
        if times is not None:
            rows = _in_time(rows, times, f"{place}: series {name!r}")
            uneven += not _even(times[rows])
        table.names.append(name)
        table.series.append(numbers[rows].astype(np.float32))
        for fact, values in table.facts.items():
            values.append(_the_one(frame[fact].iloc[rows], f"{place}: series {name!r}"))
    return MotionTable(table.names, table.series, channels, table.facts, uneven, unused)


def _frame(path: Path) -> Any:
    import pandas as pd

    if path.suffix.lower() not in _ENDINGS or not path.is_file():
        raise InputError(f"data: {path} is no table ({', '.join(_ENDINGS)}) and no folder. Pass data.table=PATH")
    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
        else:
            separator = "\t" if path.suffix.lower() == ".tsv" else ","
            frame = pd.read_csv(path, sep=separator, encoding="utf-8-sig", dtype=str, keep_default_na=False)
    except (OSError, ValueError, UnicodeDecodeError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"{path}: cannot be read as a table ({reason})") from error
    if not len(frame):
        raise InputError(f"{path}: the table has no row. Expected a header line and a row for each step")
    frame.columns = [str(name).strip() for name in frame.columns]
    return frame


def _folder(folder: Path, columns: Columns) -> Any:
    import pandas as pd

    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS)
    if not paths:
        raise InputError(f"{folder}: there is no table ({', '.join(_ENDINGS)}) in the folder")
    frames = [_frame(path).assign(**{columns.series: path.stem}) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        if set(frame.columns) != set(frames[0].columns):
            different = sorted(set(frame.columns) ^ set(frames[0].columns))
            raise InputError(f"{path}: the column {different[0]!r} is not in all tables of the folder")
    return pd.concat(frames, ignore_index=True)


def _channels(frame: Any, columns: Columns, place: Path) -> tuple[list[str], list[str]]:
    """Names of the channels, and of columns of text that are none."""
    if columns.channels is not None:
        return list(columns.channels), []
    taken = {columns.series, columns.time, *columns.facts}
    rest = [name for name in frame.columns if name not in taken]
    found = [name for name in rest if _is_number(frame[name]).any()]
    if not found:
        raise InputError(f"{place}: no column of numbers is left for the channels, found {', '.join(frame.columns)}")
    return found, [name for name in rest if name not in found]


def _is_number(cells: Any) -> Any:
    import pandas as pd

    return pd.to_numeric(cells, errors="coerce").notna()


def _numbers(frame: Any, name: str, place: Path) -> NDArray[np.float64]:
    """A column `[R]`, NaN where a cell is empty."""
    import pandas as pd

    cells = frame[name]
    values = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    text = cells.fillna("").astype(str).str.strip().str.lower()
    wrong = np.flatnonzero((np.isnan(values) & ~text.isin(["", "nan", "na"]).to_numpy()) | np.isinf(values))
    if len(wrong):
        raise InputError(
            f"{place}: row {wrong[0] + 1}: {name} is {cells.iloc[wrong[0]]!r}, expected a number or nothing"
        )
    return values


def _times(frame: Any, name: str, place: Path) -> NDArray[np.float64]:
    times = _numbers(frame, name, place)
    empty = np.flatnonzero(np.isnan(times))
    if len(empty):
        raise InputError(f"{place}: row {empty[0] + 1}: {name} is empty, expected a number")
    return times


def _rows_of(frame: Any, name: str, place: Path) -> dict[str, NDArray[np.int64]]:
    """The rows of each series, the series in the order in which they come."""
    names = frame[name].fillna("").astype(str).str.strip()
    if (names == "").any():
        raise InputError(f"{place}: row {int((names == '').to_numpy().argmax()) + 1}: {name} is empty")
    grouped = names.groupby(names, sort=False).indices
    return {str(key): np.sort(rows) for key, rows in sorted(grouped.items(), key=lambda item: item[1].min())}


def _in_time(rows: NDArray[np.int64], times: NDArray[np.float64], where: str) -> NDArray[np.int64]:
    rows = rows[np.argsort(times[rows], kind="stable")]
    twice = np.flatnonzero(np.diff(times[rows]) == 0)
    if len(twice):
        raise InputError(f"{where} has two rows at the time {times[rows[twice[0]]]:g}, expected one")
    return rows


def _even(times: NDArray[np.float64]) -> bool:
    """Whether steps are equally long, to one per cent."""
    steps = np.diff(times)
    return len(steps) == 0 or bool(np.ptp(steps) <= 0.01 * np.median(steps))


def _the_one(cells: Any, where: str) -> str:
    """What all rows of a series say."""
    found = list(dict.fromkeys(cells.fillna("").astype(str).str.strip()))
    if len(found) > 1:
        raise InputError(f"{where}: {cells.name} is {found[0]!r} and {found[1]!r}, expected one for all rows")
    if not found[0]:
        raise InputError(f"{where}: {cells.name} is empty")
    return found[0]
