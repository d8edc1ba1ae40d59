"""What the rows of a table are: the records of a FASTA, the intervals of a BED, the alleles of a VCF."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from helixwave_domains.genomics.bed import BedInterval, read_intervals
from helixwave_domains.genomics.embedding import Passage
from helixwave_domains.genomics.fasta import read_fasta, read_records
from helixwave_domains.genomics.store import Column
from helixwave_domains.genomics.variants import Allele, Status, count_alleles, read_alleles
from helixwave_domains.genomics.windows import (
    AlleleWindows,
    IntervalWindow,
    OnMismatch,
    allele_windows,
    checked_center,
    interval_window,
)


class Row(NamedTuple):
    """One row.

    Args:
        cells: what describes it, by column.
        status: what became of it.
        passages: what to embed, one for each of the rows' roles; none unless the status is usable.
    """

    cells: dict[str, Any]
    status: Status
    passages: tuple[Passage, ...]


class Rows(Protocol):
    """Files as rows, the same ones in the same order whenever they are gone through."""

    columns: ClassVar[list[Column]]
    """The cells of a row."""
    roles: ClassVar[tuple[str, ...]]
    """What the passages of a row are called, at the beginning of their columns' names."""

    @property
    def inputs(self) -> dict[str, Path]:
        """The files."""

    @property
    def options(self) -> dict[str, Any]:
        """What else decides on the rows, as JSON can hold it."""

    def size(self) -> tuple[int, int]:
        """How many rows there are, and how many letters they have together, give or take a few."""

    def __iter__(self) -> Iterator[Row]:
        """The rows, as they are asked for."""


@dataclass(frozen=True)
class FastaRows:
    """The records of a FASTA; unlike elsewhere their names may repeat.

    Args:
        path: FASTA (plain, gzip or BGZF).
    """

    path: Path
    columns: ClassVar[list[Column]] = [Column("name", "string")]
    roles: ClassVar[tuple[str, ...]] = ("",)

    @property
    def inputs(self) -> dict[str, Path]:
        return {"fasta": self.path}

    @property
    def options(self) -> dict[str, Any]:
        return {}

    def size(self) -> tuple[int, int]:
        """Goes through the whole file, so that a letter that is none of DNA's is found before work begins."""
        rows = letters = 0
        for record in read_records(self.path):
            rows, letters = rows + 1, letters + len(record.sequence)
        return rows, letters

    def __iter__(self) -> Iterator[Row]:
        for record in read_records(self.path):
            yield Row({"name": record.name}, Status.OK, (Passage(record.name, record.sequence),))


@dataclass(frozen=True)
class BedRows:
    """The intervals of a BED, or windows around their middles.

    Args:
        path: BED, plain or gzip.
        reference: FASTA of the genome.
        window: letters around the middle of each interval; None: the interval itself.
    """

    path: Path
    reference: Path
    window: int | None
    columns: ClassVar[list[Column]] = [
        Column("name", "string"),
        Column("contig", "string"),
        Column("start", "int64"),
        Column("end", "int64"),
        Column("strand", "string"),
        Column("padded", "int64", 2),
    ]
    roles: ClassVar[tuple[str, ...]] = ("",)

    @property
    def inputs(self) -> dict[str, Path]:
        return {"bed": self.path, "reference": self.reference}

    @property
    def options(self) -> dict[str, Any]:
        if self.window is not None:
            checked_center(self.window, None)
        return {"window": self.window}

    def size(self) -> tuple[int, int]:
        _expect_fasta(self.reference)
        rows = letters = 0
        for interval in read_intervals(self.path):
            rows += 1
            letters += interval.end - interval.start if self.window is None else self.window
        return rows, letters

    def __iter__(self) -> Iterator[Row]:
        with read_fasta(self.reference) as fasta:
            for interval in read_intervals(self.path):
                yield _interval_row(interval, interval_window(interval, fasta, window=self.window))


@dataclass(frozen=True)
class AlleleRows:
    """The alleles of a VCF or BCF in windows of the genome, in each window once as in REF and once as in ALT.

    Args:
        path: VCF (plain, gzip or BGZF) or BCF.
        reference: FASTA of the genome.
        window: letters of a window.
        center: the index at which the alleles begin to differ; None: the middle.
        on_mismatch: what to do where REF is not what the genome says.
    """

    path: Path
    reference: Path
    window: int
    center: int | None
    on_mismatch: OnMismatch
    columns: ClassVar[list[Column]] = [
        Column("record", "int64"),
        Column("name", "string"),
        Column("contig", "string"),
        Column("position", "int64"),
        Column("ref", "string"),
        Column("alt", "string"),
        Column("start", "int64"),
        Column("padded", "int64", 2),
    ]
    roles: ClassVar[tuple[str, ...]] = ("ref_", "alt_")

    @property
    def inputs(self) -> dict[str, Path]:
        return {"vcf": self.path, "reference": self.reference}

    @property
    def options(self) -> dict[str, Any]:
        center = checked_center(self.window, self.center)
        return {"window": self.window, "center": center, "ref_mismatch": self.on_mismatch}

    def size(self) -> tuple[int, int]:
        _expect_fasta(self.reference)
        rows = count_alleles(self.path)
        return rows, 2 * rows * self.window

    def alleles(self) -> Iterator[tuple[Allele, AlleleWindows]]:
        """Every allele with its windows."""
        with read_fasta(self.reference) as fasta:
            for allele in read_alleles(self.path):
                windows = allele_windows(
                    allele, fasta, window=self.window, center=self.center, on_mismatch=self.on_mismatch
                )
                yield allele, windows

    def __iter__(self) -> Iterator[Row]:
        for allele, windows in self.alleles():
            passages = allele_passages(str(allele), windows) if windows.status.usable else ()
            yield Row(allele_cells(allele, windows), windows.status, passages)


def _expect_fasta(path: Path) -> None:
    """Raise InputError if a genome cannot be read; its index is there afterwards."""
    with read_fasta(path):
        pass


def allele_cells(allele: Allele, windows: AlleleWindows) -> dict[str, Any]:
    """What describes an allele: the file's own words, and where its windows lie."""
    return {
        "record": allele.record,
        "name": allele.id,
        "contig": allele.contig,
        "position": allele.position,
        "ref": allele.ref,
        "alt": allele.alt,
        "start": windows.start,
        "padded": windows.padded,
    }


def allele_passages(name: str, windows: AlleleWindows) -> tuple[Passage, Passage]:
    """Both windows of an allele, each with the padding that it has itself."""
    before, behind = windows.padded
    (first, ref_end), (_, alt_end) = windows.ref_focus, windows.alt_focus
    # the window with the shorter allele reaches further into the genome
    longer = (ref_end - first) - (alt_end - first)
    return (
        Passage(name, windows.ref, (before, max(0, behind - max(0, longer)))),
        Passage(name, windows.alt, (before, max(0, behind - max(0, -longer)))),
    )


def _interval_row(interval: BedInterval, window: IntervalWindow) -> Row:
    cells = {
        "name": interval.name,
        "contig": interval.contig,
        "start": interval.start,
        "end": interval.end,
        "strand": interval.strand,
        "padded": window.padded,
    }
    if not window.status.usable:
        return Row(cells, window.status, ())
    cells |= {"start": window.start, "end": window.start + len(window.letters)}
    padded = window.padded[::-1] if interval.strand == "-" else window.padded
    return Row(cells, window.status, (Passage(interval.place, window.letters, padded),))
