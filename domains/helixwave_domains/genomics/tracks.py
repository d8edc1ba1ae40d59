"""From a prediction per base to genes: decoding, GFF3 and BED, and a picture of a genome's six reading frames.

A base's class says where in its codon it lies (see `genome`). Along a gene the codon position advances by one per
base, so in terms of the reading frame, which is class and position taken together, a gene is one state that stays. The
decoder looks for the likeliest path through seven states, nothing and the six reading frames, in which each change of
state costs `switch_penalty`: a few uncertain bases within a gene do not break it, a few stray ones make none.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from helixwave.errors import InputError
from helixwave.files import atomic_write
from numpy.typing import NDArray

from helixwave_domains.genomics.genome import FRAME_CLASSES, CodingSegment, Genome, Interval, Strand, labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# what GFF3 leaves unescaped in the first column
_SEQID_LETTERS = ".:^*$@!+_?-|"
_TINY = 1e-6
_FORWARD, _REVERSE, _GREY, _SHADE = "#1f6fb4", "#c2541b", "#b8b8b8", "#f3e9c6"

# a contig's length and what was found on it, by the contig's name
Track = Mapping[str, tuple[int, Sequence["Segment"]]]


@dataclass(frozen=True, order=True)
class Segment(CodingSegment):
    """A predicted coding piece; `score` is the mean probability of its own class over its bases."""

    score: float = 1.0

    @property
    def frame(self) -> int:
        """Reading frame 1..3: one more than the position, modulo 3, of the first base of each codon.

        On the strand `-` the first base of a codon is the one at the high end.
        """
        first = self.start + self.phase if self.strand == "+" else self.end - 1 - self.phase
        return 1 + first % 3


def segments(
    prediction: NDArray[Any], *, switch_penalty: float = 10.0, min_length: int = 1, start: int = 0
) -> list[Segment]:
    """The coding segments in the predictions for one contig.

    Args:
        prediction: probabilities `[T, 7]`, or classes `[T]`, of which negative ones count as intergenic.
        switch_penalty: what a change of state costs, in units of log probability. 0 takes each base as it is; 10 breaks
            a gene only for evidence of e^10 to 1. Classes count as probabilities of nearly 1, 13.8 a base.
        min_length: drop segments of fewer bases.
        start: the position of the first prediction on its contig.
    """
    probabilities = _probabilities(prediction)
    by_frame = _by_frame(probabilities, start)
    path = _best_path(np.log(np.maximum(by_frame, _TINY)), switch_penalty)
    found = (_segment(begin, end, int(path[begin]), by_frame, start) for begin, end in _runs(path) if path[begin] > 0)
    return [segment for segment in found if segment.end - segment.start >= min_length]


def _probabilities(prediction: NDArray[Any]) -> NDArray[np.floating]:
    prediction = np.asarray(prediction)
    C = len(FRAME_CLASSES)
    if prediction.ndim == 2 and prediction.shape[1] == C:
        return prediction
    if prediction.ndim == 1 and np.issubdtype(prediction.dtype, np.integer) and prediction.max(initial=0) < C:
        return np.eye(C)[np.maximum(prediction, 0)]
    raise ValueError(
        f"segments: prediction has shape {list(prediction.shape)} and type {prediction.dtype}, "
        f"expected probabilities [T, {C}] or whole classes [T] below {C}"
    )


def _by_frame(probabilities: NDArray[np.floating], start: int) -> NDArray[np.floating]:
    """Probabilities of nothing, three forward and three reverse reading frames `[T, 7]`, from those of the classes."""
    position = np.arange(start, start + len(probabilities))[:, None]
    frame = np.arange(3)
    columns = np.hstack([np.zeros_like(position), 1 + (position - frame) % 3, 4 + (frame - position) % 3])
    return np.take_along_axis(probabilities, columns, axis=1)


def _best_path(scores: NDArray[np.floating], switch_penalty: float) -> NDArray[np.uint8]:
    """The states `[T]` with the greatest sum of `scores` `[T, S]` less a penalty per change (Viterbi)."""
    T, S = scores.shape
    best, history = [0.0] * S, array("d")
    # plain floats: for so few states a call of numpy costs more than the sums; the state before is either the same or
    # the best of all, so that a step costs S and not S * S
    for row in map(np.ndarray.tolist, scores):
        history.extend(best)
        switched = max(best) - switch_penalty
        best = [(old if old > switched else switched) + score for old, score in zip(best, row, strict=True)]
    path = np.empty(T, dtype=np.uint8)
    state = best.index(max(best))
    for t in range(T - 1, -1, -1):
        path[t] = state
        before = history[t * S : (t + 1) * S]
        top = max(before)
        state = state if before[state] >= top - switch_penalty else before.index(top)
    return path


def _runs(path: NDArray[np.integer]) -> Iterator[Interval]:
    """The stretches of one state."""
    borders = np.flatnonzero(np.diff(path)) + 1
    edges = [0, *borders.tolist(), len(path)] if len(path) else [0]
    yield from pairwise(edges)


def _segment(begin: int, end: int, state: int, by_frame: NDArray[np.floating], offset: int) -> Segment:
    strand: Strand = "+" if state <= 3 else "-"
    frame = (state - 1) % 3
    # bases from the 5' end to the next first base of a codon
    phase = (frame - begin - offset) % 3 if strand == "+" else (end - 1 + offset - frame) % 3
    return Segment(begin + offset, end + offset, strand, phase, float(by_frame[begin:end, state].mean()))


def write_gff3(path: Path | str, track: Track) -> None:
    """Write segments as CDS lines of a GFF3 file.

    Args:
        path: the file.
        track: for each contig its length and its segments.
    """
    with atomic_write(path) as stream:
        stream.write("##gff-version 3\n")
        for name, (length, _) in track.items():
            stream.write(f"##sequence-region {_seqid(name)} 1 {length}\n")
        number = 0
        for name, (length, found) in track.items():
            for segment in found:
                number += 1
                _write_gff3_line(stream, name, length, segment, number)


def _write_gff3_line(stream: IO[str], name: str, length: int, segment: Segment, number: int) -> None:
    _refuse_outside(name, length, segment)
    where = f"{segment.start + 1}\t{segment.end}\t{segment.score:.4f}\t{segment.strand}\t{segment.phase}"
    stream.write(f"{_seqid(name)}\thelixwave\tCDS\t{where}\tID=cds{number};frame={segment.strand}{segment.frame}\n")


def _seqid(name: str) -> str:
    return quote(name, safe=_SEQID_LETTERS)


def _refuse_outside(name: str, length: int, segment: Segment) -> None:
    if not 0 <= segment.start < segment.end <= length:
        raise ValueError(f"segment {segment.start}-{segment.end} is not within {name} of {length} bases")


def write_bed(path: Path | str, track: Track) -> None:
    """Write segments as BED with six columns; the name is the reading frame as in `Segment.frame`, `frame+1`.

    Raises:
        InputError: a contig's name holds white space, which BED cannot express.
    """
    with atomic_write(path) as stream:
        for name, (length, found) in track.items():
            if name.split() != [name]:
                raise InputError(f"{path}: BED has no way to write the contig name {name!r}, which holds white space.")
            for segment in found:
                _refuse_outside(name, length, segment)
                score = round(1000 * segment.score)
                frame = f"frame{segment.strand}{segment.frame}"
                stream.write(f"{name}\t{segment.start}\t{segment.end}\t{frame}\t{score}\t{segment.strand}\n")


def plot_track(
    genome: Genome,
    prediction: NDArray[Any],
    *,
    shaded: Sequence[Interval] = (),
    start: int = 0,
    end: int | None = None,
    switch_penalty: float = 10.0,
) -> "Figure":
    """Draw the annotated reading frames of a genome above the predicted ones.

    Args:
        genome: with its annotation; what it ignores or excludes is grey.
        prediction: probabilities `[T, 7]` or classes `[T]` for the whole genome.
        shaded: intervals to set off, such as those held out for testing.
        start: the first position to show.
        end: one past the last position to show; the genome's end if None.
        switch_penalty: as in `segments`.
    """
    from matplotlib.figure import Figure

    end = len(genome.sequence) if end is None else end
    known = labels(genome)
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, sharey=True)
    _draw_frames(upper, segments(known, switch_penalty=0.0), "annotated")
    _draw_frames(lower, segments(prediction, switch_penalty=switch_penalty), "predicted")
    for axes in (upper, lower):
        _shade(axes, shaded, _SHADE, zorder=0)
        _shade(axes, [run for run in _runs(known) if known[run[0]] < 0], _GREY, zorder=1)
    _label_axes(lower, start, end)
    upper.set_title(f"{genome.name}: reading frames", loc="left")
    return figure


def _draw_frames(axes: "Axes", found: Sequence[Segment], title: str) -> None:
    """One row per reading frame, the forward ones above."""
    for strand, color in (("+", _FORWARD), ("-", _REVERSE)):
        for frame in (1, 2, 3):
            bars = [(s.start, s.end - s.start) for s in found if s.strand == strand and s.frame == frame]
            axes.broken_barh(bars, (_row(strand, frame) - 0.4, 0.8), facecolors=color, zorder=2)
    axes.axhline(3.5, color="black", linewidth=0.5)
    axes.set_ylabel(title)


def _row(strand: str, frame: int) -> int:
    return 7 - frame if strand == "+" else 4 - frame


def _shade(axes: "Axes", intervals: Sequence[Interval], color: str, zorder: int) -> None:
    bars = [(start, end - start) for start, end in intervals]
    axes.broken_barh(bars, (0.5, 6.0), facecolors=color, alpha=0.6, zorder=zorder, linewidth=0)


def _label_axes(axes: "Axes", start: int, end: int) -> None:
    axes.set_xlim(start, end)
    axes.set_ylim(0.5, 6.5)
    rows = {_row(strand, frame): f"{strand}{frame}" for strand in ("+", "-") for frame in (1, 2, 3)}
    axes.set_yticks(list(rows), labels=list(rows.values()))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axes.set_xlabel("position (bases)")
