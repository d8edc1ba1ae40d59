"""Reading BED, the format of intervals: contig, start, end, and where they are given name, score and strand."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helixwave.errors import InputError

from helixwave_domains.genomics.sources import existing_file, text_lines


@dataclass(frozen=True, slots=True)
class BedInterval:
    """A line of a BED file.

    Args:
        contig: its first column.
        start: its first position, counted from 0.
        end: one past its last position.
        name: column 4, empty where there is none.
        score: column 5 as it is written, empty where there is none.
        strand: `+`, `-`, or `.` where it does not matter.
        place: file and line, for error messages.
    """

    contig: str
    start: int
    end: int
    name: str = ""
    score: str = ""
    strand: str = "."
    place: str = ""


def read_intervals(path: Path | str) -> Iterator[BedInterval]:
    """The intervals of a BED file, plain or gzip, as they are asked for.

    Raises:
        InputError: the file is missing or damaged, or a line is no interval.
    """
    path = existing_file(path, "BED file")
    for number, line in enumerate(text_lines(path), start=1):
        if line.strip() and not line.startswith(("#", "track", "browser")):
            yield _interval(f"{path}: line {number}", line)


def _interval(place: str, line: str) -> BedInterval:
    cells = [cell.strip() for cell in (line.split("\t") if "\t" in line else line.split())]
    if len(cells) < 3 or not cells[0]:
        raise InputError(f"{place}: {len(cells)} columns, expected at least 3: chrom, start and end.")
    start, end = (_coordinate(place, cell) for cell in cells[1:3])
    if not 0 <= start < end:
        raise InputError(f"{place}: start {start} and end {end}, expected 0 <= start < end (BED counts from 0).")
    name, score, strand, *_ = [*cells[3:6], *["", "", "."][len(cells[3:6]) :]]
    if strand not in ("+", "-", "."):
        raise InputError(f"{place}: strand {strand!r}, expected '+', '-' or '.' in column 6.")
    return BedInterval(cells[0], start, end, name, score, strand, place)


def _coordinate(place: str, cell: str) -> int:
    try:
        return int(cell)
    except ValueError as error:
        raise InputError(f"{place}: {cell!r} is no coordinate, expected a whole number.") from error
