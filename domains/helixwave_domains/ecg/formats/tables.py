"""CSV, TSV and Parquet with one column a lead (pandas)."""

import re
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.ecg.formats.channels import Channels, Declared, millivolts, package, recording_of, unreadable
from helixwave_domains.ecg.formats.table_writer import write_parquet, write_text
from helixwave_domains.ecg.leads import canonical_lead
from helixwave_domains.ecg.recording import Recording, held

# rows read at once
_ROWS = 500_000
# `I (mV)` and `I [mV]`
_HEAD = re.compile(r"(.+?)\s*[(\[]([^()\[\]]+)[)\]]")
_TIMES = {"time", "t", "seconds", "timestamp"}
_SECONDS = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6}
# by how much of a step the time between two rows may differ from the usual one, as times are often rounded
_UNEVEN = 0.5


class Table:
    """A CSV or TSV file; a column `time` in seconds gives the rate, heads such as `I (mV)` the units."""

    name = "CSV"
    suffixes: tuple[str, ...] = (".csv", ".tsv", ".txt")
    written = (".csv", ".tsv")

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether its first line names a standard lead; a file of numbers alone must be called `.csv` or `.tsv`."""
        if path.suffix.lower() not in self.suffixes:
            return False
        first = _first_line(head.decode("utf-8-sig", errors="replace"))
        cells = _cells(first, _separator(first))
        numbers = bool(cells) and all(_is_number(cell) for cell in cells) and path.suffix.lower() != ".txt"
        return numbers or any(canonical_lead(_parted(cell)[0]) for cell in cells)

    def read(self, path: Path, declared: Declared) -> Recording:
        """The recording, held in memory."""
        with unreadable(path, self.name):
            with path.open(encoding="utf-8-sig") as file:
                first = _first_line(file.readline())
            if not first:
                raise InputError(f"{path}: it is empty, expected a head of names and rows of numbers")
            separator = _separator(first)
            named = not all(map(_is_number, _cells(first, separator)))
            with closing(_pieces(path, separator, named)) as pieces:
                return _recording(path, self.name, pieces, declared, named)

    def write(self, recording: Recording, path: Path) -> list[str]:
        """Write it with a column of seconds and one of millivolts for each lead."""
        return write_text(recording, path)


class Parquet:
    """A Parquet file with the same columns as a CSV file."""

    name = "Parquet"
    suffixes = (".parquet",)
    written = (".parquet",)

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether it begins as Parquet files do."""
        return head[:4] == b"PAR1"

    def read(self, path: Path, declared: Declared) -> Recording:
        """The recording, held in memory."""
        with unreadable(path, self.name):
            frame = package("pandas").read_parquet(path)
            return _recording(path, self.name, [frame], declared, named=True)

    def write(self, recording: Recording, path: Path) -> list[str]:
        """Write it with the columns of a CSV file."""
        return write_parquet(recording, path)


def _pieces(path: Path, separator: str, named: bool) -> Generator[Any, None, None]:
    with package("pandas").read_csv(
        path,
        sep=separator,
        decimal="," if separator == ";" else ".",
        header=0 if named else None,
        skipinitialspace=True,
        chunksize=_ROWS,
        encoding="utf-8-sig",
        index_col=False,
    ) as pieces:
        yield from pieces


def _recording(path: Path, kind: str, frames: Iterable[Any], declared: Declared, named: bool) -> Recording:
    pieces, times = [], []
    heads: list[str] = []
    for frame in frames:
        heads = [str(head).strip() for head in frame.columns]
        values = _numbers(path, frame, heads, named)
        clock = _clock(heads) if named else None
        times += [values[:, clock]] if clock is not None else []
        pieces.append(
            np.delete(values, clock, axis=1).T.astype(np.float32) if clock is not None else values.T.astype(np.float32)
        )
    if not pieces or not pieces[0].size:
        raise InputError(f"{path}: it has no rows")
    signal = np.concatenate(pieces, axis=1)
    clock = _clock(heads) if named else None
    parted = [_parted(head) for place, head in enumerate(heads) if place != clock]
    rate = None if clock is None else _rate(path, np.concatenate(times), _parted(heads[clock])[1] or "s", declared)
    channels = Channels(
        path=path,
        format=kind,
        names=[name if named else None for name, _ in parted],
        units=[unit if named else None for _, unit in parted],
        rate=rate,
        n_sample=signal.shape[1],
        read=held(signal),
    )
    return recording_of(channels, declared)


def _numbers(path: Path, frame: Any, heads: Sequence[str], named: bool) -> NDArray[np.float64]:
    """The cells as numbers `[rows, columns]`, NaN where they are empty."""
    pandas = package("pandas")
    columns = []
    for place, head in enumerate(heads):
        cells = frame.iloc[:, place]
        made = pandas.to_numeric(cells, errors="coerce").to_numpy(np.float64)
        wrong = np.flatnonzero(np.isnan(made) & cells.notna().to_numpy())
        if len(wrong):
            row = int(frame.index[wrong[0]]) + (2 if named else 1)
            raise InputError(f"{path}: row {row}, column {head!r} is {cells.iloc[wrong[0]]!r}, expected a number")
        columns.append(made)
    return np.stack(columns, axis=1)


def _clock(heads: Sequence[str]) -> int | None:
    """The column of times."""
    return next((place for place, head in enumerate(heads) if _parted(head)[0].lower() in _TIMES), None)


def _rate(path: Path, times: NDArray[np.float64], unit: str, declared: Declared) -> float | None:
    """Samples a second, if the times are even."""
    if declared.rate is not None or len(times) < 2:
        return None
    if unit.lower() not in _SECONDS:
        raise InputError(f"{path}: the times are in {unit!r}, expected s or ms. Pass --rate")
    step = (times[-1] - times[0]) / (len(times) - 1)
    uneven = np.flatnonzero(~(np.abs(np.diff(times) - step) <= _UNEVEN * step))
    if not step > 0 or len(uneven):
        row = int(uneven[0]) + 2 if len(uneven) else 1
        raise InputError(f"{path}: the times are not even (from row {row} on). Pass --rate if the samples are")
    return float(f"{1 / (step * _SECONDS[unit.lower()]):.6g}")


def _parted(head: str) -> tuple[str, str | None]:
    """The name and the unit of a head such as `I (mV)`."""
    found = _HEAD.fullmatch(head.strip())
    if found and (millivolts(found[2]) or found[2].lower() in _SECONDS):
        return found[1], found[2]
    return head.strip(), None


def _first_line(text: str) -> str:
    return text.splitlines()[0].strip() if text.strip() else ""


def _separator(line: str) -> str:
    return max((",", "\t", ";"), key=line.count)


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip().strip('"') for cell in line.split(separator)] if line else []


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", ".") or "nan")
    except ValueError:
        return False
    return True
