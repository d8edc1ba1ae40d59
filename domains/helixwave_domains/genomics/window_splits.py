"""Windows of an encoded genome as the examples of a split: drawn at random, or side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from helixwave.data import Example
from helixwave.data.batches import IGNORED
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.genomics.alphabet import PAD, reverse_complement
from helixwave_domains.genomics.encoded import EncodedGenome
from helixwave_domains.genomics.regions import Region


@dataclass(frozen=True)
class WindowSplit:
    """Examples that are windows of one length.

    Args:
        starts: where windows begin that are not drawn, places in `genome.ids`.
        length: letters of a window.
        targets: one class a place; None: there are none.
        either_strand: in training, half of the windows are reverse complemented, their targets reversed.
    """

    genome: EncodedGenome
    starts: NDArray[np.int64]
    length_: int
    targets: NDArray[np.integer] | None = None
    either_strand: bool = False
    padding = PAD

    def __len__(self) -> int:
        return len(self.starts)

    def length(self, index: int) -> int:
        return self.length_

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        return self.window(int(self.starts[index]), rng)

    def window(self, start: int, rng: np.random.Generator | None) -> Example:
        """The window that begins at a place, of either strand if that may be drawn."""
        ids = self.genome.ids[start : start + self.length_].astype(np.int64)
        target = None if self.targets is None else self.targets[start : start + self.length_].astype(np.int64)
        if self.either_strand and rng is not None and rng.random() < 0.5:
            ids = reverse_complement(ids)
            target = None if target is None else target[::-1].copy()
        return {"inputs": ids, "target": IGNORED if target is None else target}


class RandomWindows:
    """Windows drawn anew in each epoch from all places where one fits that is not of unknown bases alone.

    Args:
        regions: where they may lie.
        count: windows of the full length in an epoch; during the warm-up more of them, with the same letters in all.
    """

    padding = PAD

    def __init__(self, split: WindowSplit, regions: Sequence[Region], count: int):
        self.split, self.regions, self.count = split, regions, count
        self.starts = possible_starts(split.genome, regions, split.length_)

    def __len__(self) -> int:
        return self.count

    def length(self, index: int) -> int:
        return self.split.length_

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        drawn = np.random.default_rng(index) if rng is None else rng
        number = int(drawn.integers(self._before[-1]))
        run = int(np.searchsorted(self._before, number, side="right")) - 1
        return self.split.window(int(self.starts[run, 0] + number - self._before[run]), rng)

    @cached_property
    def _before(self) -> NDArray[np.int64]:
        """How many starts there are before each run of them, and in all."""
        return np.append(0, np.cumsum(self.starts[:, 1] - self.starts[:, 0]))


def possible_starts(genome: EncodedGenome, regions: Sequence[Region], length: int) -> NDArray[np.int64]:
    """Where a window may begin, as runs of places `[n, 2]`, half-open: it fits and has at least one base."""
    holes = genome.gaps[genome.gaps[:, 1] - genome.gaps[:, 0] >= length]
    runs = [run for region in regions for run in _runs(*_places(genome, region), holes, length)]
    return np.array(runs, dtype=np.int64).reshape(-1, 2)


def side_by_side(genome: EncodedGenome, regions: Sequence[Region], length: int) -> NDArray[np.int64]:
    """Where windows begin that stand side by side, from the start of each region; those of no base included."""
    places = (_places(genome, region) for region in regions)
    return np.concatenate([np.arange(start, end - length + 1, length) for start, end in places])


def expect_windows(where: str, regions: Sequence[Region], length: int) -> None:
    """Raise InputError if a window is longer than each of the regions."""
    longest = max(map(len, regions))
    if length > longest:
        raise InputError(
            f"data: no window of {length} bases fits into {where}, whose longest region has {longest}. "
            f"Set data.length={longest} or less"
        )


def _places(genome: EncodedGenome, region: Region) -> tuple[int, int]:
    offset = genome.offsets[region.contig]
    return offset + region.start, offset + region.end


def _runs(start: int, end: int, holes: NDArray[np.int64], length: int) -> Iterator[tuple[int, int]]:
    """The starts in a region without those of windows inside a hole."""
    last = end - length + 1
    first, behind = np.searchsorted(holes[:, 1], start, side="right"), np.searchsorted(holes[:, 0], end)
    for hole_start, hole_end in holes[first:behind].tolist():
        if start < min(hole_start, last):
            yield start, min(hole_start, last)
        start = max(start, hole_end - length + 1)
    if start < last:
        yield start, last
