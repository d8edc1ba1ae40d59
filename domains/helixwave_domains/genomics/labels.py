"""Sequences and their classes, from the files that people have: a table, a BED, FASTA headers, a FASTA per class.

Every reader gives `LabelledSequences`. A table's columns are found by their names, in any order and either case:

    name        name, id, seqid, seq_id, sequence_id, record
    sequence    sequence, seq, dna
    label       label, class, target, y
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.genomics.alphabet import check_letters, count_iupac, reverse_complement_string
from helixwave_domains.genomics.bed import BedInterval, read_intervals
from helixwave_domains.genomics.fasta import FastaFile, Record, read_fasta, read_records
from helixwave_domains.genomics.sources import existing_file, hint, hint_for_record, text_lines

Role = Literal["name", "sequence", "label", ""]
LabelStyle = Literal["word", "pipe", "key"]

COLUMN_NAMES: dict[Role, tuple[str, ...]] = {
    "name": ("name", "id", "seqid", "seq_id", "sequence_id", "record"),
    "sequence": ("sequence", "seq", "dna"),
    "label": ("label", "class", "target", "y"),
}
_SHOWN = 5


@dataclass(frozen=True)
class LabelledSequences:
    """Sequences for a classifier.

    Args:
        names: one name each.
        sequences: letters in upper case.
        labels: the class of each as its place in `classes`, int64 `[B]`; after `with_targets` perhaps float32 `[B, n]`.
        classes: the names of the classes.
        iupac: how many letters in all are ambiguity codes other than N, which the models read as unknown.
    """

    names: list[str]
    sequences: list[str]
    labels: NDArray[Any]
    classes: list[str]
    iupac: int

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Duplicates:
    """How many sequences `without_duplicates` took out.

    Args:
        repeated: further copies of a sequence whose labels agree.
        conflicting: all copies of a sequence whose labels disagree.
    """

    repeated: int
    conflicting: int


@dataclass(frozen=True)
class LabelledRow:
    """One labelled sequence (without letters where only its name is known so far) and its place, for messages."""

    name: str
    sequence: str
    label: str
    place: str


def read_table(
    path: Path | str,
    fasta: Path | str | None = None,
    *,
    columns: Sequence[Role] | None = None,
    keep: Mapping[str, str] | None = None,
    classes: Sequence[str] | None = None,
    unlabelled: Literal["refuse", "skip"] = "refuse",
) -> LabelledSequences:
    """Read a TSV or CSV table, plain or gzip, that gives each sequence its class.

    Args:
        path: the table; tabs if its first line has any, else commas.
        fasta: the sequences, which the table names; without it the table holds them.
        columns: what the columns of a table without a header mean, from the left, `""` for one to pass over. If None
            and there is no header: name and label where `fasta` is given, else sequence and label.
        keep: only rows in which each of these columns has this value, such as `{"split": "train"}`.
        classes: the classes in the wanted order; the labels found, in order, if None.
        unlabelled: whether to refuse or skip the records of `fasta` that the table does not name.
    """
    path = existing_file(path, "table of labels")
    rows = list(_table_rows(path, with_fasta=fasta is not None, columns=columns, keep=keep or {}))
    if not rows:
        raise InputError(f"{path}: the table holds no row{' that is to be kept' if keep else ''}.")
    _refuse_repeated(path, rows)
    if fasta is not None:
        rows = _looked_up(path, rows, read_fasta(fasta), unlabelled)
    return labelled_sequences(rows, classes)


def read_bed(path: Path | str, fasta: Path | str, *, classes: Sequence[str] | None = None) -> LabelledSequences:
    """Cut the intervals of a BED file (chrom, start, end, class, score, strand) out of a reference.

    Intervals on the strand `-` are reverse complemented. Names are `chrom:start-end:strand`.
    """
    with read_fasta(fasta) as reference:
        rows = [_cut_out(reference, interval) for interval in read_intervals(path)]
    if not rows:
        raise InputError(f"{path}: the BED file holds no interval.")
    return labelled_sequences(with_unique_names(rows), classes)


def read_headers(
    path: Path | str,
    label: LabelStyle = "word",
    *,
    classes: Sequence[str] | None = None,
    repeated: Literal["refuse", "number"] = "refuse",
) -> LabelledSequences:
    """Read a FASTA whose headers give the class.

    Args:
        path: the FASTA.
        label: where the class stands: `"word"` for the word after the name (`>name class ...`), `"pipe"` for what
            follows the last bar (`>name|class`), `"key"` for `label=class` or `class=class` anywhere after the name.
        classes: the classes in the wanted order; the labels found, in order, if None.
        repeated: whether a name may occur again, as in published benchmarks; it then gets `#2` and so on.
    """
    records = read_records(path) if repeated == "number" else read_fasta(path)
    rows = [_labelled_by_header(Path(path), record, label) for record in records]
    if repeated == "refuse":
        _refuse_repeated(Path(path), rows)
    return labelled_sequences(with_unique_names(rows), classes)


def read_class_files(files: Mapping[str, Path | str | Sequence[Path | str]]) -> LabelledSequences:
    """Read one FASTA (or several) per class, `{"peak": "peaks.fa", "background": ["a.fa", "b.fa"]}`.

    Classes keep the order of `files`. A name that occurs again, as in files numbered alike, gets `#2` and so on.
    """
    rows = [
        LabelledRow(record.name, record.sequence, label, str(path))
        for label, paths in files.items()
        for path in ([paths] if isinstance(paths, str | Path) else paths)
        for record in read_fasta(path)
    ]
    if not rows:
        raise InputError("no FASTA file was given for any class. Expected {class: file}.")
    return labelled_sequences(with_unique_names(rows), list(files))


def read_uci_splice(path: Path | str) -> LabelledSequences:
    """Read the splice-junction data of UCI, `class, name, sequence` without a header; classes EI, IE, N.

    Some names occur twice there; the second gets `#2`.
    """
    path = existing_file(path, "UCI splice-junction file")
    rows = _table_rows(path, with_fasta=False, columns=("label", "name", "sequence"), keep={})
    return labelled_sequences(with_unique_names(list(rows)))


def without_duplicates(data: LabelledSequences) -> tuple[LabelledSequences, Duplicates]:
    """Keep one of each sequence, so that no test sequence was seen in training.

    The first copy stays where all copies have one class; none stays where they disagree.
    """
    labels_of: dict[str, set[int]] = {}
    for sequence, label in zip(data.sequences, data.labels.tolist(), strict=True):
        labels_of.setdefault(sequence, set()).add(label)
    first = {sequence: i for i, sequence in reversed(list(enumerate(data.sequences)))}
    kept = sorted(i for sequence, i in first.items() if len(labels_of[sequence]) == 1)
    conflicting = sum(len(labels_of[sequence]) > 1 for sequence in data.sequences)
    sequences = [data.sequences[i] for i in kept]
    smaller = LabelledSequences(
        names=[data.names[i] for i in kept],
        sequences=sequences,
        labels=data.labels[kept],
        classes=data.classes,
        iupac=sum(map(count_iupac, sequences)),
    )
    return smaller, Duplicates(repeated=len(data) - conflicting - len(kept), conflicting=conflicting)


def labelled_sequences(rows: Sequence[LabelledRow], classes: Sequence[str] | None = None) -> LabelledSequences:
    """Rows as they came, their labels as numbers.

    Raises:
        InputError: a label is none of `classes`.
    """
    known = list(classes) if classes is not None else _in_order({row.label for row in rows})
    index = {name: i for i, name in enumerate(known)}
    for row in rows:
        if row.label not in index:
            raise InputError(f"{row.place}: no class {row.label!r}. {hint(row.label, known)}")
    sequences = [row.sequence.upper() for row in rows]
    return LabelledSequences(
        names=[row.name for row in rows],
        sequences=sequences,
        labels=np.array([index[row.label] for row in rows], dtype=np.int64),
        classes=known,
        iupac=sum(map(count_iupac, sequences)),
    )


def _in_order(labels: set[str]) -> list[str]:
    """Numbers by their value, so that 10 comes after 9; words by the alphabet."""
    numeric = all(re.fullmatch(r"-?\d+", label) for label in labels)
    return sorted(labels, key=int) if numeric else sorted(labels)


def with_unique_names(rows: Sequence[LabelledRow]) -> list[LabelledRow]:
    """The same rows; a name that occurs again gets `#2` and so on."""
    seen: Counter[str] = Counter()
    unique = []
    for row in rows:
        seen[row.name] += 1
        name = row.name if seen[row.name] == 1 else f"{row.name}#{seen[row.name]}"
        unique.append(LabelledRow(name, row.sequence, row.label, row.place))
    return unique


def _refuse_repeated(path: Path, rows: list[LabelledRow]) -> None:
    repeated = [name for name, count in Counter(row.name for row in rows).items() if count > 1]
    if repeated:
        raise InputError(f"{path}: {_listed(repeated)} named more than once. Each sequence has one row and one label.")


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def _table_rows(
    path: Path, *, with_fasta: bool, columns: Sequence[Role] | None, keep: Mapping[str, str]
) -> Iterator[LabelledRow]:
    cells = _cells(path)
    _, first = next(cells, (0, None))
    if first is None:
        return
    header = _header(first)
    roles = _roles_by_name(header)
    if roles is None:
        if keep:
            raise InputError(f"{path}: rows can only be kept by column where line 1 names the columns.")
        roles = _roles_by_place(path, first, columns, with_fasta)
        cells = _cells(path)
    for needed in ("label", "name" if with_fasta else "sequence"):
        if needed not in roles:
            raise InputError(_no_column(path, needed, header))
    wanted = {_column(path, header, name): value for name, value in keep.items()}
    for number, row in cells:
        place = f"{path}: line {number}"
        if len(row) <= max(roles.values()):
            raise InputError(f"{place}: {len(row)} columns, expected at least {max(roles.values()) + 1}.")
        if all(row[i] == value for i, value in wanted.items()):
            yield _row(place, number, row, roles, with_fasta)


def _row(place: str, number: int, cells: list[str], roles: dict[str, int], with_fasta: bool) -> LabelledRow:
    name = cells[roles["name"]] if "name" in roles else f"line{number}"
    sequence = "" if with_fasta else cells[roles["sequence"]]
    for what, value in (("name", name), ("label", cells[roles["label"]]), ("sequence", sequence or with_fasta)):
        if not value:
            raise InputError(f"{place}: the {what} is empty.")
    check_letters(sequence, f"{place}: {name}")
    return LabelledRow(name, sequence, cells[roles["label"]], place)


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The numbered rows of a table, without comments; a header may be written as a first comment."""
    separator = None
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        likely = separator or ("\t" if "\t" in line else ",")
        if line.startswith("#") and (separator or _roles_by_name(_header(line.split(likely))) is None):
            continue
        separator = likely
        yield number, [cell.strip() for cell in _split(path, number, line, separator)]


