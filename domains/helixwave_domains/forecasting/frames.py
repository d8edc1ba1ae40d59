"""Columns of CSV, gzip CSV and Parquet files as arrays."""

import io
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
from helixwave.errors import InputError, nearest
from numpy.typing import NDArray

from helixwave_domains.forecasting.csv_text import CsvText
from helixwave_domains.forecasting.frame_options import Cells
from helixwave_domains.forecasting.panels import Floats
from helixwave_domains.forecasting.time_grid import Times, shown

_LISTED = 20
_MISSING = ["", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "#N/A", "<NA>"]
# the basic form of ISO 8601
_BASIC_DATE = r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_WITH_COMMA = r"[+-]?\d*,\d+"
_WITH_THOUSANDS = r"[+-]?\d{1,3}(?:([.,' ])\d{3}(?:\1\d{3})*)(?:[.,]\d*)?"
_WITH_ZONE = r"\d(?:Z|[+-]\d\d:?\d\d)$"


@dataclass
class Table:
    """The columns of a file.

    Args:
        path: of the file.
        frame: its columns.
        cells: how their cells are read.
        text: of the file; None for Parquet.
        notes: what was taken for granted.
        made_missing: how many cells with text among numbers are missing now.
    """

    path: Path
    frame: pd.DataFrame
    cells: Cells
    text: CsvText | None = None
    notes: list[str] = field(default_factory=list)
    made_missing: int = 0

    def where(self, row: int) -> str:
        """The place of a row, for messages; of the file for a negative one."""
        if row < 0:
            return str(self.path)
        return f"{self.path}, row {row + 1}" if self.text is None else f"{self.path}, line {self.text.line(row)}"

    def expect(self, names: Iterable[str]) -> None:
        """Raise InputError unless there are columns of these names."""
        known = list(self.frame.columns)
        for name in names:
            if name not in known:
                # a wide frame has hundreds
                likely = known if len(known) <= _LISTED else get_close_matches(name, known, _LISTED, cutoff=0)
                raise InputError(f"{self.path}: no column {name!r}. {nearest(name, likely)}")

    def columns_of_numbers(self, others: Iterable[str]) -> list[str]:
        """All that have a name, hold at least as many numbers as text, and are none of these others."""
        taken = set(others)
        rest = [name for name in self.frame.columns if name not in taken]
        found = [name for name in rest if name and self._holds_numbers(name)]
        if not found and (named := [name for name in rest if name]):
            self._refuse(named[0], int(self.frame[named[0]].notna().to_numpy().argmax()))
        if not found:
            raise InputError(f"{self.path}: no column is left to forecast. Columns: {', '.join(self.frame.columns)}")
        for name in rest:
            if name not in found:
                why = "does not hold numbers" if name else "has no name"
                self.notes.append(f"column {name!r} {why} and is not forecast")
        return found

    def numbers(self, names: Iterable[str]) -> Floats:
        """Columns of numbers `[R, len(names)]`, NaN where a cell is empty.

        Raises:
            InputError: a cell holds text, or no finite number.
        """
        columns = [self._numbers(name) for name in names]
        return np.stack(columns, axis=1) if columns else np.empty((len(self.frame), 0))

    def times(self, name: str) -> Times:
        """A column of labels of time `[R]`: microseconds, or whole numbers.

        Raises:
            InputError: a cell is empty or neither.
        """
        column = self._filled(name)
        time_format = self.cells.time_format
        if not pd.api.types.is_datetime64_any_dtype(column.dtype):
            text = column.astype(str).str.strip()
            is_date = text.str.fullmatch(_BASIC_DATE).all()
            if time_format is None and not is_date and text.str.fullmatch(r"-?\d{1,18}").all():
                return text.astype(np.int64).to_numpy()
            column = self._parsed(name, text)
            if time_format is None and is_date:
                self.notes.append(f"times of column {name!r} are read as dates, such as {shown(column[0].to_numpy())}")
        if column.dt.tz is not None:
            self.notes.append(f"times of column {name!r} have a zone and are written in UTC")
            column = column.dt.tz_convert(None)
        return column.to_numpy("datetime64[us]")

    def names(self, name: str) -> tuple[NDArray[np.int64], list[str]]:
        """A column of names as numbers `[R]` of different names, in the order in which they come.

        Raises:
            InputError: a cell is empty.
        """
        numbers, names = pd.factorize(self._filled(name).astype(str).str.strip())
        return numbers, list(map(str, names))

    def _filled(self, name: str) -> pd.Series:
        column = self.frame[name]
        if (empty := column.isna().to_numpy()).any():
            raise InputError(f"{self.where(int(empty.argmax()))}: {name} is empty. Expected one in each row")
        return column

    def _numbers(self, name: str) -> Floats:
        values = self._as_numbers(name)
        wrong = ~np.isfinite(values) & self.frame[name].notna().to_numpy()
        if wrong.any():
            if self.cells.not_a_number == "error":
                self._refuse(name, int(wrong.argmax()))
            self.made_missing += int(wrong.sum())
            values[wrong] = np.nan
        return values

    def _refuse(self, name: str, row: int) -> NoReturn:
        cell = str(self.frame[name].iloc[row]).strip()
        advice = "Correct it, or add --not-a-number missing"
        if re.fullmatch(_WITH_COMMA, cell) and self.cells.decimal == ".":
            advice = "Add --decimal comma"
        elif re.fullmatch(_WITH_THOUSANDS, cell):
            advice = "Write numbers without separators of thousands"
        raise InputError(f"{self.where(row)}: {name} is {cell!r}, expected a number. {advice}")

    def _as_numbers(self, name: str) -> Floats:
        """NaN for what is no number."""
        column = self.frame[name]
        if not pd.api.types.is_numeric_dtype(column.dtype):
            if self.cells.decimal == ",":
                # 1.234 is no number then
                column = column.astype(str).str.translate({ord(","): ".", ord("."): ","})
            column = pd.to_numeric(column, errors="coerce")
        return column.to_numpy(np.float64, na_value=np.nan, copy=True)

    def _holds_numbers(self, name: str) -> bool:
        if pd.api.types.is_datetime64_any_dtype(self.frame[name].dtype):
            return False
        return bool(2 * np.isfinite(self._as_numbers(name)).sum() >= self.frame[name].notna().sum())

    def _parsed(self, name: str, text: pd.Series) -> pd.Series:
        in_utc = bool(text.str.contains(_WITH_ZONE).any())
        given = self.cells.time_format
        for form in [given] if given else ["ISO8601", None]:
            with warnings.catch_warnings():
                # that days stand before months where the first says so, and that forms differ: those are refused
                warnings.simplefilter("ignore", UserWarning)
                times = pd.to_datetime(text, format=form, errors="coerce", utc=in_utc)
            if not times.isna().any():
                return times
        row = int(times.isna().to_numpy().argmax())
        known = given or (repr(text.iloc[0]) if row else "2024-01-31 23:00 or a whole number")
        raise InputError(
            f"{self.where(row)}: {name} is {text.iloc[row]!r}, expected a time such as {known}. Correct it, or say how "
            "times are written, as in --time-format '%d.%m.%Y %H:%M'"
        )


