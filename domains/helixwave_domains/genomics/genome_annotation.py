"""Reading frames of a real genome at the resolution of one base: the main job's data."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from helixwave.cards import read_card
from helixwave.data import Example, Picture
from helixwave.data.batches import IGNORED
from helixwave.errors import InputError

from helixwave_domains.genomics.alphabet import PAD, count_unknown, encode, reverse_complement
from helixwave_domains.genomics.annotation import read_genome
from helixwave_domains.genomics.genome import FRAME_CLASSES, Genome, labels, reverse_complement_labels
from helixwave_domains.genomics.sequences import mutated
from helixwave_domains.genomics.tracks import plot_track, segments, write_bed, write_gff3
from helixwave_domains.genomics.vocabulary import DNA

if TYPE_CHECKING:
    from helixwave_domains.genomics.models import ReadingFrameAnnotator

_TEST, _VALIDATION, _CYCLE = 2, 4, 5


class GenomeAnnotation:
    """A genome in blocks: of every five, the third is for testing, the fifth for validation, the others for training.

    Nothing is read across the border of a block. What the annotation excludes (such as the second copy of an inverted
    repeat) is in no block.

    Args:
        genome: GenBank record or FASTA file; null: the chloroplast of Arabidopsis that comes with the package.
        annotation: GFF3 file, or a table of coding segments, for a FASTA genome.
        block: bases of a block.
        window: bases of a training example, drawn at random from the blocks, on either strand.
        repeats: training windows in an epoch, as a multiple of the training bases.
        mutation: part of the bases of a training window that is replaced by a random one.
    """

    vocabulary = DNA

    def __init__(
        self,
        *,
        genome: str | None = None,
        annotation: str | None = None,
        block: int = 8192,
        window: int = 1024,
        repeats: float = 1.0,
        mutation: float = 0.0,
    ):
        if not 1 <= window <= block:
            raise InputError(f"data: window is {window}, expected 1 to {block}, the length of a block")
        if genome is None:
            card = read_card("arabidopsis_chloroplast")
            genome, annotation = str(card.file("NC_000932.fasta")), str(card.file("coding.tsv"))
        self.genomes = read_genome(genome, annotation)
        self.classes = FRAME_CLASSES
        self.blocks = list(_cut(self.genomes, block))
        if len(self.blocks) < _CYCLE:
            raise InputError(
                f"{genome}: {len(self.blocks)} blocks of {block} bases, expected at least {_CYCLE} to split. "
                "Make data.block smaller"
            )
        parts = {kind: [b for b in self.blocks if b.part == kind] for kind in ("train", "validation", "test")}
        self.train = _Windows(parts["train"], window, repeats, mutation)
        self.validation, self.test = _Blocks(parts["validation"]), _Blocks(parts["test"])

    def describe(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "records": ", ".join(f"{genome.name} ({len(genome.sequence):,} bases)" for genome in self.genomes),
            "ambiguous bases": sum(count_unknown(block.ids) for block in self.blocks),
        }
        for part in ("train", "validation", "test"):
            blocks = [block for block in self.blocks if block.part == part]
            target = np.concatenate([block.target for block in blocks])
            coded = (target > 0).sum() / max((target != IGNORED).sum(), 1)
            facts[part] = (
                f"{len(blocks)} blocks, {len(target):,} bases, {(target == IGNORED).sum():,} not scored, "
                f"{coded:.1%} of the scored ones coding"
            )
        return facts

    def export(self, model: "ReadingFrameAnnotator", folder: Path) -> list[Picture]:
        """The predicted genes of the whole genome as GFF3 and BED; the track of the first record, the genome page."""
        from helixwave_domains.genomics.genome_page import Stretch, base_page

        probabilities = {genome.name: model.predict(genome.sequence) for genome in self.genomes}
        found = {name: (len(p), segments(p)) for name, p in probabilities.items()}
        write_gff3(folder / "predicted.gff3", found)
        write_bed(folder / "predicted.bed", found)
        first = self.genomes[0]
        held_out = [(b.start, b.start + len(b.ids)) for b in self.blocks if b.record == first.name and b.part == "test"]
        figure = plot_track(first, probabilities[first.name], shaded=held_out)
        caption = (
            "Annotated reading frames above, predicted ones below, for the whole record. Shaded: the test blocks, "
            "which were not used in training. Grey: not scored."
        )
        tested = [Stretch(b.record, b.start, b.ids, b.target) for b in self.blocks if b.part == "test"]
        return [Picture(f"Genome track of {first.name}", caption, figure), *base_page(model, tested, self.classes)]


class _Block:
    def __init__(self, record: str, start: int, part: str, ids: np.ndarray, target: np.ndarray):
        self.record, self.start, self.part, self.ids, self.target = record, start, part, ids, target


def _cut(genomes: list[Genome], block: int) -> Iterator[_Block]:
    number = 0
    for genome in genomes:
        ids, target = encode(genome.sequence, genome.name).astype(np.int64), labels(genome).astype(np.int64)
        for begin, end in _used(genome):
            for start in range(begin, end, block):
                stop = min(start + block, end)
                part = {_TEST: "test", _VALIDATION: "validation"}.get(number % _CYCLE, "train")
                yield _Block(genome.name, start, part, ids[start:stop], target[start:stop])
                number += 1


def _used(genome: Genome) -> Iterator[tuple[int, int]]:
    """The stretches between what is excluded."""
    position = 0
    for start, end in sorted(genome.excluded):
        if start > position:
            yield position, start
        position = max(position, end)
    if position < len(genome.sequence):
        yield position, len(genome.sequence)


class _Windows:
    """Random windows on either strand."""

    padding = PAD

    def __init__(self, blocks: list[_Block], window: int, repeats: float, mutation: float):
        self.blocks, self.window, self.mutation = blocks, window, mutation
        sizes = np.array([len(block.ids) for block in blocks])
        self.weights = sizes / sizes.sum()
        self.count = max(1, round(repeats * sizes.sum() / window))

    def __len__(self) -> int:
        return self.count

    def length(self, index: int) -> int:
        return self.window

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        rng = rng or np.random.default_rng(index)
        block = self.blocks[rng.choice(len(self.blocks), p=self.weights)]
        start = rng.integers(max(len(block.ids) - self.window, 0) + 1)
        ids, target = block.ids[start : start + self.window], block.target[start : start + self.window]
        if rng.random() < 0.5:
            ids, target = reverse_complement(ids), reverse_complement_labels(target)
        return {"inputs": mutated(ids, self.mutation, rng), "target": target.copy()}


class _Blocks:
    """Whole blocks as they are."""

    padding = PAD

    def __init__(self, blocks: list[_Block]):
        self.blocks = blocks

    def __len__(self) -> int:
        return len(self.blocks)

    def length(self, index: int) -> int:
        return len(self.blocks[index].ids)

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        return {"inputs": self.blocks[index].ids, "target": self.blocks[index].target}