def _header(cells: list[str]) -> list[str]:
    return [cell.removeprefix("#").strip().lower() for cell in cells]


def _split(path: Path, number: int, line: str, separator: str) -> list[str]:
    if separator == "\t":
        return line.split("\t")
    try:
        return next(csv.reader([line], skipinitialspace=True))
    except csv.Error as error:
        raise InputError(f"{path}: line {number} is no CSV ({error}). A table with tabs has no such limits.") from error


def _roles_by_name(header: list[str]) -> dict[str, int] | None:
    """Which column is what, if a row is a header: it names the labels and a name or a sequence."""
    roles: dict[str, int] = {}
    for role, names in COLUMN_NAMES.items():
        found = next((name for name in names if name in header), None)
        if found is not None:
            roles[role] = header.index(found)
    return roles if "label" in roles and len(roles) > 1 else None


def _roles_by_place(path: Path, first: list[str], columns: Sequence[Role] | None, with_fasta: bool) -> dict[str, int]:
    if columns is None and len(first) == 2:
        columns = ("name", "label") if with_fasta else ("sequence", "label")
    if columns is None:
        raise InputError(
            f"{path}: line 1 names no columns and has {len(first)} cells. Write a header such as "
            f"'name, sequence, label' there, or say what the columns mean with `columns`."
        )
    return {role: i for i, role in enumerate(columns) if role}


