"""A genome as token ids: in memory if it is small, else in a store in the cache that is made once.

All records stand one after the other, so that a place is one number.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.data.windows import read_windows, write_windows
from numpy.typing import NDArray

from helixwave_domains.genomics.alphabet import UNK, A, T, encode
from helixwave_domains.genomics.fasta import FastaFile, read_fasta
from helixwave_domains.genomics.fasta_index import cached_place
from helixwave_domains.genomics.sources import existing_file

_SMALL = 2**24


@dataclass(frozen=True)
class EncodedGenome:
    """The records of a FASTA as ids.

    Args:
        path: the FASTA.
        ids: of all records, one after the other, uint8.
        offsets: where each record begins in `ids`.
        lengths: letters of each record.
        gaps: stretches without a base (A, C, G or T), places `[n, 2]` in `ids` from start to end, in order.
        iupac: letters that are read as unknown.
    """

    path: Path
    ids: NDArray[np.uint8]
    offsets: dict[str, int]
    lengths: dict[str, int]
    gaps: NDArray[np.int64]
    iupac: int

    def unknown(self, starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """How many positions of windows that begin at `starts` are no base."""
        return self._gap_before(starts + length) - self._gap_before(starts)

    def _gap_before(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        following = np.searchsorted(self.gaps[:, 0], places, side="right")
        whole = self._gap_ends[following]
        # the last gap that begins before a place may reach beyond it
        beyond = np.append(0, self.gaps[:, 1])[following] - places
        return whole - np.maximum(beyond, 0) * (following > 0)

    @cached_property
    def _gap_ends(self) -> NDArray[np.int64]:
        return np.append(0, np.cumsum(self.gaps[:, 1] - self.gaps[:, 0]))


def read_encoded(path: Path | str) -> EncodedGenome:
    """Read a FASTA (plain, gzip or BGZF); soft-masked letters read as the others.

    Raises:
        InputError: no FASTA, or a letter that is none of DNA.
    """
    path = existing_file(path, "FASTA file")
    store = cached_place(path, ".zarr")
    if store.exists():
        return _genome(path, *read_windows(store))
    with read_fasta(path) as fasta:
        facts: dict[str, Any] = {"records": list(fasta.lengths.items()), "gaps": [], "iupac": 0}
        total = sum(fasta.lengths.values())
        if total <= _SMALL:
            return _genome(path, np.concatenate(list(_pieces(fasta, facts))), facts)
        write_windows(store, total, _pieces(fasta, facts), facts)
    return _genome(path, *read_windows(store))


def _pieces(fasta: FastaFile, facts: dict[str, Any]) -> Iterator[NDArray[np.uint8]]:
    """The ids of each record; what has been seen so far is counted in `facts`."""
    offset = 0
    for record in fasta:
        ids = encode(record.sequence, f"{fasta.path}: {record.name}")
        facts["gaps"] += (offset + _runs((ids < A) | (ids > T))).tolist()
        facts["iupac"] += int((ids == UNK).sum())
        offset += len(ids)
        yield ids


def _genome(path: Path, ids: NDArray[np.uint8], facts: dict[str, Any]) -> EncodedGenome:
    lengths = dict(facts["records"])
    ends = np.cumsum(list(lengths.values())).tolist()
    offsets = dict(zip(lengths, [0, *ends[:-1]], strict=True))
    gaps = np.array(facts["gaps"], dtype=np.int64).reshape(-1, 2)
    return EncodedGenome(path, ids, offsets, lengths, gaps, facts["iupac"])


def _runs(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Starts and ends of the stretches of True, `[n, 2]`."""
    edges = np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8))
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)], axis=-1)
