"""Rows of sequences become rows of embeddings."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helixwave_domains.genomics.embedding import Embedded, Embedder, Passage
from helixwave_domains.genomics.filling import Block
from helixwave_domains.genomics.reading import Reading
from helixwave_domains.genomics.rows import Row, Rows
from helixwave_domains.genomics.store import STATUS, Column
from helixwave_domains.genomics.strands import BothStrands


@dataclass(frozen=True)
class EmbedTask:
    """A table of embeddings.

    Its columns are the rows' cells, how many letters were read as unknown (of the first passage, where there are two),
    and for each role of a passage its length and its embeddings.

    Args:
        rows: the sequences.
        reading: arguments of `Reading`.
        embedding: arguments of `Embedder`.
    """

    rows: Rows
    reading: dict[str, Any]
    embedding: dict[str, Any]

    @property
    def inputs(self) -> dict[str, Path]:
        return self.rows.inputs

    def options(self, model: BothStrands) -> dict[str, Any]:
        return {"rows": self.rows.options, "embedding": self._embedder(model).options}

    def outline(self, model: BothStrands) -> tuple[list[Column], list[str]]:
        pools = self._embedder(model).pools
        columns = [*self.rows.columns, Column("unknown", "int64")]
        for role in self.rows.roles:
            columns.append(Column(f"{role}length", "int64"))
            columns += [Column(f"{role}offset", "int64")] if "none" in pools else []
            columns += [Column(role + pool, "float32", model.backbone.d_model) for pool in pools if pool != "none"]
        return columns, [f"{role}positions" for role in self.rows.roles if "none" in pools]

    def size(self) -> tuple[int, int]:
        return self.rows.size()

    def items(self) -> Iterator[Row]:
        return iter(self.rows)

    def compute(self, items: Iterator[Row], model: BothStrands) -> Block:
        embedder = self._embedder(model)
        rows: list[Row] = []
        found = _merged(list(embedder.batches(_passages(items, rows))), embedder.pools, model.backbone.d_model)
        usable = np.array([row.status.usable for row in rows], dtype=bool)
        columns: dict[str, Any] = {c.name: [row.cells[c.name] for row in rows] for c in self.rows.columns}
        columns[STATUS] = [str(row.status) for row in rows]
        columns["unknown"] = _spread(found.unknown[:: len(self.rows.roles)], usable, 0)
        positions: dict[str, list[NDArray[np.float32]]] = {}
        for number, role in enumerate(self.rows.roles):
            mine = slice(number, None, len(self.rows.roles))
            lengths = found.lengths[mine]
            columns[f"{role}length"] = _spread(lengths, usable, 0)
            for pool, vectors in found.pooled.items():
                columns[role + pool] = _spread(vectors[mine], usable, np.nan)
            if "none" in embedder.pools:
                columns[f"{role}offset"] = _spread(lengths.cumsum() - lengths, usable, 0)
                positions[f"{role}positions"] = found.positions[mine]
        return Block(columns, positions)

    def _embedder(self, model: BothStrands) -> Embedder:
        return Embedder(Reading(model, **self.reading), **self.embedding)


def _passages(items: Iterator[Row], rows: list[Row]) -> Iterator[Passage]:
    """The passages of all rows; the rows without them, whose letters need not be kept, are added to `rows`."""
    for row in items:
        rows.append(row._replace(passages=()))
        yield from row.passages


def _merged(batches: list[Embedded], pools: list[str], d_model: int) -> Embedded:
    nothing = Embedded(
        names=[],
        pooled={pool: np.empty((0, d_model), np.float32) for pool in pools if pool != "none"},
        positions=[],
        lengths=np.empty(0, np.int64),
        unknown=np.empty(0, np.int64),
    )
    parts = [nothing, *batches]
    return Embedded(
        names=[name for part in parts for name in part.names],
        pooled={pool: np.concatenate([part.pooled[pool] for part in parts]) for pool in nothing.pooled},
        positions=[states for part in parts for states in part.positions],
        lengths=np.concatenate([part.lengths for part in parts]),
        unknown=np.concatenate([part.unknown for part in parts]),
    )


def _spread(values: NDArray[Any], usable: NDArray[np.bool_], otherwise: float) -> NDArray[Any]:
    """Values of the usable rows, in rows of their own."""
    spread = np.full((len(usable), *values.shape[1:]), otherwise, dtype=values.dtype)
    spread[usable] = values
    return spread