def _no_column(path: Path, needed: str, header: list[str]) -> str:
    names = ", ".join(COLUMN_NAMES[needed])  # type: ignore[index]
    advice = " or name the FASTA that holds the sequences" if needed == "sequence" else ""
    return f"{path}: no column for the {needed}. Expected one named {names}{advice}; found {', '.join(header)}."


def _column(path: Path, header: list[str], name: str) -> int:
    if name.lower() not in header:
        raise InputError(f"{path}: no column named {name!r}. {hint(name.lower(), header)}")
    return header.index(name.lower())


def _looked_up(path: Path, rows: list[LabelledRow], file: FastaFile, unlabelled: str) -> list[LabelledRow]:
    for row in rows:
        if row.name not in file:
            raise InputError(
                f"{row.place}: {row.name!r} is not in {file.path}. {hint_for_record(row.name, file.names)}"
            )
    labelled = {row.name for row in rows}
    left = [name for name in file.names if name not in labelled]
    if left and unlabelled == "refuse":
        raise InputError(
            f"{file.path}: {len(left)} of {len(file)} sequences have no label in {path}: {_listed(left)}. "
            f"Add them to the table, or pass unlabelled='skip'."
        )
    letters = {record.name: record.sequence for record in file if record.name in labelled}
    return [LabelledRow(row.name, letters[row.name], row.label, row.place) for row in rows]


