"""Windows of a genome without labels, to pretrain a language model on."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from helixwave.cards import read_card
from helixwave.data import Picture
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.genomics.encoded import EncodedGenome, read_encoded
from helixwave_domains.genomics.regions import Region, split_regions
from helixwave_domains.genomics.vocabulary import DNA
from helixwave_domains.genomics.window_splits import (
    RandomWindows,
    WindowSplit,
    expect_windows,
    side_by_side,
)

_MOSTLY = 0.5


class DnaWindows:
    """Windows of a genome, with no labels: for the objectives `masked` and `causal`.

    What is for validation and for testing is said by column 4 of a BED (`train`, `valid`, `test`), by the names of
    contigs, or by the place: the last tenth of all regions is for testing, the tenth before it for validation. No
    window reaches beyond its region. Windows of unknown bases alone are left out; soft-masked letters read as others.

    Args:
        fasta: the genome, plain, gzip or BGZF; null: the chloroplast of Arabidopsis that comes with the package.
        bed: intervals to use.
        validation_contigs, test_contigs: records for validation and for testing.
        validation, test: shares, where the place decides.
        length: bases of a window.
        sampling: whether training windows are drawn at `random` in each epoch or stand side by side (`tiled`).
        windows: that are drawn in an epoch; null: as many as have the bases of all training regions.
        evaluated: at most so many windows of validation, and of each contig of the test, evenly spaced.
        either_strand: half of the training windows are reverse complemented. An equivariant model does not need it: its
            loss is the same.
    """

    vocabulary = DNA

    def __init__(
        self,
        *,
        fasta: str | None = None,
        bed: str | None = None,
        validation_contigs: list[str] | None = None,
        test_contigs: list[str] | None = None,
        validation: float = 0.1,
        test: float = 0.1,
        length: int = 1024,
        sampling: Literal["random", "tiled"] = "random",
        windows: int | None = None,
        evaluated: int = 1024,
        either_strand: bool = True,
    ):
        _expect_positive(length=length, windows=windows, evaluated=evaluated)
        self.classes: list[str] = []
        path, excluded = _chloroplast() if fasta is None else (fasta, [])
        self.genome, self.length = read_encoded(path), length
        self.regions = split_regions(
            str(self.genome.path),
            self.genome.lengths,
            bed=bed,
            excluded=excluded,
            validation_contigs=validation_contigs,
            test_contigs=test_contigs,
            validation=validation,
            test=test,
        )
        self.unknown = self.mostly_unknown = 0
        tiles = {part: self._tiles(part, regions) for part, regions in self.regions.items()}
        split = WindowSplit(self.genome, tiles["train"], length, either_strand=either_strand)
        drawn = windows or max(1, sum(map(len, self.regions["train"])) // length)
        self.train = split if sampling == "tiled" else RandomWindows(split, self.regions["train"], drawn)
        self.validation = self._evaluated(tiles["validation"], evaluated)
        by_contig = _by_contig(self.genome, tiles["test"])
        self.test_parts = {contig: self._evaluated(starts, evaluated) for contig, starts in by_contig.items()}
        starts = np.concatenate([part.starts for part in self.test_parts.values()])
        self.test = WindowSplit(self.genome, starts, length)

    def describe(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"genome": f"{self.genome.path.name}, {len(self.genome.ids):,} bases"}
        for part, split in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            contigs = {region.contig for region in self.regions[part]}
            bases = sum(map(len, self.regions[part]))
            facts[part] = f"{bases:,} bases of {len(contigs)} records, {len(split):,} windows of {self.length:,}"
        return {
            **facts,
            "windows of unknown bases alone, left out": self.unknown,
            "windows of more than half unknown bases": self.mostly_unknown,
            "ambiguity codes read as unknown": self.genome.iupac,
        }

    def export(self, model: Any, folder: Path) -> list[Picture]:
        return []

    def _evaluated(self, starts: NDArray[np.int64], most: int) -> WindowSplit:
        """At most so many of the windows, evenly spaced."""
        kept = np.linspace(0, len(starts) - 1, min(most, len(starts))).round().astype(int)
        return WindowSplit(self.genome, starts[kept], self.length)

    def _tiles(self, part: str, regions: list[Region]) -> NDArray[np.int64]:
        """Windows side by side with at least one base; the others are counted."""
        where = f"the {part} regions of {self.genome.path}"
        expect_windows(where, regions, self.length)
        starts = side_by_side(self.genome, regions, self.length)
        unknown = self.genome.unknown(starts, self.length)
        self.unknown += int((unknown == self.length).sum())
        self.mostly_unknown += int(((unknown > _MOSTLY * self.length) & (unknown < self.length)).sum())
        if (unknown == self.length).all():
            raise InputError(f"data: each window of {where} holds N or other unknown bases alone. Choose other regions")
        return starts[unknown < self.length]


def _expect_positive(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise InputError(f"data: {name} is {value}, expected at least 1")


def _chloroplast() -> tuple[Path, list[Region]]:
    """The embedded genome, and the second copy of its inverted repeat, which would show test bases to the training."""
    card = read_card("arabidopsis_chloroplast")
    rows = [line.split("\t") for line in card.file("coding.tsv").read_text(encoding="utf-8").splitlines()]
    excluded = [Region(row[0], int(row[2]), int(row[3])) for row in rows if row[1] == "excluded"]
    return card.file("NC_000932.fasta"), excluded


def _by_contig(genome: EncodedGenome, starts: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    names, offsets = list(genome.offsets), np.array(list(genome.offsets.values()))
    numbers = np.searchsorted(offsets, starts, side="right") - 1
    return {names[number]: starts[numbers == number] for number in np.unique(numbers).tolist()}
