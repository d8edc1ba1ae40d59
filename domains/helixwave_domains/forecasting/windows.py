"""Windows of series for networks: so many steps read, so many forecast."""

import copy
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from helixwave.errors import InputError
from numpy.typing import NDArray
from torch import Tensor

Series = NDArray[np.float32] | NDArray[np.float64]
Numbers = NDArray[np.int64]


class Batch(NamedTuple):
    """Windows in float32; NaN where a value is missing or outside its series."""

    context: Tensor  # [B, L, C]
    target: Tensor  # [B, H, C]
    exogenous: Tensor | None  # [B, L + H, K]

    def to(self, device: torch.device) -> "Batch":
        """The same windows on `device`."""
        return Batch(*(None if part is None else part.to(device) for part in self))  # type: ignore[arg-type]


class Windows:
    """Windows of several series by number: those of the first series in order of time, then those of the second.

    Each series stands once in memory. A window is known by its origin, the row of its first target: it reads the
    `context` rows before that.

    Args:
        series: `[T_i, C]` each, of any lengths; NaN is missing.
        context: steps read, L.
        horizon: steps forecast, H.
        exogenous: variables known for the context and the horizon, for each series `[T_i, K]` or longer.
        least_context: rows of the context that lie within the series; where it begins, the rest is NaN. None: all.

    Raises:
        InputError: shapes that do not fit together, an empty series or an infinite value.
    """

    def __init__(
        self,
        series: Sequence[Series],
        *,
        context: int,
        horizon: int,
        exogenous: Sequence[Series] | None = None,
        least_context: int | None = None,
    ):
        self.context, self.horizon = context, horizon
        self.series = _Stack("series", series)
        self.exogenous = None if exogenous is None else _Stack("exogenous", exogenous)
        if self.exogenous is not None:
            self._check_exogenous(self.exogenous.lengths)
        first = context if least_context is None else least_context
        self._set_origins(np.full_like(self.series.lengths, first), self.series.lengths - horizon + 1)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def shortage(self) -> str:
        """Why there are no windows, where there are none."""
        return (
            f"no window of {self.context} + {self.horizon} steps fits into the series, the longest has "
            f"{self.series.lengths.max()} steps. Shorten the context or the horizon"
        )

    def batch(self, numbers: Numbers) -> Batch:
        """The windows of these numbers `[B]`."""
        which = np.searchsorted(self._ends, numbers, side="right")
        origins = numbers - self._ends[which] + self._stops[which]
        rows = origins[:, None] + np.arange(-self.context, self.horizon)
        values = self.series.read(which, rows)
        exogenous = None if self.exogenous is None else self.exogenous.read(which, rows)
        return Batch(values[:, : self.context], values[:, self.context :], exogenous)

    def between(self, first: int, stop: int) -> Self:
        """The windows whose targets lie in the rows from `first` up to but without `stop` of their series."""
        return self._with_origins(np.maximum(self._firsts, first), np.minimum(self._stops, stop - self.horizon + 1))

    def split(self, validation: float) -> tuple[Self, Self]:
        """Windows to train on, and those whose targets lie in the last share of each series to validate on.

        No target of one is a target of the other. The last part has at least the length of the horizon; a series that
        leaves no window to train on before it is for training as a whole.
        """
        lengths = self.series.lengths
        cuts = lengths - np.maximum(np.round(validation * lengths).astype(np.int64), self.horizon)
        cuts = np.where(cuts - self.horizon >= self._firsts, cuts, lengths)
        train = self._with_origins(self._firsts, np.minimum(self._stops, cuts - self.horizon + 1))
        return train, self._with_origins(np.maximum(self._firsts, cuts), self._stops)

    def latest(self) -> Self:
        """One window for each series, which forecasts what comes after its last row; its target is NaN."""
        return self._with_origins(self.series.lengths, self.series.lengths + 1)

    def _with_origins(self, firsts: Numbers, stops: Numbers) -> Self:
        other = copy.copy(self)
        other._set_origins(firsts, stops)
        return other

    def _set_origins(self, firsts: Numbers, stops: Numbers) -> None:
        self._firsts, self._stops = firsts, np.maximum(firsts, stops)
        self._ends = np.cumsum(self._stops - self._firsts)

    def _check_exogenous(self, lengths: Numbers) -> None:
        if len(lengths) != len(self.series.lengths):
            raise InputError(f"windows: {len(lengths)} exogenous arrays for {len(self.series.lengths)} series")
        short = lengths < self.series.lengths
        if short.any():
            i = int(short.argmax())
            raise InputError(
                f"windows: exogenous {i} has {lengths[i]} rows, expected at least the {self.series.lengths[i]} of its "
                "series"
            )


class _Stack:
    """Arrays `[T_i, C]` one after the other, in float32."""

    def __init__(self, name: str, arrays: Sequence[Series]):
        for i, array in enumerate(arrays):
            _check(f"windows: {name} {i}", array, arrays[0].shape[-1])
        if not len(arrays):
            raise InputError(f"windows: no {name}, expected at least one array [T, C]")
        self.lengths = np.array([len(array) for array in arrays], dtype=np.int64)
        stops = np.cumsum(self.lengths)
        self._starts = stops - self.lengths
        self._values = torch.empty(int(stops[-1]), arrays[0].shape[1])
        for start, stop, array in zip(self._starts, stops, arrays, strict=True):
            self._values[start:stop] = torch.from_numpy(np.ascontiguousarray(array))

    def read(self, which: Numbers, rows: Numbers) -> Tensor:
        """Rows `[B, W]` of the arrays `which` `[B]`: `[B, W, C]`, NaN outside."""
        lengths = self.lengths[which][:, None]
        places = self._starts[which][:, None] + rows.clip(0, lengths - 1)
        values = self._values[torch.from_numpy(places)]
        outside = (rows < 0) | (rows >= lengths)
        return values.masked_fill(torch.from_numpy(outside)[..., None], torch.nan) if outside.any() else values


def _check(where: str, array: Series, n_channel: int) -> None:
    if array.ndim != 2 or array.shape[1] != n_channel:
        raise InputError(f"{where} has shape {list(array.shape)}, expected [T, {n_channel}]")
    if not len(array):
        raise InputError(f"{where} is empty, expected at least one row")
    infinite = np.isinf(array).any(axis=1)
    if infinite.any():
        raise InputError(f"{where} has an infinite value in row {infinite.argmax()}. NaN means that one is missing")
