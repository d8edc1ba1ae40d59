"""Time features against the calendar of the standard library."""

import datetime

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.forecasting.time_features import FEATURES, frequency_of, time_features, time_fields

# from before 1970, over leap days, ends of years and weeks 53 and 1
TIMES = np.arange("1967-12-30T22:58:59", "2021-01-09", 977_531, dtype="datetime64[s]")


def direct(name: str, time: datetime.datetime) -> float:
    """From the published formulas."""
    return {
        "second": time.second / 59,
        "minute": time.minute / 59,
        "hour": time.hour / 23,
        "weekday": time.weekday() / 6,
        "day": (time.day - 1) / 30,
        "day_of_year": (time.timetuple().tm_yday - 1) / 365,
        "week": (time.isocalendar().week - 1) / 52,
        "month": (time.month - 1) / 11,
    }[name] - 0.5


@pytest.mark.parametrize("frequency", FEATURES)
def test_features_equal_the_formulas(frequency: str) -> None:
    expected = [[direct(name, time) for name in FEATURES[frequency]] for time in TIMES.tolist()]
    features = time_features(TIMES, frequency)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, atol=1e-7)
    assert np.abs(features).max() <= 0.5


def test_order_and_number_of_the_published_features() -> None:
    assert FEATURES["h"] == ("hour", "weekday", "day", "day_of_year")
    assert [len(FEATURES[frequency]) for frequency in "htsmawdb"] == [4, 5, 6, 1, 1, 2, 3, 3]


@pytest.mark.parametrize(("frequency", "width"), [("h", 4), ("d", 4), ("m", 4), ("t", 5), ("s", 5)])
def test_fields(frequency: str, width: int) -> None:
    expected = [[t.month, t.day, t.weekday(), t.hour, t.minute // 15][:width] for t in TIMES.tolist()]
    np.testing.assert_array_equal(time_fields(TIMES, frequency), expected)


@pytest.mark.parametrize("unit", ["D", "m", "ms", "ns"])
def test_any_unit(unit: str) -> None:
    days = np.arange("1999-12-25", "2000-03-04", dtype="datetime64[D]")
    np.testing.assert_array_equal(time_features(days.astype(f"datetime64[{unit}]"), "s"), time_features(days, "s"))


@pytest.mark.parametrize(
    ("step", "frequency"),
    [("1s", "s"), ("59s", "s"), ("1m", "t"), ("15m", "t"), ("1h", "h"), ("4h", "h"), ("1D", "d"), ("7D", "w")],
)
def test_frequency_is_read_from_the_steps(step: str, frequency: str) -> None:
    size = np.timedelta64(int(step[:-1]), step[-1])
    times = np.datetime64("2020-01-01T00:00:00") + size * np.arange(9)
    # a gap does not count
    assert frequency_of(np.delete(times, [3, 4])) == frequency


@pytest.mark.parametrize(("step", "frequency"), [(1, "m"), (3, "q"), (12, "a")])
def test_frequency_of_months(step: int, frequency: str) -> None:
    assert frequency_of(np.arange("2001-01", "2015-01", step, dtype="datetime64[M]")) == frequency


def test_an_unknown_frequency_is_refused() -> None:
    for function in (time_features, time_fields):
        with pytest.raises(InputError, match=r"no frequency 'H'. Expected s \(seconds\), t "):
            function(TIMES, "H")


def test_a_missing_time_is_refused() -> None:
    with pytest.raises(InputError, match=r"time 2 is missing \(NaT\)"):
        time_features(np.array(["2020-01-01", "2020-01-02", "NaT"], dtype="datetime64[D]"), "d")


def test_one_time_has_no_frequency() -> None:
    with pytest.raises(InputError, match="1 time has no frequency"):
        frequency_of(TIMES[:1])
