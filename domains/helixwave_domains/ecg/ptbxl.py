"""PTB-XL with its ten folds and six sets of labels, in the two published protocols."""

import ast
import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from helixwave.cards import supplied_path
from helixwave.data.splits import PARTS
from helixwave.errors import InputError

from helixwave_domains.ecg.formats import read_recording
from helixwave_domains.ecg.records import Aggregate, Labelled, RecordData, read_as

LabelSet = Literal["all", "diagnostic", "subdiagnostic", "superdiagnostic", "form", "rhythm"]

# the last folds were labelled with the most care: 9 is for validation, 10 for the test
_FOLDS = {**dict.fromkeys(range(1, 9), "train"), 9: "validation", 10: "test"}
_FILES = {100.0: "filename_lr", 500.0: "filename_hr"}
# seconds from one evaluated crop to the next, and what becomes of their probabilities
_PROTOCOLS: dict[str, tuple[float, Aggregate]] = {"benchmark": (1.25, "max"), "s4": (2.5, "mean")}


class PtbXl(RecordData):
    """21,799 clinical 12-lead recordings of ten seconds, folds 1 to 8 to train, 9 to validate and 10 to test.

    A label counts whatever its likelihood, also where that is 0; recordings without a label of the set are left out.
    Source: Wagner et al., "PTB-XL, a large publicly available electrocardiography dataset", 2020; labels, splits and
    the protocol `benchmark` (crops of 2.5 s, half of one from each to the next, the highest probability): Strodthoff
    et al., "Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL", 2021; the protocol `s4` (crops side
    by side, the mean): Mehari and Strodthoff, "Towards quantitative precision for ECG analysis", 2023.

    Args:
        folder: of the data set, with `ptbxl_database.csv`; null: in the data folder.
        labels: the set of labels.
        protocol: how the crops of a recording are evaluated.
        rate: of the files, 100 or 500 samples a second.
        leads, window, scale, mean, deviation, highpass, lowpass: see `Preprocessing`; leads also as a number, constants
            that are null are those of all training samples.
    """

    def __init__(
        self,
        *,
        folder: str | None = None,
        labels: LabelSet = "all",
        protocol: Literal["benchmark", "s4"] = "benchmark",
        rate: float = 100.0,
        leads: list[str] | int = 12,
        window: float = 2.5,
        scale: Literal["window", "constants", "none"] = "constants",
        mean: float | None = None,
        deviation: float | None = None,
        highpass: float | None = None,
        lowpass: float | None = None,
    ):
        if rate not in _FILES:
            raise InputError(f"data: rate is {rate:g}, the files of PTB-XL have 100 or 500")
        stride, aggregate = _PROTOCOLS[protocol]
        reading = read_as(
            rate=rate,
            leads=leads,
            window=window,
            scale=scale,
            mean=mean,
            deviation=deviation,
            highpass=highpass,
            lowpass=lowpass,
            stride=stride,
            aggregate=aggregate,
        )
        place = supplied_path(folder, argument="folder", card="ptbxl")
        rows = _rows(place / "ptbxl_database.csv", _FILES[rate])
        names = _labels_of(read_statements(place / "scp_statements.csv"), labels)
        found = [sorted({label for code in row.codes for label in names(code)}) for row in rows]
        classes = sorted({label for each in found for label in each})
        parts: dict[str, list[Labelled]] = {name: [] for name in PARTS}
        for row, own in zip(rows, found, strict=True):
            if own:
                target = np.isin(classes, own).astype(np.float32)
                path = place / row.file
                parts[_FOLDS[row.fold]].append(
                    Labelled(row.file, lambda path=path: read_recording(path), target)  # type: ignore[misc]
                )
        facts = {f"recordings without a label of the set {labels}, left out": sum(not own for own in found)}
        super().__init__(classes, parts, reading, facts=facts)


class _Row(NamedTuple):
    """A recording of the table: its header file, its codes and its fold."""

    file: str
    codes: list[str]
    fold: int


def read_statements(path: Path) -> dict[str, dict[str, str]]:
    """What each code is, from `scp_statements.csv`: its row by the name of the column.

    Raises:
        InputError: it is not there or not that table.
    """
    rows = _table(path, ["diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass"])
    # the column of the codes has no name
    return {next(iter(row.values())): row for row in rows}


def _labels_of(statements: Mapping[str, Mapping[str, str]], labels: LabelSet) -> Callable[[str], list[str]]:
    """From a code to its labels of a set, none or one."""

    def known(code: str, column: str) -> bool:
        return _is_one(statements.get(code, {}).get(column, ""))

    def named(code: str) -> list[str]:
        if labels == "all":
            return [code]
        if labels in ("diagnostic", "form", "rhythm"):
            return [code] if known(code, labels) else []
        column = {"superdiagnostic": "diagnostic_class", "subdiagnostic": "diagnostic_subclass"}[labels]
        name = statements.get(code, {}).get(column, "") if known(code, "diagnostic") else ""
        return [name] if name else []

    return named


def _rows(path: Path, column: str) -> list[_Row]:
    rows = []
    for number, row in enumerate(_table(path, ["scp_codes", "strat_fold", column]), start=2):
        where = f"{path}: line {number}"
        file = Path(row[column])
        if file.is_absolute() or ".." in file.parts:
            raise InputError(f"{where}: {column} is {row[column]!r}, expected a place in the folder")
        try:
            codes, fold = ast.literal_eval(row["scp_codes"]), int(float(row["strat_fold"]))
        except (ValueError, SyntaxError) as error:
            raise InputError(f"{where}: cannot read scp_codes {row['scp_codes']!r} or strat_fold") from error
        if not isinstance(codes, dict) or fold not in _FOLDS:
            raise InputError(f"{where}: expected codes with likelihoods and a fold from 1 to 10")
        rows.append(_Row(file.with_suffix(".hea").as_posix(), [str(code) for code in codes], fold))
    return rows


def _table(path: Path, columns: list[str]) -> list[dict[str, str]]:
    if not path.is_file():
        raise InputError(f"{path} is not there. data.folder is the folder of PTB-XL, see the data card ptbxl")
    with path.open(newline="", encoding="utf-8") as f:
        rows = csv.DictReader(f)
        absent = [name for name in columns if name not in (rows.fieldnames or [])]
        if absent:
            raise InputError(f"{path}: it has no column {absent[0]}, see the data card ptbxl")
        return [{name: value or "" for name, value in row.items()} for row in rows]


def _is_one(cell: str) -> bool:
    try:
        return float(cell) == 1
    except ValueError:
        return False
