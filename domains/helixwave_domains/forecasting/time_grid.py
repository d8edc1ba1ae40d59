"""Grids of time: how far apart the steps of series are, and the labels of steps to come."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from helixwave.errors import InputError, nearest
from numpy.typing import NDArray

Times: TypeAlias = NDArray[Any]
"""Labels `[T]` of steps: datetime64[us], or whole numbers."""

Positions: TypeAlias = NDArray[np.int64]
Unit: TypeAlias = Literal["us", "MS", "ME", "B", "n"]

_DAY = 86_400_000_000
# names of steps and how many units they have, the longest first
_NAMES: dict[Unit, dict[str, int]] = {
    "us": {"W": 7 * _DAY, "D": _DAY, "h": _DAY // 24, "min": 60_000_000, "s": 1_000_000, "ms": 1000, "us": 1},
    "MS": {"YS": 12, "QS": 3, "MS": 1},
    "ME": {"YE": 12, "QE": 3, "ME": 1},
    "B": {"B": 1},
    "n": {"": 1},
}
_UNITS = {name: unit for unit, names in _NAMES.items() for name in names}
# the first Monday of numpy's calendar, which begins on a Thursday
_MONDAY = 4 * _DAY
# what a written time ends with: days, minutes, seconds or their parts
_SHOWN = ("D", "m", "s", "us")
_EPOCH = np.datetime64("1970-01-01")


@dataclass(frozen=True)
class Frequency:
    """Steps of one length.

    Args:
        unit: `us` microseconds; `MS` months labelled by their first day, `ME` by their last; `B` days from Monday to
            Friday; `n` whole numbers.
        count: units of a step.
        phase: units by which labels are later than multiples of `count`, counted from the beginning of 1970 or from 0.
    """

    unit: Unit
    count: int
    phase: int = 0

    def __str__(self) -> str:
        """The name that `Frequency.parse` reads."""
        name, length = next((n, length) for n, length in _NAMES[self.unit].items() if self.count % length == 0)
        return name if self.count == length and name else f"{self.count // length}{name}"

    @classmethod
    def parse(cls, text: str) -> "Frequency":
        """From a name as pandas has them: `h`, `15min`, `W` (from Monday), `B`, `MS`, `QE`; `10` of whole numbers.

        Raises:
            InputError: it is something else.
        """
        number, name = re.match(r"(\d*)(.*)", text.replace(" ", "")).groups()  # type: ignore[union-attr]
        if name not in _UNITS or not (number or name) or number.strip("0") == "" != number:
            raise InputError(
                f"--freq is {text!r}, expected steps such as 15min or MS. {nearest(name, filter(None, _UNITS))}"
            )
        unit = _UNITS[name]
        return cls(unit, int(number or 1) * _NAMES[unit][name], _MONDAY if name == "W" else 0)

    @classmethod
    def guess(cls, series: Sequence[Times]) -> "Frequency":
        """The step that most neighbours are apart, of ascending times of one or more series.

        Days are business days where there is no weekend, and months where all are the first or all the last of one.
        """
        unit = _unit(np.concatenate(series))
        steps = np.concatenate([np.diff(cls(unit, 1)._units(times)) for times in series])
        lengths, votes = np.unique(steps[steps > 0], return_counts=True)
        count = int(lengths[votes.argmax()]) if len(lengths) else 1
        if unit == "us" and count == _DAY and _skips_weekends(series):
            unit, count = "B", 1
        return cls(unit, count).anchored(max(series, key=len)[0])

    def anchored(self, time: Any) -> "Frequency":
        """The same steps, one of which has this label."""
        return replace(self, phase=int(self._units(np.asarray([time]))[0]) % self.count)

    def positions(self, times: Times) -> Positions:
        """In which step each time lies, `[T]`."""
        return (self._units(times) - self.phase) // self.count

    def labels(self, positions: Positions) -> Times:
        """The labels of steps: the inverse of `positions`."""
        units = self.phase + np.asarray(positions, dtype=np.int64) * self.count
        match self.unit:
            case "n":
                return units
            case "us":
                return units.astype("datetime64[us]")
            case "MS":
                return units.astype("datetime64[M]").astype("datetime64[us]")
            case "ME":
                last = (units + 1).astype("datetime64[M]").astype("datetime64[D]") - 1
                return last.astype("datetime64[us]")
            case "B":
                return np.busday_offset(_EPOCH, units).astype("datetime64[us]")

    @property
    def season(self) -> int:
        """Steps after which a series may look alike: a day, a week or a year of them; 1 if there is no such number."""
        match self.unit:
            case "us":
                whole = next((whole for whole in (_DAY, 7 * _DAY, 364 * _DAY) if whole > self.count), 1)
            case unit:
                whole = {"MS": 12, "ME": 12, "B": 5, "n": 1}[unit]
        return whole // self.count if whole % self.count == 0 else 1

    def _units(self, times: Times) -> Positions:
        """Whole units since the beginning of 1970, or the numbers themselves."""
        match self.unit:
            case "us":
                times = times.astype("datetime64[us]")
            case "MS" | "ME":
                times = times.astype("datetime64[M]")
            case "B":
                times = np.busday_count(_EPOCH, times.astype("datetime64[D]"))
        return times.astype(np.int64)


def written(times: Times) -> list[str]:
    """Labels as people write them, all in one form: with a time of day, seconds or parts of them if any needs that."""
    if times.dtype.kind != "M":
        return list(map(str, times.tolist()))
    exact = next(short for short in (times.astype(f"datetime64[{unit}]") for unit in _SHOWN) if (short == times).all())
    return [text.replace("T", " ") for text in exact.astype(str).tolist()]


def shown(time: Any) -> str:
    """One label, for messages."""
    return written(np.asarray(time)[None])[0]


def _unit(times: Times) -> Unit:
    if times.dtype.kind != "M":
        return "n"
    days = times.astype("datetime64[D]")
    if (days == times).all():
        if (days == days.astype("datetime64[M]")).all():
            return "MS"
        if (days + 1 == (days + 1).astype("datetime64[M]")).all():
            return "ME"
    return "us"


def _skips_weekends(series: Sequence[Times]) -> bool:
    days = [times.astype("datetime64[D]") for times in series]
    crossed = any((np.diff(each) > np.timedelta64(1, "D")).any() for each in days)
    return crossed and all(np.is_busday(each).all() for each in days)
