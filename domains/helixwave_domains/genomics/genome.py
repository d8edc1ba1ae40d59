"""What is known of a genome: which of its bases code for protein, and in which reading frame.

Each base gets one of seven classes: 0 where nothing is coded, 1..3 where it is the first, second or third base of a
codon of the strand as it is written, 4..6 where it is the first, second or third base of a codon of the other strand.
So on the forward strand a codon at positions 10, 11, 12 is labelled 1, 2, 3, and on the reverse strand 6, 5, 4. The
reading frame of a gene, in positions modulo 3, follows from class and position:

    forward, class 1 + k    frame = (position - k) mod 3
    reverse, class 4 + k    frame = (position + k) mod 3

Some bases are left out, with the label `IGNORED`. What is stronger comes first:

    excluded        always ignored, such as the second copy of a repeat
    coding twice    in two frames, as where genes overlap: ignored
    coding          also inside the intron of another gene, or inside an RNA gene
    ignored         introns of up to 10 kb, RNA genes, pseudogenes
    intergenic      all the rest, untranslated regions included

Positions count from 0, ends are exclusive.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.genomics.alphabet import AnyInteger, reverse_complement_string

FRAME_CLASSES = ["intergenic", "+1", "+2", "+3", "-1", "-2", "-3"]
IGNORED = -100

Strand = Literal["+", "-"]
Interval = tuple[int, int]

_OTHER_STRAND: dict[str, Strand] = {"+": "-", "-": "+"}
_OTHER_CLASS = np.array([0, 4, 5, 6, 1, 2, 3], dtype=np.int8)
_CLASH = -1
_MIN_REPEAT = 1000
_SEED = 32


@dataclass(frozen=True, order=True)
class CodingSegment:
    """An uninterrupted piece of a coding sequence.

    Args:
        start: its first position, counted from 0.
        end: one past its last position.
        strand: `+` or `-`.
        phase: how many bases at its beginning (on the strand `-` the high end) belong to a codon begun before, 0..2.
    """

    start: int
    end: int
    strand: Strand
    phase: int


@dataclass(frozen=True)
class Genome:
    """A sequence and what is known of its coding regions.

    Args:
        name: the contig's name.
        sequence: letters in upper case.
        cds: the coding pieces, sorted.
        ignored: introns, RNA genes and pseudogenes, sorted and merged.
        excluded: what must not be used at all.
        odd_lengths: how many coding sequences are no whole number of codons long; they are kept.
    """

    name: str
    sequence: str
    cds: list[CodingSegment]
    ignored: list[Interval] = field(default_factory=list)
    excluded: list[Interval] = field(default_factory=list)
    odd_lengths: int = field(default=0, compare=False)


def labels(genome: Genome) -> NDArray[np.int8]:
    """The class of each base, `IGNORED` where it is not to be learnt, int8 `[T]`; see the top of this module."""
    result = np.zeros(len(genome.sequence), dtype=np.int8)
    for start, end in genome.ignored:
        result[start:end] = IGNORED
    coding = coding_classes(genome.cds, len(genome.sequence))
    result[coding > 0] = coding[coding > 0]
    result[coding == _CLASH] = IGNORED
    for start, end in genome.excluded:
        result[start:end] = IGNORED
    return result


def coding_classes(segments: Iterable[CodingSegment], length: int) -> NDArray[np.int8]:
    """The coding class of each base, 0 where there is none and -1 where segments disagree, int8 `[T]`."""
    result = np.zeros(length, dtype=np.int8)
    for segment in segments:
        here = result[segment.start : segment.end]
        classes = _classes_of(segment)
        here[:] = np.where((here == 0) | (here == classes), classes, _CLASH)
    return result


def _classes_of(segment: CodingSegment) -> NDArray[np.int8]:
    codon_position = (np.arange(segment.end - segment.start) - segment.phase) % 3
    return (1 + codon_position if segment.strand == "+" else 4 + codon_position[::-1]).astype(np.int8)


def reverse_complement_labels(labels: NDArray[AnyInteger]) -> NDArray[AnyInteger]:
    """The labels of the other strand: `labels` of the reverse complemented genome."""
    flipped = labels[::-1]
    return np.where(flipped > 0, _OTHER_CLASS[np.maximum(flipped, 0)], flipped).astype(labels.dtype)


def reverse_complement(genome: Genome) -> Genome:
    """The genome as written from the other strand."""
    length = len(genome.sequence)
    cds = [CodingSegment(length - s.end, length - s.start, _OTHER_STRAND[s.strand], s.phase) for s in genome.cds]
    return replace(
        genome,
        sequence=reverse_complement_string(genome.sequence),
        cds=sorted(cds),
        ignored=sorted((length - end, length - start) for start, end in genome.ignored),
        excluded=sorted((length - end, length - start) for start, end in genome.excluded),
    )


def exclude_inverted_repeat(genome: Genome) -> Genome:
    """Exclude the second copy of the longest exact inverted repeat, as a chloroplast has one of some 25 kb.

    A model tested on the second copy of what it was trained on is not tested at all.
    """
    repeat = _second_inverted_repeat(genome.sequence)
    if repeat is None:
        raise InputError(f"{genome.name}: no exact inverted repeat of {_MIN_REPEAT} letters or more was found.")
    return replace(genome, excluded=sorted({*genome.excluded, repeat}))


def _second_inverted_repeat(sequence: str) -> Interval | None:
    other = reverse_complement_string(sequence)
    forward, reverse = (np.frombuffer(text.encode("ascii"), dtype=np.uint8) for text in (sequence, other))
    longest: Interval | None = None
    # each repeat of the least length holds a whole seed, as they lie half that length apart
    for i in range(0, len(sequence) - _SEED + 1, _MIN_REPEAT // 2):
        for match in re.finditer(re.escape(sequence[i : i + _SEED]), other):
            j = match.start()
            end = i + _matching(forward[i:], reverse[j:])
            start = i - _matching(forward[:i][::-1], reverse[:j][::-1])
            last = len(sequence) - (j + start - i)
            # two copies end to end are one palindrome, of which the second half counts
            first = max(len(sequence) - (j + end - i), (start + last + 1) // 2)
            if last - first >= max(_MIN_REPEAT, longest[1] - longest[0] + 1 if longest else 0):
                longest = (first, last)
    return longest


def _matching(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    """How many letters agree before the first that does not."""
    size = min(len(a), len(b))
    differs = a[:size] != b[:size]
    return int(differs.argmax()) if differs.any() else size
