"""One or more series on one grid of time, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.forecasting.time_grid import Frequency, Times

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NamedSeries:
    """A series.

    Args:
        name: of its own in a panel.
        times: labels `[T]`, on the grid and without a gap.
        values: targets `[T, C]`, NaN where missing.
        exogenous: `[T, K]`, or `[T + H, K]` with the steps to come.
    """

    name: str
    times: Times
    values: Floats
    exogenous: Floats

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Panel:
    """Series with the same columns, forecast by one model.

    Where they end at different times, each is forecast from its own end: what a model sees are steps before the end.

    Args:
        series: at least one.
        targets: names of the columns of `values`.
        exogenous: names of the columns of `exogenous`.
        frequency: of the steps of all.
    """

    series: Sequence[NamedSeries]
    targets: Sequence[str]
    exogenous: Sequence[str]
    frequency: Frequency

    def __len__(self) -> int:
        return len(self.series)

    @property
    def last(self) -> int:
        """The position in the grid of the last step of all."""
        ends = np.asarray([series.times[-1] for series in self.series])
        return int(self.frequency.positions(ends).max())

    def without_end(self, steps: int) -> "Panel":
        """All series without their last steps, which are to come now.

        Raises:
            InputError: of a series fewer than two steps are left.
        """
        return replace(self, series=[self._cut(series, steps) for series in self.series]) if steps else self

    def _cut(self, series: NamedSeries, steps: int) -> NamedSeries:
        left = len(series) - steps
        if left < 2:
            raise InputError(
                f"series {series.name!r} has {len(series)} steps, expected at least 2 before the last {steps}, which "
                "are to be forecast. Take fewer windows, or a shorter horizon or step"
            )
        return replace(series, times=series.times[:left], values=series.values[:left])

    def last_values(self, begin: int, count: int) -> Floats:
        """Targets `[N, count, C]` of all series from `begin` steps before their ends on."""
        return np.stack([s.values[len(s) - begin : len(s) - begin + count] for s in self.series])

    def to_come(self, series: NamedSeries, steps: int) -> Times:
        """The labels of the next steps of a series."""
        end = self.frequency.positions(series.times[-1:])
        return self.frequency.labels(end + np.arange(1, steps + 1))
