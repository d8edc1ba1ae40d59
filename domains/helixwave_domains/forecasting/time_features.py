"""What a calendar says about the steps of a series, as numbers for a network.

Which features a frequency has, their order and scale are those of Zhou et al., "Informer", 2021, as published.
"""

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

Times = NDArray[np.datetime64]


def time_features(times: Times, frequency: str) -> NDArray[np.float32]:
    """Features of each time for a linear map, all in [-0.5, 0.5].

    Args:
        times: `[T]`, of any unit; without a zone.
        frequency: `s` seconds, `t` minutes, `h` hours, `d` days, `b` business days, `w` weeks, `m` months, `q` quarters
            or `a` years.

    Returns:
        `[T, M]` with M the length of `FEATURES[frequency]`, in that order. A yearly series has a feature that does not
        vary.

    Raises:
        InputError: an unknown frequency, or a time that is missing.
    """
    fields = Fields(times)
    columns = [(getattr(fields, name)() - first) / span - 0.5 for name, first, span in _scales(frequency)]
    return np.stack(columns, axis=1).astype(np.float32)


def time_fields(times: Times, frequency: str) -> NDArray[np.int64]:
    """Month, day of the month, day of the week and hour of each time, for tables of embeddings.

    Returns:
        `[T, 4]`, or `[T, 5]` with the quarter of the hour for steps shorter than an hour.

    Raises:
        InputError: an unknown frequency, or a time that is missing.
    """
    fields = Fields(times)
    is_short = len(_scales(frequency)) > len(FEATURES["h"])
    columns = [fields.month(), fields.day(), fields.weekday(), fields.hour()]
    return np.stack([*columns, fields.minute() // 15] if is_short else columns, axis=1)


def frequency_of(times: Times) -> str:
    """The frequency that the median step of some times has: steps of a quarter of an hour are `t`, of four hours `h`.

    Raises:
        InputError: fewer than two times, or one that is missing.
    """
    if len(times) < 2:
        raise InputError(f"time features: {len(times)} time has no frequency. Name it, as in frequency='h'")
    seconds = np.median(np.diff(Fields(times).seconds.astype(np.int64)))
    return next(frequency for frequency, shortest in _SHORTEST_STEP.items() if seconds >= shortest)


class Fields:
    """Fields of the calendar of each time `[T]`, as integers."""

    def __init__(self, times: Times):
        if np.isnat(times).any():
            raise InputError(f"time features: time {int(np.isnat(times).argmax())} is missing (NaT). Drop or fill it")
        self.seconds = times.astype("datetime64[s]")
        self.days = times.astype("datetime64[D]")

    def second(self) -> NDArray[np.int64]:
        return self._since_midnight() % 60

    def minute(self) -> NDArray[np.int64]:
        return self._since_midnight() // 60 % 60

    def hour(self) -> NDArray[np.int64]:
        return self._since_midnight() // 3600

    def weekday(self) -> NDArray[np.int64]:
        """0 is Monday."""
        # day 0 of numpy, the first of January 1970, was a Thursday
        return (self.days.astype(np.int64) + 3) % 7

    def day(self) -> NDArray[np.int64]:
        return _days_since(self.days, "M") + 1

    def day_of_year(self) -> NDArray[np.int64]:
        return _days_since(self.days, "Y") + 1

    def week(self) -> NDArray[np.int64]:
        """Of ISO 8601: a week belongs to the year of its Thursday."""
        thursdays = self.days + (3 - self.weekday()).astype("timedelta64[D]")
        return _days_since(thursdays, "Y") // 7 + 1

    def month(self) -> NDArray[np.int64]:
        return self.days.astype("datetime64[M]").astype(np.int64) % 12 + 1

    def _since_midnight(self) -> NDArray[np.int64]:
        return (self.seconds - self.days).astype(np.int64)


def _days_since(days: Times, unit: str) -> NDArray[np.int64]:
    """Days since the month or the year began."""
    start = days.astype(f"datetime64[{unit}]").astype("datetime64[D]")
    return (days - start).astype(np.int64)


def _scales(frequency: str) -> list[tuple[str, int, int]]:
    if frequency not in FEATURES:
        raise InputError(
            f"time features: no frequency {frequency!r}. Expected s (seconds), t (minutes), h (hours), d (days), "
            "b (business days), w (weeks), m (months), q (quarters) or a (years)"
        )
    return [(name, *_FIRST_AND_SPAN[name]) for name in FEATURES[frequency]]


_DAILY = ("weekday", "day", "day_of_year")

FEATURES: dict[str, tuple[str, ...]] = {
    "s": ("second", "minute", "hour", *_DAILY),
    "t": ("minute", "hour", *_DAILY),
    "h": ("hour", *_DAILY),
    "d": _DAILY,
    "b": _DAILY,
    "w": ("day", "week"),
    "m": ("month",),
    "q": ("month",),
    "a": ("month",),
}
"""Names of the features of a frequency, in order."""

# the least value of a field, and how far its greatest one is from that
_FIRST_AND_SPAN = {
    "second": (0, 59),
    "minute": (0, 59),
    "hour": (0, 23),
    "weekday": (0, 6),
    "day": (1, 30),
    "day_of_year": (1, 365),
    "week": (1, 52),
    "month": (1, 11),
}

_DAY = 86400
# from the longest to the shortest, in seconds
_SHORTEST_STEP = {"a": 360 * _DAY, "q": 80 * _DAY, "m": 27 * _DAY, "w": 7 * _DAY, "d": _DAY, "h": 3600, "t": 60, "s": 0}
