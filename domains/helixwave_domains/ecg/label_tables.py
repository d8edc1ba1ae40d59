"""The table of a user's own recordings: which file has which labels, of whom, and in which part."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from helixwave.errors import InputError, nearest
from numpy.typing import NDArray

_FILES = ("record", "recording", "path", "file", "filename", "ecg")
_PATIENTS = ("patient", "patient_id", "subject", "subject_id")
_PARTS = ("split", "part", "fold")
_NONE = "-"


@dataclass(frozen=True)
class LabelTable:
    """Rows of a table.

    Args:
        names: of the recordings, as the table has them.
        paths: of the recordings.
        targets: a class each `[M]`, or labels `[M, n]` in float32, NaN where the cell is empty.
        classes: names of the classes or labels.
        patients: of each; the recordings themselves where the table says nothing of patients.
        parts: what the table says of the split; None: nothing.
    """

    names: list[str]
    paths: list[Path]
    targets: NDArray[np.int64] | NDArray[np.float32]
    classes: list[str]
    patients: list[str]
    parts: list[str] | None


def read_label_table(
    path: Path, folder: Path | None, *, target: Literal["class", "labels"], labels: list[str] | None
) -> LabelTable:
    """Read a CSV or TSV table with a header line.

    The first column found of record, recording, path, file, filename or ecg names the file, from `folder`; patient (or
    subject) and split are optional. Labels stand in columns of 0 and 1, or in one column `label`, `;` between them and
    `-` for none.

    Args:
        path: of the table.
        folder: where the recordings lie; None: that of the table.
        target: whether a recording has one class or several labels.
        labels: columns of 0, 1 or nothing (not known); None: the column `label`.

    Raises:
        InputError: a column is missing, a cell makes no sense, or a file is not there.
    """
    rows = _rows(path)
    columns = list(rows[0])
    file = _column(columns, _FILES)
    if file is None:
        raise InputError(f"{path}: no column {', '.join(_FILES[:-1])} or {_FILES[-1]}, found {', '.join(columns)}")
    patient, part = _column(columns, _PATIENTS), _column(columns, _PARTS)
    names = [row[file] for row in rows]
    paths = [_existing(path, number, folder or path.parent, name) for number, name in enumerate(names, start=2)]
    repeated = [name for name in names if names.count(name) > 1] if len(set(names)) < len(names) else []
    if repeated:
        raise InputError(f"{path}: the recording {repeated[0]!r} has {names.count(repeated[0])} rows, expected one")
    targets, classes = _targets(path, rows, target, labels)
    return LabelTable(
        names=names,
        paths=paths,
        targets=targets,
        classes=classes,
        patients=[row[patient] if patient and row[patient] else f"recording {row[file]}" for row in rows],
        parts=[row[part] for row in rows] if part else None,
    )


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise InputError(f"data: no table {path}. Pass data.table=PATH")
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            head = f.readline()
            f.seek(0)
            found = csv.DictReader(f, delimiter="\t" if "\t" in head else ",", restkey="", restval="")
            rows = [{name.strip(): str(cell).strip() for name, cell in row.items()} for row in found]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: no table in UTF-8 ({error})") from error
    if not rows:
        raise InputError(f"{path}: the table has no row. Expected a header line and a line for each recording")
    extra = next((number for number, row in enumerate(rows, start=2) if "" in row), None)
    if extra is not None:
        raise InputError(f"{path}: line {extra} has more cells than the header")
    return rows


def _column(columns: list[str], known: tuple[str, ...]) -> str | None:
    by_name = {column.lower(): column for column in reversed(columns)}
    return next((by_name[name] for name in known if name in by_name), None)


def _existing(table: Path, number: int, folder: Path, name: str) -> Path:
    """The file of a row: as named, or a WFDB record named without its ending."""
    where = f"{table}: line {number}"
    if not name:
        raise InputError(f"{where} names no file")
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{where}: {name} lies outside of {folder}. Pass data.folder=PATH, the folder of all recordings"
        )
    found = next((each for each in (path, path.with_name(f"{path.name}.hea")) if each.is_file()), None)
    if found is None:
        raise InputError(f"{where}: no file {path}. Correct the table, or pass data.folder=PATH")
    return found


def _targets(
    path: Path, rows: list[dict[str, str]], target: str, labels: list[str] | None
) -> tuple[NDArray[np.int64] | NDArray[np.float32], list[str]]:
    columns = list(rows[0])
    if labels is not None:
        if target != "labels":
            raise InputError("data: data.labels names columns of 0 and 1. Pass data.target=labels with it")
        for name in labels:
            if name not in columns:
                raise InputError(f"{path}: no column named {name!r}. {nearest(name, columns)}")
        values = [[_number(path, i, row, name) for name in labels] for i, row in enumerate(rows, start=2)]
        return np.array(values, dtype=np.float32), labels
    column = _column(columns, ("label", "labels", "class", "diagnosis"))
    if column is None:
        raise InputError(
            f"{path}: no column label, found {', '.join(columns)}. Pass data.target=labels data.labels=[COLUMN,...] "
            "for columns of 0 and 1"
        )
    cells = [[part.strip() for part in row[column].split(";")] for row in rows]
    empty = next((i for i, cell in enumerate(cells, start=2) if "" in cell), None)
    if empty is not None:
        raise InputError(f"{path}: line {empty}: the label is empty. Write {_NONE} where there is none")
    if target == "labels":
        classes = sorted({name for cell in cells for name in cell} - {_NONE})
        return np.array([[float(name in cell) for name in classes] for cell in cells], dtype=np.float32), classes
    several = next((i for i, cell in enumerate(cells, start=2) if len(cell) > 1), None)
    if several is not None:
        raise InputError(
            f"{path}: line {several} has several labels. Pass data.target=labels objective.name=multi_label"
        )
    classes = sorted({cell[0] for cell in cells})
    return np.array([classes.index(cell[0]) for cell in cells], dtype=np.int64), classes


def _number(path: Path, line: int, row: dict[str, str], name: str) -> float:
    cell = row[name].lower()
    known = {"": np.nan, "0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "true": 1.0, "false": 0.0}
    if cell not in known:
        raise InputError(f"{path}: line {line}: {name} is {row[name]!r}, expected 0, 1 or nothing")
    return known[cell]