def read_table(path: Path, cells: Cells, as_text: Iterable[str] = ()) -> Table:
    """Read CSV (comma, semicolon or tab; UTF-8, else Latin-1), gzip CSV or Parquet, whatever the name of the file.

    Args:
        path: of the file.
        cells: how cells are read.
        as_text: columns that are taken as they are written, such as ids with zeros in front.

    Raises:
        InputError: no such file, damaged, empty, or rows of unequal length.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file. Expected CSV, gzip CSV or Parquet")
    data = path.read_bytes()
    if data.startswith(b"PAR1"):
        table = Table(path, _read_parquet(path, data), cells)
    else:
        text = CsvText.read(path, data)
        table = Table(path, _read_csv(text, cells.decimal, set(as_text)), cells, text, [*text.notes])
    if table.frame.empty:
        raise InputError(f"{path}: has no rows. Expected one for each step")
    return table


def _read_parquet(path: Path, data: bytes) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(io.BytesIO(data))
    except ImportError as error:
        raise InputError(f"{path}: reading Parquet needs pyarrow: pip install 'helixwave[forecasting]'") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged Parquet file ({error}). Copy it again") from error
    # an index with a name is a column like others
    frame = frame.reset_index() if any(frame.index.names) else frame
    return frame.rename(columns=str)


def _read_csv(text: CsvText, decimal: str, as_text: set[str]) -> pd.DataFrame:
    names = text.header
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(
                io.BytesIO(text.data),
                encoding=text.encoding,
                sep=text.separator,
                decimal=decimal,
                header=0,
                names=names,
                index_col=False,
                dtype={name: str for name in names if name in as_text},
                keep_default_na=False,
                na_values={name: [""] if name in as_text else _MISSING for name in names},
                skipinitialspace=True,
                low_memory=False,
            )
        except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
            raise InputError(f"{text.path}: {_reason(error, len(names))}. Expected as many in each row") from error


def _reason(error: Exception, n_column: int) -> str:
    found = re.search(r"in line (\d+), saw (\d+)", str(error))
    cells = f"line {found[1]} has {found[2]} cells" if found else "rows have more cells"
    return f"{cells}, the header has {n_column}"
