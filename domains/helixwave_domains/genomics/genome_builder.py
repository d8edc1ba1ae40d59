"""What the readers of annotations have in common: features go into a builder per contig, which makes the genome."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from helixwave.errors import InputError

from helixwave_domains.genomics.genome import CodingSegment, Genome, Interval, Strand
from helixwave_domains.genomics.sources import hint_for_record

# a longer gap is no intron but trans-splicing, whose parts can lie half a genome apart
MAX_INTRON = 10_000


@dataclass
class GenomeBuilder:
    """Collects the features of one contig; its fields are those of `Genome`."""

    name: str
    sequence: str
    cds: set[CodingSegment] = field(default_factory=set)
    ignored: list[Interval] = field(default_factory=list)
    excluded: list[Interval] = field(default_factory=list)
    odd_lengths: int = 0

    def add_coding(self, pieces: Sequence[CodingSegment], skipped: int) -> None:
        """Add a coding sequence, its pieces in the order of transcription; `skipped` bases precede its first codon."""
        self.cds.update(pieces)
        self.ignored += _introns(pieces)
        self.odd_lengths += (sum(piece.end - piece.start for piece in pieces) - skipped) % 3 != 0

    def add_ignored(self, pieces: Sequence[CodingSegment]) -> None:
        """Add an RNA gene or a pseudogene, its pieces in the order of transcription, and its introns."""
        self.ignored += [(piece.start, piece.end) for piece in pieces]
        self.ignored += _introns(pieces)

    def genome(self) -> Genome:
        return Genome(
            self.name,
            self.sequence,
            sorted(self.cds),
            _merged(self.ignored),
            _merged(self.excluded),
            self.odd_lengths,
        )


def _introns(pieces: Sequence[CodingSegment]) -> Iterator[Interval]:
    """The gaps between pieces that follow each other on one strand."""
    for before, after in pairwise(pieces):
        gap = (before.end, after.start) if before.strand == "+" else (after.end, before.start)
        if before.strand == after.strand and 0 < gap[1] - gap[0] <= MAX_INTRON:
            yield gap


def _merged(intervals: Iterable[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def in_phase(pieces: Iterable[tuple[int, int, Strand]], phase: int) -> list[CodingSegment]:
    """Pieces in the order of transcription, each with what is left of the codon before."""
    segments = []
    for start, end, strand in pieces:
        segments.append(CodingSegment(start, end, strand, phase))
        phase = (phase - (end - start)) % 3
    return segments


def is_ignored_kind(kind: str) -> bool:
    """Whether a feature is an RNA gene or a pseudogene, as GenBank and the sequence ontology call them."""
    return (kind.endswith("RNA") and kind != "mRNA") or "pseudogen" in kind


def builder_for(place: str, contig: str, builders: dict[str, GenomeBuilder]) -> GenomeBuilder:
    """The builder of the contig that a line of an annotation names; `place` is what an error calls the line."""
    if contig not in builders:
        raise InputError(f"{place}: {contig!r} is not in the FASTA. {hint_for_record(contig, builders)}")
    return builders[contig]


def position(place: str, text: str) -> int:
    """A position in a line of an annotation; `place` is what an error calls the line."""
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"{place}: {text!r} is no position, expected a whole number.") from error