def _cut_out(reference: FastaFile, interval: BedInterval) -> LabelledRow:
    chrom, start, end, place = interval.contig, interval.start, interval.end, interval.place
    if not interval.name:
        raise InputError(f"{place}: column 4 is missing or empty, expected the class.")
    if chrom not in reference:
        raise InputError(f"{place}: {chrom!r} is not in {reference.path}. {hint_for_record(chrom, reference.names)}")
    length = reference.lengths[chrom]
    if end > length:
        raise InputError(f"{place}: ends at {end}, beyond {chrom} of {length} letters. Is this the right assembly?")
    sequence = reference.fetch(chrom, start, end)
    sequence = reverse_complement_string(sequence) if interval.strand == "-" else sequence
    return LabelledRow(f"{chrom}:{start}-{end}:{interval.strand}", sequence, interval.name, place)


def _labelled_by_header(path: Path, record: Record, style: LabelStyle) -> LabelledRow:
    place = f"{path}: record {record.name!r}"
    header = f"{record.name} {record.description}".strip()
    name, label = record.name, ""
    if style == "word":
        label = next(iter(record.description.split()), "")
    elif style == "pipe":
        before, _, label = header.rpartition("|")
        name, label = before.strip(), label.strip()
    elif style == "key":
        found = re.search(r"\b(?:label|class)=(\S+)", header, re.IGNORECASE)
        label = found.group(1) if found else ""
    else:
        raise InputError(f"no label style {style!r}. {hint(style, ['word', 'pipe', 'key'])}")
    if not label or not name:
        raise InputError(f"{place}: no class in its header, expected {_EXPECTED[style]}.")
    return LabelledRow(name, record.sequence, label, place)


_EXPECTED: dict[LabelStyle, str] = {"word": "'>name class'", "pipe": "'>name|class'", "key": "'>name label=class'"}
