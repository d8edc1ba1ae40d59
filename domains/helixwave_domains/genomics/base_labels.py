"""Windows of a genome in which each base has a class, from the intervals of a BED."""

from pathlib import Path
from typing import Any

import numpy as np
from helixwave.data import Picture
from helixwave.data.batches import IGNORED
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.genomics.bed import read_intervals
from helixwave_domains.genomics.encoded import EncodedGenome, read_encoded
from helixwave_domains.genomics.label_model import DNALabelModel
from helixwave_domains.genomics.regions import Region, expect_inside, split_regions
from helixwave_domains.genomics.vocabulary import DNA
from helixwave_domains.genomics.window_splits import RandomWindows, WindowSplit, expect_windows, side_by_side


class LabelledWindows:
    """Windows of a genome with a class at each base: what a BED names in column 4, or the background.

    Validation and test regions are as in `dna_windows`. Bases that are unknown are not scored.

    Args:
        fasta: the genome, plain, gzip or BGZF.
        labels: BED whose column 4 is the class of all bases of an interval.
        background: the class of all other bases.
        bed: intervals to use, with `train`, `valid` or `test` in column 4 or nothing of the kind.
        validation_contigs, test_contigs: records for validation and for testing.
        validation, test: shares, where the place decides.
        length: bases of a window.
        windows: that are drawn in an epoch; null: as many as have the bases of all training regions.
        either_strand: whether classes are the same on both strands; half of the training windows are then reverse
            complemented.
    """

    vocabulary = DNA

    def __init__(
        self,
        *,
        fasta: str,
        labels: str,
        background: str = "background",
        bed: str | None = None,
        validation_contigs: list[str] | None = None,
        test_contigs: list[str] | None = None,
        validation: float = 0.1,
        test: float = 0.1,
        length: int = 1024,
        windows: int | None = None,
        either_strand: bool = False,
    ):
        self.genome = read_encoded(fasta)
        self.regions = split_regions(
            str(self.genome.path),
            self.genome.lengths,
            bed=bed,
            validation_contigs=validation_contigs,
            test_contigs=test_contigs,
            validation=validation,
            test=test,
        )
        self.classes, targets = _targets(self.genome, labels, background)
        splits = {}
        for part, regions in self.regions.items():
            expect_windows(f"the {part} regions of {self.genome.path}", regions, length)
            starts = side_by_side(self.genome, regions, length)
            splits[part] = WindowSplit(self.genome, starts, length, targets, either_strand and part == "train")
        drawn = windows or max(1, sum(map(len, self.regions["train"])) // length)
        self.train = RandomWindows(splits["train"], self.regions["train"], drawn)
        self.validation, self.test = splits["validation"], splits["test"]
        self.targets = targets

    def describe(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"genome": f"{self.genome.path.name}, {len(self.genome.ids):,} bases"}
        for part, regions in self.regions.items():
            target = np.concatenate([self._target(region) for region in regions])
            counts = np.bincount(target[target != IGNORED], minlength=len(self.classes))
            listed = ", ".join(f"{count:,} {label}" for label, count in zip(self.classes, counts, strict=True))
            facts[part] = f"{len(target):,} bases ({listed})"
        return {**facts, "ambiguity codes read as unknown": self.genome.iupac}

    def export(self, model: Any, folder: Path) -> list[Picture]:
        """What a classifier of bases reads around single test bases, and how it sees them all."""
        if not isinstance(model, DNALabelModel) or model.predicts != "class":
            return []
        from helixwave_domains.genomics.genome_page import Stretch, base_page

        tested = [Stretch(r.contig, r.start, self._ids(r), self._target(r)) for r in self.regions["test"]]
        return base_page(model, tested, self.classes)

    def _ids(self, region: Region) -> NDArray[np.uint8]:
        offset = self.genome.offsets[region.contig]
        return self.genome.ids[offset + region.start : offset + region.end]

    def _target(self, region: Region) -> NDArray[np.int16]:
        offset = self.genome.offsets[region.contig]
        return self.targets[offset + region.start : offset + region.end]


def _targets(genome: EncodedGenome, labels: str, background: str) -> tuple[list[str], NDArray[np.int16]]:
    """The classes, the background first, and that of each place of a genome."""
    intervals = list(read_intervals(labels))
    names = sorted({interval.name for interval in intervals} - {background})
    number = {name: i for i, name in enumerate([background, *names])}
    targets = np.zeros(len(genome.ids), dtype=np.int16)
    for interval in intervals:
        expect_inside(str(genome.path), genome.lengths, interval)
        if not interval.name:
            raise InputError(f"{interval.place}: column 4 is missing or empty, expected the class")
        offset = genome.offsets[interval.contig]
        here = targets[offset + interval.start : offset + interval.end]
        other = here[(here != 0) & (here != number[interval.name])]
        if len(other):
            raise InputError(
                f"{interval.place}: {interval.name!r} overlaps {[background, *names][int(other[0])]!r}. "
                "A base has one class: take one of them away"
            )
        here[:] = number[interval.name]
    for start, end in genome.gaps.tolist():
        targets[start:end] = IGNORED
    return [background, *names], targets
