"""What is kept of the hidden states of a sequence: one vector, or all of them, from pieces that come one by one."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

POOLS = ("none", "mean", "max", "first", "last")
"""All positions, or over positions the mean or the maximum, or the one that is read first or last."""


class Pooled:
    """The pooled hidden states of one sequence, read on one strand.

    Args:
        pools: some of `POOLS`.
        length: positions of the sequence.
        real: the positions that count for everything but `none`, `first:end`; the others are padding.
        reverse: whether the strand is the other one, whose first position is the last.
    """

    def __init__(self, pools: Sequence[str], length: int, real: tuple[int, int], *, reverse: bool):
        self.pools, self.length, self.real = pools, length, real
        first, last = real[0], real[1] - 1
        ends = (last, first) if reverse else (first, last)
        self._places = {pool: place for pool, place in zip(("first", "last"), ends, strict=True) if pool in pools}
        self._kept: dict[str, Tensor] = {}
        self._positions: NDArray[np.float32] | None = None

    def add(self, hidden: Tensor, start: int) -> None:
        """Take in the hidden states `[n, D]` of the positions from `start` on, no position twice."""
        if "none" in self.pools:
            if self._positions is None:
                self._positions = np.empty((self.length, hidden.shape[1]), dtype=np.float32)
            self._positions[start : start + len(hidden)] = hidden.cpu().numpy()
        low, high = max(self.real[0] - start, 0), self.real[1] - start
        counted = hidden[low : max(high, low)]
        if len(counted) == 0:
            return
        if "mean" in self.pools:
            total = counted.sum(0).double()
            self._kept["mean"] = self._kept["mean"] + total if "mean" in self._kept else total
        if "max" in self.pools:
            highest = counted.amax(0)
            self._kept["max"] = torch.maximum(self._kept.get("max", highest), highest)
        for pool, place in self._places.items():
            if start + low <= place < start + low + len(counted):
                self._kept[pool] = hidden[place - start].clone()

    def vector(self, pool: str) -> Tensor:
        """The pooled vector `[D]` in float64, when all pieces have been added."""
        kept = self._kept[pool].double()
        return kept / (self.real[1] - self.real[0]) if pool == "mean" else kept

    @property
    def positions(self) -> NDArray[np.float32]:
        """The hidden states of all positions `[T, D]`."""
        assert self._positions is not None, "no positions were asked for"
        return self._positions
