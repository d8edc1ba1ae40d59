"""Outputs and labels of the challenges in files: one CSV file and one header for each recording.

Output files have four lines: `#` and the recording, the classes, 0 or 1 for each, a probability for each.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from helixwave.errors import InputError
from helixwave.files import atomic_write

from helixwave_domains.ecg.challenge import (
    ChallengeScores,
    Flags,
    Floats,
    challenge_scores,
    in_classes,
    label_matrix,
)
from helixwave_domains.ecg.snomed import DIAGNOSES, classes_named, scored_classes

_TRUE = ("1", "True", "true", "T", "t")
_DIAGNOSES = re.compile(r"#\s*Dx\s*:(.*)")


@dataclass(frozen=True)
class ChallengeOutput:
    """What an output file says.

    Args:
        record: the recording's name; empty if the file has none.
        columns: names of the classes.
        outputs: which are predicted, `[n_column]`.
        probabilities: how likely each is, `[n_column]`.
    """

    record: str
    columns: tuple[str, ...]
    outputs: Flags
    probabilities: Floats


@dataclass(frozen=True)
class FolderScores:
    """Scores of a folder of outputs.

    Args:
        scores: the official ones.
        labels: which classes each recording has, `[M, n_class]`.
        notes: what was not as it should be, and how it was scored, as the official evaluation does.
    """

    scores: ChallengeScores
    labels: Flags
    notes: tuple[str, ...]


def challenge_columns(classes: Sequence[str]) -> list[str]:
    """Names of classes as output files have them: abbreviations of scored diagnoses as codes, others as they are."""
    codes = {diagnosis.abbreviation: diagnosis.code for diagnosis in DIAGNOSES}
    return ["|".join(codes.get(part, part) for part in name.split("|")) for name in classes]


def write_challenge_csv(path: Path, output: ChallengeOutput) -> None:
    """Write the outputs of one recording.

    Raises:
        InputError: a name that would be read as several, or the disk is full.
    """
    for name in (output.record, *output.columns):
        if re.search(r"[,\r\n]", name) or name.strip() != name or not name:
            raise InputError(f"{path}: {name!r} cannot stand in a challenge CSV file. Take a name without commas")
    rows = [
        output.columns,
        [str(int(flag)) for flag in output.outputs],
        [repr(float(number)) for number in output.probabilities],
    ]
    with atomic_write(path) as f:
        f.write(f"#{output.record}\n" + "".join(",".join(row) + "\n" for row in rows))


def read_challenge_csv(path: Path, year: int = 2021) -> ChallengeOutput:
    """Read the outputs of one recording as the evaluation of `year` does.

    An output is positive if it is 1, True, true, T or t; of 2021 also any number that is 1. A probability that is no
    number is 0.

    Raises:
        InputError: the file has not four lines, or these are not of one length.
    """
    lines = [line.strip() for line in _text(path).splitlines() if line.strip()]
    if year != 2020 and not (lines and lines[0].startswith("#")):
        raise InputError(f"{path}: the first line has no record name, expected '#' and the name")
    record = lines[0][1:].strip() if lines and lines[0].startswith("#") else ""
    rows = [[cell.strip() for cell in line.split(",")] for line in lines if not line.startswith("#")]
    if len(rows) < 3:
        raise InputError(f"{path}: {len(rows)} lines below the record, expected 3: classes, 0 or 1, probabilities")
    # of 2021, what follows the third line is not read
    lengths = [len(row) for row in (rows if year == 2020 else rows[:3])]
    if len(set(lengths)) > 1:
        raise InputError(f"{path}: its lines have {', '.join(map(str, lengths))} values, expected as many in each")
    flags = np.array([_is_positive(cell, year) for cell in rows[1]], dtype=bool)
    return ChallengeOutput(record, tuple(rows[0]), flags, np.array([_number(cell) for cell in rows[2]]))


def read_header_labels(path: Path) -> list[str] | None:
    """Codes in the `# Dx:` lines of a WFDB header; None if there is no such line."""
    found = [match[1] for line in _text(path).splitlines() if (match := _DIAGNOSES.match(line))]
    return [code.strip() for text in found for code in text.split(",") if code.strip()] if found else None


def score_folders(labels: Path, outputs: Path, year: int = 2021) -> FolderScores:
    """Score the output files of a folder against the headers of another one.

    The header `NAME.hea` is scored with `NAME.csv`. As in the official evaluation, one output file that is missing
    makes all scores impossible, and so does one that cannot be read, which in 2020 is without any class instead.

    Raises:
        InputError: there is no header, an output file is missing, or one of 2021 cannot be read.
    """
    scored_classes(year)
    headers = _headers(labels)
    files = [outputs / f"{header.stem}.csv" for header in headers]
    _expect_all(files, outputs)
    codes = [read_header_labels(header) for header in headers]
    flags, numbers, notes = _read_outputs(files, year)
    bare = [header.name for header, each in zip(headers, codes, strict=True) if each is None]
    notes += _note("headers without a Dx line", bare, "scored as without a diagnosis")
    wanted = set(files)
    unknown = [path.name for path in _listed(outputs, ".csv") if path not in wanted]
    notes += _note("output files that belong to no header", unknown, "not scored")
    truth = label_matrix([each or [] for each in codes], year)
    return FolderScores(challenge_scores(truth, flags, numbers, year), truth, tuple(notes))


def _read_outputs(files: list[Path], year: int) -> tuple[Flags, Floats, list[str]]:
    """Outputs and probabilities of the scored classes `[M, n_class]`, and what is to be said of the files."""
    n_class = len(scored_classes(year))
    flags, numbers = np.zeros((len(files), n_class), dtype=bool), np.zeros((len(files), n_class))
    read, malformed = _read_each(files, year)
    unscored = []
    for columns, rows in _same_columns(read).items():
        outputs = np.stack([read[row].outputs for row in rows])
        probabilities = np.stack([read[row].probabilities for row in rows])
        flags[rows], numbers[rows] = in_classes(columns, outputs, probabilities, year)
        unscored += [] if any(classes_named(name, year) for name in columns) else [files[row].name for row in rows]
    elsewhere = [files[row].name for row, output in read.items() if output.record not in ("", files[row].stem)]
    notes = [
        *_note("malformed output files", malformed, "scored as without any class"),
        *_note("output files that name another record in their first line", elsewhere, "scored by the file's name"),
        *_note("output files with none of the scored classes", unscored, "scored as without any class"),
    ]
    return flags, numbers, notes


def _read_each(files: list[Path], year: int) -> tuple[dict[int, ChallengeOutput], list[str]]:
    """Outputs by the number of their file, and the names of the files that cannot be read."""
    read, malformed = {}, []
    for row, path in enumerate(files):
        try:
            read[row] = read_challenge_csv(path, year)
        except InputError as error:
            if year != 2020:
                raise InputError(f"{error}. The official evaluation gives no score then; write it again") from error
            malformed.append(path.name)
    return read, malformed


def _same_columns(read: dict[int, ChallengeOutput]) -> dict[tuple[str, ...], list[int]]:
    """Numbers of the files that have the same classes in the same order."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for row, output in read.items():
        groups.setdefault(output.columns, []).append(row)
    return groups


def _headers(folder: Path) -> list[Path]:
    found = _listed(folder, ".hea")
    if not found:
        raise InputError(f"{folder}: there is no .hea file. Give the folder with the headers of the recordings")
    return found


def _listed(folder: Path, ending: str) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(ending) and not path.name.startswith(".") and path.is_file()
    )


def _expect_all(files: list[Path], folder: Path) -> None:
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(files)} recordings have no output file, such as {missing[0]}. The "
            "official evaluation gives no score then; predict these too, or take their headers away"
        )


def _note(what: str, names: list[str], treated: str) -> list[str]:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return [f"{what}: {len(names)} ({shown}), {treated}"] if names else []


def _text(path: Path) -> str:
    try:
        # names and numbers are ASCII; what is not stands in comments and must not end the batch
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _is_positive(cell: str, year: int) -> bool:
    return cell in _TRUE or (year != 2020 and _number(cell) == 1)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return 0.0
