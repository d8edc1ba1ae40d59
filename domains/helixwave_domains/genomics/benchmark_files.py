"""The layouts of published benchmarks: tables of coordinates, a text file for each sequence, FASTA headers."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from helixwave.errors import InputError

from helixwave_domains.genomics.alphabet import check_letters, reverse_complement_string
from helixwave_domains.genomics.fasta import FastaFile, read_records
from helixwave_domains.genomics.labels import LabelledRow
from helixwave_domains.genomics.sources import existing_file, hint, text_lines
from helixwave_domains.genomics.windows import contig_names

Part = Literal["train", "test"]
PARTS: tuple[Part, ...] = ("train", "test")
Rows = dict[Part, list[LabelledRow]]

_COLUMNS = ("region", "start", "end", "strand")
_LISTED = 5


@dataclass
class Uncut:
    """Intervals that a reference does not hold, which are in no part.

    Args:
        unknown: how many lie on each contig that is not in the FASTA.
        outside: how many reach beyond the end of their contig.
        total: intervals in all, cut or not.
    """

    unknown: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    total: int = 0

    def __str__(self) -> str:
        missing = self.unknown.total() + self.outside
        if not missing:
            return f"none of {self.total}"
        contigs = ", ".join(f"{count} on {contig}" for contig, count in self.unknown.most_common(_LISTED))
        more = f" and {len(self.unknown) - _LISTED} more contigs" if len(self.unknown) > _LISTED else ""
        reasons = [f"{self.unknown.total()} on contigs that the FASTA lacks ({contigs}{more})"] if self.unknown else []
        reasons += [f"{self.outside} beyond the end of their contig"] if self.outside else []
        return f"{missing} of {self.total}: {', '.join(reasons)}"


def read_coordinates(folder: Path, references: Mapping[str, FastaFile]) -> tuple[Rows, dict[Part, Uncut]]:
    """Cut the intervals of `{train,test}/CLASS.csv` (or `.csv.gz`) out of the reference of their class.

    The columns are `region, start, end, strand`, positions count from 0 and ends are exclusive; the strand `-` is the
    reverse complement, and an empty one is `+`. A region may be written with or without `chr`, a transcript without
    its version.

    Args:
        folder: the two folders' place.
        references: for each class the FASTA that its intervals lie in.

    Returns:
        the sequences of both parts, and for each part what could not be cut.
    """
    rows: Rows = {part: [] for part in PARTS}
    uncut = {part: Uncut() for part in PARTS}
    for part in PARTS:
        for label, fasta in references.items():
            rows[part] += _cut(_table(folder / part, label), label, fasta, uncut[part])
    return rows, uncut


def read_text_files(folder: Path, classes: Iterable[str]) -> Rows:
    """Read `{train,test}/CLASS/NAME.txt`, each file one sequence, as the package genomic-benchmarks writes them."""
    return {part: [row for label in classes for row in _text_files(folder / part / label, label)] for part in PARTS}


def read_split_headers(path: Path) -> Rows:
    """Read a FASTA whose headers say part and class, `>name split=train class=positive`; a name may occur again."""
    rows: Rows = {part: [] for part in PARTS}
    for record in read_records(path):
        place = f"{path}: record {record.name!r}"
        split = re.search(r"\bsplit=(train|test)\b", record.description, re.IGNORECASE)
        label = re.search(r"\b(?:label|class)=(\S+)", record.description, re.IGNORECASE)
        if split is None or label is None:
            raise InputError(f"{place}: expected a header '>name split=train class=CLASS' (or split=test).")
        part: Part = "train" if split.group(1).lower() == "train" else "test"
        rows[part].append(LabelledRow(record.name, record.sequence, label.group(1), place))
    return rows


@dataclass(frozen=True)
class _Interval:
    region: str
    start: int
    end: int
    strand: str
    place: str


def _table(folder: Path, label: str) -> list[_Interval]:
    packed = folder / f"{label}.csv.gz"
    path = existing_file(packed if packed.exists() else folder / f"{label}.csv", "table of intervals")
    lines = csv.reader(text_lines(path))
    header = next(lines)
    for column in _COLUMNS:
        if column not in header:
            raise InputError(f"{path}: no column {column!r}, found {', '.join(header)}. {hint(column, header)}")
    places = [header.index(column) for column in _COLUMNS]
    return [_interval(f"{path}: line {number}", row, places) for number, row in enumerate(lines, start=2) if row]


def _interval(place: str, row: list[str], places: list[int]) -> _Interval:
    if len(row) <= max(places):
        raise InputError(f"{place}: {len(row)} columns, expected at least {max(places) + 1}.")
    region, start, end, strand = (row[i].strip() for i in places)
    if not (start.isdecimal() and end.isdecimal() and int(start) < int(end)):
        raise InputError(f"{place}: start {start!r} and end {end!r}, expected whole numbers 0 <= start < end.")
    if strand not in ("+", "-", ""):
        raise InputError(f"{place}: strand {strand!r}, expected '+', '-' or nothing.")
    return _Interval(region, int(start), int(end), strand, place)


def _cut(intervals: list[_Interval], label: str, fasta: FastaFile, uncut: Uncut) -> Iterator[LabelledRow]:
    records = _records(fasta, {interval.region for interval in intervals})
    uncut.total += len(intervals)
    for interval in intervals:
        record = records[interval.region]
        if record is None:
            uncut.unknown[interval.region] += 1
        elif interval.end > fasta.lengths[record]:
            uncut.outside += 1
        else:
            letters = fasta.fetch(record, interval.start, interval.end)
            letters = reverse_complement_string(letters) if interval.strand == "-" else letters
            name = f"{interval.region}:{interval.start}-{interval.end}:{interval.strand or '+'}"
            yield LabelledRow(name, letters, label, interval.place)


def _records(fasta: FastaFile, regions: set[str]) -> dict[str, str | None]:
    """For each region the record that it means; Ensembl's transcripts have a version behind a dot in the FASTA."""
    unversioned = {name.rpartition(".")[0]: name for name in fasta.names}
    return {region: found or unversioned.get(region) for region, found in contig_names(fasta, regions).items()}


def _text_files(folder: Path, label: str) -> Iterator[LabelledRow]:
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder. Expected one text file for each sequence of {label!r}.")
    for path in sorted(folder.glob("*.txt")):
        letters = existing_file(path, "text file").read_text(encoding="utf-8", errors="replace").strip()
        check_letters(letters, str(path))
        if not letters:
            raise InputError(f"{path}: the text file holds no letters.")
        yield LabelledRow(path.stem, letters, label, str(path))
