"""Windows of a reference: with either allele of a variant, around an interval, along a sequence that is too long.

Positions count from 0 and ends are exclusive; a VCF's POS, which counts from 1, becomes `POS - 1`. A window that
reaches beyond its contig is filled with N there; it is never moved.

However a caller spells a variant, its windows are the same: see `normalisation`. The first letter in which the two
windows may differ stands at index `center`, for an SNV the base at POS. An inserted or deleted piece begins there; the
window with fewer letters goes on with more of the reference, so that both have the same length and the same start.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from helixwave.errors import InputError, nearest

from helixwave_domains.genomics.alphabet import IUPAC, reverse_complement_string
from helixwave_domains.genomics.bed import BedInterval
from helixwave_domains.genomics.fasta import FastaFile
from helixwave_domains.genomics.normalisation import Change, leftmost, trimmed
from helixwave_domains.genomics.sources import other_spellings
from helixwave_domains.genomics.variants import Allele, Status

OnMismatch = Literal["error", "skip", "swap", "keep"]
"""What to do where REF is not what the genome says.

`error` stops; `skip` gives the status `ref_mismatch`; `swap` exchanges the alleles where the genome has ALT, and is
`skip` elsewhere; `keep` writes REF into the genome.
"""

# the VCF specification, section 1.6.1: a REF over an ambiguity code is its first base in the alphabet
_AS_REF = str.maketrans({"U": "T"} | {code: bases[0] for code, bases in IUPAC.items()})


@dataclass(frozen=True, slots=True)
class AlleleWindows:
    """The windows of one allele; without letters unless `status.usable`.

    Args:
        status: what became of the allele.
        contig: its name in the FASTA.
        start: the position of the windows' first letter, before 0 where they begin before the contig.
        ref: the reference's letters in upper case, `window` of them.
        alt: the same with the allele put in, as many letters.
        ref_focus: where the two differ, as indices `(first, end)` into `ref`; empty for an insertion.
        alt_focus: the same in `alt`; empty for a deletion.
        padded: how many N lie before and behind the contig, in that of the windows that has more.
    """

    status: Status
    contig: str = ""
    start: int = 0
    ref: str = ""
    alt: str = ""
    ref_focus: tuple[int, int] = (0, 0)
    alt_focus: tuple[int, int] = (0, 0)
    padded: tuple[int, int] = (0, 0)

    @property
    def reference_key(self) -> tuple[str, int, str]:
        """Equal for alleles with the same reference window, as all SNVs of one site: one pass serves them."""
        return self.contig, self.start, self.ref


@dataclass(frozen=True, slots=True)
class IntervalWindow:
    """The window of an interval; without letters unless `status.usable`.

    Args:
        status: `ok`, `unknown_contig` or `outside_contig`.
        contig: its name in the FASTA.
        start: the position of the window's lowest letter, before 0 where it begins before the contig.
        letters: in upper case; of the other strand for the strand `-`.
        padded: how many N there are at the low and at the high end, beyond the contig.
    """

    status: Status
    contig: str = ""
    start: int = 0
    letters: str = ""
    padded: tuple[int, int] = (0, 0)


class Tile(NamedTuple):
    """A piece of a long sequence, `start:end`, of which `keep_start:keep_end` is taken (all four in the sequence)."""

    start: int
    end: int
    keep_start: int
    keep_end: int


def contig_names(fasta: FastaFile, names: Iterable[str]) -> dict[str, str | None]:
    """For each name the record of the FASTA that it means: `1` may be `chr1`, and `MT` `chrM`; None if there is none.

    Raises:
        InputError: a name is not in the FASTA and may mean two of its records.
    """
    return {name: _contig(fasta, name) for name in names}


def allele_windows(
    allele: Allele, fasta: FastaFile, *, window: int, center: int | None = None, on_mismatch: OnMismatch
) -> AlleleWindows:
    """The two windows of an allele, or its status alone where there can be none.

    Args:
        allele: from `read_alleles`.
        fasta: the genome.
        window: letters of a window.
        center: the index at which the alleles begin to differ; `window // 2` if None.
        on_mismatch: what to do where REF is not what the genome says.

    Raises:
        InputError: REF is not what the genome says and `on_mismatch` is `error`, or an argument is out of range.
    """
    center = checked_center(window, center)
    contig = _contig(fasta, allele.contig) if allele.status.usable else None
    status = _place_status(allele, contig, fasta)
    if contig is None or not status.usable:
        return AlleleWindows(status)
    status = _reference_status(allele, contig, fasta, on_mismatch)
    if not status.usable:
        return AlleleWindows(status, contig)
    written = Change(allele.position - 1, allele.ref, allele.alt)
    if status is Status.SWAPPED:
        written = Change(written.start, allele.alt, allele.ref)
    change = trimmed(written)
    if status is not Status.KEPT:
        change = leftmost(change, contig, fasta)
    if max(len(change.ref), len(change.alt)) > window - center:
        return AlleleWindows(Status.LONGER_THAN_WINDOW, contig)
    return _cut_out(status, contig, fasta, written, change, window, center)


def interval_window(interval: BedInterval, fasta: FastaFile, *, window: int | None = None) -> IntervalWindow:
    """The letters of an interval, or `window` letters around it, on its strand.

    The position `(start + end) // 2` has index `window // 2`; the strand `-` is the reverse complement of that window.
    """
    contig = _contig(fasta, interval.contig)
    if contig is None:
        return IntervalWindow(Status.UNKNOWN_CONTIG)
    if interval.end > fasta.lengths[contig]:
        return IntervalWindow(Status.OUTSIDE_CONTIG, contig)
    start, end = interval.start, interval.end
    if window is not None:
        start = (start + end) // 2 - checked_center(window, None)
        end = start + window
    letters = _letters(fasta, contig, start, end)
    letters = reverse_complement_string(letters) if interval.strand == "-" else letters
    return IntervalWindow(Status.OK, contig, start, letters, _beyond(start, end, fasta.lengths[contig]))


def tiles(length: int, window: int, overlap: int, *, causal: bool = False) -> list[Tile]:
    """Pieces of at most `window` that keep each of `length` positions once.

    Neighbours share `overlap` positions, the last two perhaps more: every piece of a longer sequence is `window` long.
    Each keeps its half of what they share, or, if `causal`, the earlier piece all of it, which has more context there.
    """
    if length < 1 or not 0 <= overlap < window:
        raise InputError(
            f"a sequence of {length} in windows of {window} with overlap {overlap}: expected a length of at least 1 "
            f"and an overlap from 0 up to the window less 1."
        )
    starts = [*range(0, max(0, length - window), window - overlap), max(0, length - window)]
    ends = [min(start + window, length) for start in starts]
    shared = zip(starts[1:], ends, strict=False)
    cuts = [end if causal else (start + end) // 2 for start, end in shared]
    return [Tile(*tile) for tile in zip(starts, ends, [0, *cuts], [*cuts, length], strict=True)]


def _contig(fasta: FastaFile, name: str) -> str | None:
    if name in fasta:
        return name
    found = [other for other in other_spellings(name) if other in fasta]
    if len(found) > 1:
        raise InputError(f"{fasta.path}: {name!r} may mean {' or '.join(map(repr, found))}. Use the FASTA's own names.")
    return found[0] if found else None


def checked_center(window: int, center: int | None) -> int:
    """The index in a window at which alleles begin to differ: `center`, or the middle if None.

    Raises:
        InputError: it is not in the window.
    """
    center = window // 2 if center is None else center
    if not 0 <= center < window:
        raise InputError(
            f"window {window} with center {center}: expected a window of at least 1 and 0 <= center < window."
        )
    return center


def _place_status(allele: Allele, contig: str | None, fasta: FastaFile) -> Status:
    if not allele.status.usable:
        return allele.status
    if contig is None:
        return Status.UNKNOWN_CONTIG
    inside = 0 < allele.position <= fasta.lengths[contig] + 1 - len(allele.ref)
    return Status.OK if inside else Status.OUTSIDE_CONTIG


def _reference_status(allele: Allele, contig: str, fasta: FastaFile, on_mismatch: OnMismatch) -> Status:
    if on_mismatch not in get_args(OnMismatch):
        raise InputError(f"on_mismatch is {on_mismatch!r}. {nearest(on_mismatch, get_args(OnMismatch))}")
    start, length = allele.position - 1, fasta.lengths[contig]
    end = min(start + max(len(allele.ref), len(allele.alt)), length)
    genome = fasta.fetch(contig, start, end).translate(_AS_REF)
    if genome[: len(allele.ref)] == allele.ref:
        return Status.OK
    if on_mismatch == "error":
        raise InputError(_mismatch(allele, genome, fasta))
    if on_mismatch == "swap" and genome[: len(allele.alt)] == allele.alt:
        return Status.SWAPPED
    return Status.KEPT if on_mismatch == "keep" else Status.REF_MISMATCH


def _mismatch(allele: Allele, genome: str, fasta: FastaFile) -> str:
    there = genome[: len(allele.ref)]
    shown = there if len(there) <= 20 else f"{there[:20]}..."
    return (
        f"{allele}: {fasta.path} has {shown} there. Is the VCF on another assembly? "
        f"Use its own, or choose 'skip', 'swap' or 'keep' for such alleles."
    )


def _cut_out(
    status: Status, contig: str, fasta: FastaFile, written: Change, change: Change, window: int, center: int
) -> AlleleWindows:
    start = change.start - center
    end = start + window + max(0, len(change.ref) - len(change.alt))
    low = min(start, written.start)
    genome = _letters(fasta, contig, low, max(end, written.start + len(written.ref)))
    # REF as it is written, where the genome has another letter or an ambiguity code
    here = written.start - low
    genome = genome[:here] + written.ref + genome[here + len(written.ref) :]
    first, focus = start - low, change.start - low
    alt = genome[first:focus] + change.alt + genome[focus + len(change.ref) :]
    return AlleleWindows(
        status,
        contig,
        start,
        ref=genome[first : first + window],
        alt=alt[:window],
        ref_focus=(center, center + len(change.ref)),
        alt_focus=(center, center + len(change.alt)),
        padded=_beyond(start, end, fasta.lengths[contig]),
    )


def _letters(fasta: FastaFile, contig: str, start: int, end: int) -> str:
    """Letters `start:end`, N where that is beyond the contig."""
    before, behind = _beyond(start, end, fasta.lengths[contig])
    inside = fasta.fetch(contig, start + before, end - behind) if before + behind < end - start else ""
    return "N" * before + inside + "N" * behind


def _beyond(start: int, end: int, length: int) -> tuple[int, int]:
    """How many of the positions `start:end` lie before a contig and how many behind it."""
    return max(0, min(0, end) - start), max(0, end - max(length, start))
