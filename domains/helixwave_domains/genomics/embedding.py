"""Embeddings of DNA: sequences of any length in, vectors out.

An embedding depends on the letters alone: not on what else is in the batch, on their case or on the order of the
sequences. Only sequences of one length are read together, so that there is no padding. A sequence longer than `window`
is read in overlapping pieces, each position taken from one of them. Means are over positions, so that a piece counts by
its length.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from helixwave.errors import InputError, nearest
from numpy.typing import NDArray
from torch import Tensor

from helixwave_domains.genomics.alphabet import count_iupac
from helixwave_domains.genomics.fasta import Record
from helixwave_domains.genomics.pooling import POOLS, Pooled
from helixwave_domains.genomics.reading import Reading, normed_letters
from helixwave_domains.genomics.strands import BothStrands
from helixwave_domains.genomics.windows import Tile, tiles

# letters that are looked at together to find sequences of one length, and fewer where all positions are kept
_GROUP, _GROUP_OF_POSITIONS = 2**21, 2**18


@dataclass(frozen=True, slots=True)
class Passage:
    """A sequence to embed.

    Args:
        name: what it is called in the result and in messages.
        letters: in either case.
        padded: how many N at its two ends are padding, which is read but not pooled.
    """

    name: str
    letters: str
    padded: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Embedded:
    """Sequences in the order in which they came.

    Args:
        names: of the sequences.
        pooled: for each pooling but `none` the embeddings `[B, D]`.
        positions: with the pooling `none`, the hidden states `[T, D]` of each sequence, in the order of its letters.
        lengths: how many letters each has `[B]`.
        unknown: how many letters of each were IUPAC codes other than N, which are read as unknown `[B]`.
    """

    names: list[str]
    pooled: dict[str, NDArray[np.float32]]
    positions: list[NDArray[np.float32]]
    lengths: NDArray[np.int64]
    unknown: NDArray[np.int64]


def embed(
    records: Iterable[tuple[str, str] | Record | Passage],
    model: BothStrands,
    *,
    pool: str | Sequence[str] = "mean",
    window: int | None = None,
    overlap: int | None = None,
    layer: int | None = None,
    strand: str = "+",
    batch_tokens: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Iterator[Embedded]:
    """Hidden states of sequences, pooled or as they are, in batches.

        for batch in embed(read_fasta("my.fa"), model, pool="mean"):
            print(batch.names, batch.pooled["mean"].shape)

    Args:
        records: `(name, letters)`, the records of a FASTA, or passages; asked for as they are needed.
        model: of DNA, such as `helixwave.load_pretrained` and `helixwave.load` give.
        pool: one or several of `none`, `mean`, `max`, `first` and `last`. On the strand `-` the first position is the
            one that is read first, the last letter.
        window: the longest piece that the model reads at once; None: its context, or 65536.
        overlap: how many positions neighbouring pieces share; None: a quarter of the window.
        layer: None: the last hidden state, normed; else the residual stream after so many layers, 0 the embedding,
            counted from the end if negative.
        strand: `+`, `-`, or `both` for the mean of the two; positions are in the order of the letters in any case.
        batch_tokens: positions of a batch, unless a single piece has more; None: 8192 on a CPU, 131072 elsewhere.
        dtype: `float32`, or `bfloat16` for autocast.
        device: where to compute; None: where the model is.

    Raises:
        InputError: an argument is out of range, or a sequence is empty or holds what is no letter of DNA.
    """
    reading = Reading(model, strand=strand, batch_tokens=batch_tokens, dtype=dtype, device=device)
    return Embedder(reading, pool=pool, window=window, overlap=overlap, layer=layer).batches(records)


class _Piece(NamedTuple):
    """A tile of a sequence of a group, on one strand."""

    number: int
    reverse: bool
    tile: Tile

    @property
    def length(self) -> int:
        return self.tile.end - self.tile.start


class Embedder:
    """What `embed` does, with its arguments checked once."""

    def __init__(
        self,
        reading: Reading,
        *,
        pool: str | Sequence[str] = "mean",
        window: int | None = None,
        overlap: int | None = None,
        layer: int | None = None,
    ):
        self.reading, self.pools = reading, _checked_pools(pool)
        self.window = reading.window(window)
        self.overlap = self.window // 4 if overlap is None else overlap
        if not 0 <= self.overlap < self.window:
            raise InputError(f"overlap is {self.overlap}, expected 0 to {self.window - 1}, less than the window")
        self.layer = _checked_layer(reading.model, layer)

    @property
    def options(self) -> dict[str, Any]:
        """All that decides on an embedding beside the letters and the checkpoint, as JSON can hold it."""
        options = {"pool": self.pools, "window": self.window, "overlap": self.overlap, "layer": self.layer}
        return options | self.reading.options

    def batches(self, records: Iterable[tuple[str, str] | Record | Passage]) -> Iterator[Embedded]:
        """The embeddings of records, as they are asked for."""
        letters = _GROUP_OF_POSITIONS if "none" in self.pools else _GROUP
        return map(self._embedded, _groups(map(_passage, records), letters))

    def _embedded(self, group: list[Passage]) -> Embedded:
        """A group's, of which equal sequences are read once."""
        passages = [Passage(p.name, normed_letters(p.letters, p.name), _checked_padding(p)) for p in group]
        numbers: dict[Passage, int] = {}
        places = [numbers.setdefault(Passage("", p.letters, p.padded), len(numbers)) for p in passages]
        results = self._read(list(numbers))
        return Embedded(
            names=[p.name for p in passages],
            pooled={pool: _vectors(results, pool)[places] for pool in self.pools if pool != "none"},
            positions=[_positions(results[place]) for place in places] if "none" in self.pools else [],
            lengths=np.array([len(p.letters) for p in passages], dtype=np.int64),
            unknown=np.array([count_iupac(p.letters) for p in passages], dtype=np.int64),
        )

    def _read(self, passages: list[Passage]) -> list[list[Pooled]]:
        """For each sequence what is kept of each strand."""
        strands = self.reading.strands
        results = [[_pooled(self.pools, passage, reverse) for reverse in strands] for passage in passages]
        pieces = [piece for number, passage in enumerate(passages) for piece in self._pieces(number, passage)]
        for batch in _batches(pieces, self.reading.batch_tokens):
            for states, piece in zip(self._hidden(batch, passages), batch, strict=True):
                start, _, low, high = piece.tile
                results[piece.number][strands.index(piece.reverse)].add(states[low - start : high - start], low)
        return results

    def _pieces(self, number: int, passage: Passage) -> Iterator[_Piece]:
        length, causal = len(passage.letters), self.reading.model.backbone.causal
        for reverse in self.reading.strands:
            for tile in tiles(length, self.window, self.overlap, causal=causal):
                yield _Piece(number, reverse, _mirrored(tile, length) if reverse else tile)

    @torch.inference_mode()
    def _hidden(self, batch: list[_Piece], passages: list[Passage]) -> Tensor:
        """Hidden states `[B, T, D]` in float32, in the order of the letters."""
        model = self.reading.model
        letters = [passages[number].letters[tile.start : tile.end] for number, _, tile in batch]
        ids = torch.from_numpy(np.stack([model.tokenizer.encode(piece) for piece in letters]))
        with self.reading.autocast():
            hidden = model.strand(ids.to(self.reading.device), reverse=batch[0].reverse, layer=self.layer)
        return hidden.float()


