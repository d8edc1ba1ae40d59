"""Training sequences in pieces: of a length that grows with what was seen, of powers of two, or both.

Which pieces a step has follows from the seed and the lengths of the examples alone, so that a run that is resumed goes
on as one that was not interrupted.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from itertools import chain

import numpy as np

from helixwave.data.batches import Draw
from helixwave.data.source import Split
from helixwave.errors import InputError
from helixwave.training.settings import LengthBuckets, LengthWarmup, is_power

# keeps these draws apart from those of augmentation, which begin with (seed, epoch) too
_ORDER = 7_919


class PiecePlan:
    """Which pieces each step of a run learns from: all of one length, as many as fill `tokens`.

    Every position of every example is scored once an epoch. What fills no batch at an epoch's end waits for the next
    one; at the end of the run the rest comes in smaller batches.

    Args:
        split: the training examples.
        tokens: positions of a step.
        epochs: of the run.
        warmup, buckets: how sequences are cut; one of them at least.

    Raises:
        InputError: a piece, or a sequence that is not cut, is longer than a step.
    """

    def __init__(
        self,
        split: Split,
        *,
        tokens: int,
        epochs: int,
        seed: int,
        warmup: LengthWarmup | None = None,
        buckets: LengthBuckets | None = None,
    ):
        self.split, self.tokens, self.epochs, self.seed = split, tokens, epochs, seed
        self.warmup, self.buckets = warmup, buckets
        if warmup and buckets and (warmup.start < buckets.least or not is_power(warmup.start)):
            raise InputError(
                f"training.length_warmup.start is {warmup.start}, expected a power of two from {buckets.least}, the "
                "shortest piece of training.length_buckets"
            )
        self._epoch, self._coming = -1, self._walk()

    def batches(self, epoch: int) -> list[list[Draw]]:
        """The batches of an epoch, from 0; quickest one epoch after the other."""
        if epoch <= self._epoch:
            self._epoch, self._coming = -1, self._walk()
        batches: list[list[Draw]] = []
        while self._epoch < epoch:
            self._epoch, batches = self._epoch + 1, next(self._coming)
        return batches

    @cached_property
    def n_step(self) -> int:
        """Steps of the whole run."""
        return sum(map(len, self._walk()))

    def _walk(self) -> Iterator[list[list[Draw]]]:
        waiting: list[list[Draw]] = []
        seen = 0
        for epoch in range(self.epochs):
            batches: list[list[Draw]] = []
            for pieces in self._stages(epoch, seen):
                seen += sum(_length(piece) for piece in pieces)
                full, waiting = self._full([*chain(*waiting), *pieces])
                batches += self._scheduled(full, (self.seed, epoch, _ORDER, len(batches)))
            if epoch == self.epochs - 1:
                batches += waiting
            if not batches:
                raise InputError(
                    f"training: the pieces of an epoch fill no step of {self.tokens} positions. "
                    "Give fewer as batches.tokens"
                )
            yield batches

    def _stages(self, epoch: int, seen: int) -> Iterator[list[Draw]]:
        """The pieces of an epoch in random order, as long as the longest length is the same at a time."""
        rng = np.random.default_rng((self.seed, epoch, _ORDER))
        stage: list[Draw] = []
        longest = self._longest(seen)
        for index in rng.permutation(len(self.split)).tolist():
            if self._longest(seen) != longest:
                yield [stage[i] for i in rng.permutation(len(stage))]
                longest, stage = self._longest(seen), []
            pieces = list(self._cut(self.split.length(index), longest, rng))
            stage += [Draw(index, epoch, *piece) for piece in pieces]
            seen += sum(stop - start for start, stop, _ in pieces)
        yield [stage[i] for i in rng.permutation(len(stage))]

    def _longest(self, seen: int) -> int | None:
        """The longest piece after so many positions; None: whole sequences."""
        most = None if self.buckets is None else self.buckets.most
        if self.warmup is None:
            return most
        start, final = self.warmup.start, most or self.longest
        n_stage = max(0, math.ceil(math.log2(final / start))) + 1
        # the last stage begins when the share of the run's positions has been seen
        stage = n_stage - 1
        if n_stage > 1:
            stage = min(stage, int(seen * (n_stage - 1) / (self.warmup.share * self.epochs * self.positions)))
        return min(start << stage, final) if stage < n_stage - 1 or most else None

    def _cut(self, T: int, longest: int | None, rng: np.random.Generator) -> Iterator[tuple[int, int, int]]:
        """Start and end of each piece of a sequence, and its first position that no piece before it has."""
        if self.buckets is None:
            sizes = [min(longest or T, T)] * max(1, T // (longest or T))
        else:
            sizes = rng.permutation(_powers(T, self.buckets.least, longest)).tolist() or [T]
        start = 0
        for size in sizes:
            yield start, start + size, 0
            start += size
        if start < T:
            # the rest, with positions before it that make it as long as the shortest piece
            size = min(sizes[0] if self.buckets is None else self.buckets.least, T)
            yield T - size, T, start - (T - size)

    def _full(self, pieces: list[Draw]) -> tuple[list[list[Draw]], list[list[Draw]]]:
        """Batches that no further piece would fit in, and those that wait for more.

        Without buckets, neighbours in length are put together, with padding.
        """
        filling: dict[int, list[Draw]] = defaultdict(list)
        batches = []
        if self.buckets is None:
            pieces = sorted(pieces, key=_length)
        for piece in pieces:
            length = _length(piece)
            if length > self.tokens:
                raise InputError(
                    f"training: a piece has {length} positions, a step {self.tokens}. Set batches.tokens to that"
                )
            bucket = length if self.buckets else 0
            if (len(filling[bucket]) + 1) * length > self.tokens:
                batches.append(filling.pop(bucket))
            filling[bucket].append(piece)
            if (len(filling[bucket]) + 1) * length > self.tokens:
                batches.append(filling.pop(bucket))
        return batches, list(filling.values())

    def _scheduled(self, batches: list[list[Draw]], seed: tuple[int, ...]) -> list[list[Draw]]:
        """Batches in random order; with a curriculum, short lengths come sooner in each cycle."""
        rng = np.random.default_rng(seed)
        cycles = self.buckets.cycles if self.buckets else 1
        curriculum = self.buckets.curriculum if self.buckets else 1.0
        order = rng.permutation(len(batches))
        lengths = np.array([_length(batches[i][0]) for i in order], dtype=float)
        # each cycle has its share of every length
        cycle = np.empty(len(order), dtype=int)
        for length in np.unique(lengths):
            cycle[lengths == length] = np.arange((lengths == length).sum()) % cycles
        # the earliest of exponential clocks: drawn without replacement, by weight (Efraimidis and Spirakis, 2006)
        clock = rng.exponential(size=len(order)) * curriculum ** np.log2(lengths)
        return [batches[i] for i in order[np.lexsort((clock, cycle))]]

    @cached_property
    def _lengths(self) -> list[int]:
        return [self.split.length(i) for i in range(len(self.split))]

    @property
    def longest(self) -> int:
        """Positions of the longest example."""
        return max(self._lengths)

    @cached_property
    def positions(self) -> int:
        """Of all examples."""
        return sum(self._lengths)


def _length(draw: Draw) -> int:
    assert draw.stop is not None
    return draw.stop - draw.start


def _powers(T: int, least: int, most: int | None) -> list[int]:
    """Powers of two from `least` to `most` whose sum is nearest to T from below, as few as there can be."""
    sizes = []
    size = most or 1 << T.bit_length()
    while size >= least:
        sizes += [size] * (T // size)
        T, size = T % size, size // 2
    return sizes
