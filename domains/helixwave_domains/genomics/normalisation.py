"""One way to write a change of a sequence, of the many that a VCF allows.

What REF and ALT share at their ends is no part of the change, and an insertion or deletion inside a repeat begins at
the repeat's left end (Tan, Abecasis & Kang 2015, "Unified representation of genetic variants").
"""

from typing import NamedTuple

from helixwave_domains.genomics.fasta import FastaFile

_STEP = 64


class Change(NamedTuple):
    """The letters `ref` from position `start` on, counted from 0, become `alt`; either may be empty."""

    start: int
    ref: str
    alt: str


def trimmed(change: Change) -> Change:
    """The change without the letters that both alleles end with, and then those that both begin with."""
    start, ref, alt = change
    same = _shared(ref[::-1], alt[::-1])
    ref, alt = ref[: len(ref) - same], alt[: len(alt) - same]
    same = _shared(ref, alt)
    return Change(start + same, ref[same:], alt[same:])


def _shared(a: str, b: str) -> int:
    """How many letters two strings begin with in common."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


def leftmost(change: Change, contig: str, fasta: FastaFile) -> Change:
    """The same insertion or deletion as far to the left as it can be written; N is not known to equal N."""
    piece = change.ref + change.alt
    if change.ref and change.alt:
        return change
    moved = 0
    while (end := change.start - moved) > 0:
        before = fasta.fetch(contig, max(0, end - _STEP), end)
        for letter in reversed(before):
            if letter == "N" or letter != piece[-1 - moved % len(piece)]:
                return _rotated(change, moved)
            moved += 1
    return _rotated(change, moved)


def _rotated(change: Change, moved: int) -> Change:
    def turn(piece: str) -> str:
        cut = len(piece) - moved % len(piece) if piece else 0
        return piece[cut:] + piece[:cut]

    return Change(change.start - moved, turn(change.ref), turn(change.alt))