def _passage(record: tuple[str, str] | Record | Passage) -> Passage:
    if isinstance(record, Record):
        return Passage(record.name, record.sequence)
    return record if isinstance(record, Passage) else Passage(*record)


def _groups(passages: Iterable[Passage], letters: int) -> Iterator[list[Passage]]:
    """Sequences that follow one another, as many as have so many letters together, at least one."""
    group: list[Passage] = []
    size = 0
    for passage in passages:
        if group and size + len(passage.letters) > letters:
            yield group
            group, size = [], 0
        group.append(passage)
        size += len(passage.letters)
    if group:
        yield group


def _batches(pieces: list[_Piece], tokens: int) -> Iterator[list[_Piece]]:
    """Pieces of one length and strand."""

    def kind(piece: _Piece) -> tuple[bool, int]:
        return piece.reverse, piece.length

    for (_, length), alike in groupby(sorted(pieces, key=kind), key=kind):
        while batch := list(islice(alike, max(1, tokens // length))):
            yield batch


def _mirrored(tile: Tile, length: int) -> Tile:
    """A tile of the other strand, where it lies on this one."""
    return Tile(*(length - place for place in (tile.end, tile.start, tile.keep_end, tile.keep_start)))


def _pooled(pools: Sequence[str], passage: Passage, reverse: bool) -> Pooled:
    length, (before, behind) = len(passage.letters), passage.padded
    return Pooled(pools, length, (before, length - behind), reverse=reverse)


def _vectors(results: list[list[Pooled]], pool: str) -> NDArray[np.float32]:
    """`[B, D]`, the mean of the strands that were read."""
    vectors = [[strand.vector(pool) for strand in strands] for strands in results]
    means = [strands[0] if len(strands) == 1 else (strands[0] + strands[1]) / 2 for strands in vectors]
    return torch.stack(means).float().cpu().numpy()


def _positions(strands: list[Pooled]) -> NDArray[np.float32]:
    if len(strands) == 1:
        return strands[0].positions
    return (strands[0].positions + strands[1].positions) / np.float32(2)


def _checked_pools(pool: str | Sequence[str]) -> list[str]:
    pools = [pool] if isinstance(pool, str) else list(dict.fromkeys(pool))
    for name in pools:
        if name not in POOLS:
            raise InputError(f"pool is {name!r}. {nearest(name, POOLS)}")
    if not pools:
        raise InputError(f"pool names nothing, expected one or several of {', '.join(POOLS)}")
    return pools


def _checked_layer(model: BothStrands, layer: int | None) -> int | None:
    n_layer = len(model.backbone.layer_ends)
    if layer is not None and not -n_layer - 1 <= layer <= n_layer:
        raise InputError(
            f"layer is {layer}, expected 0 (the embedding) to {n_layer} (after the last layer), or -{n_layer + 1} to -1"
        )
    return layer + n_layer + 1 if layer is not None and layer < 0 else layer


def _checked_padding(passage: Passage) -> tuple[int, int]:
    before, behind = passage.padded
    if min(before, behind) < 0 or before + behind >= len(passage.letters):
        raise InputError(
            f"{passage.name}: padded is {passage.padded}, expected less than {len(passage.letters)} letters together"
        )
    return passage.padded
