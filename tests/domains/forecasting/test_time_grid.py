"""Steps of a grid are found in times, named, and go on as a calendar does."""

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.forecasting.time_grid import Frequency, shown, written
from hypothesis import given, settings
from hypothesis import strategies as st

pd = pytest.importorskip("pandas")

# pandas' name, ours, steps of a season
FREQUENCIES = [
    ("90s", "90s", 960),
    ("15min", "15min", 96),
    ("h", "h", 24),
    ("36h", "36h", 1),
    ("D", "D", 7),
    ("B", "B", 5),
    ("W-TUE", "W", 52),
    ("MS", "MS", 12),
    ("ME", "ME", 12),
    ("QS-FEB", "QS", 4),
    ("QE-DEC", "QE", 4),
    ("YS", "YS", 1),
]


def dates(*texts):
    return np.asarray(texts, dtype="datetime64[us]")


@pytest.mark.parametrize(("theirs", "name", "season"), FREQUENCIES)
@settings(max_examples=10)
@given(start=st.datetimes(pd.Timestamp("1950-01-01"), pd.Timestamp("2050-01-01")))
def test_grid_of_a_calendar(theirs, name, season, start):
    # enough for a weekend, and not only days that begin a month
    times = pd.date_range(pd.Timestamp(start).floor("D"), periods=70, freq=theirs).to_numpy().astype("datetime64[us]")
    frequency = Frequency.guess([times[:60]])
    assert (str(frequency), frequency.season) == (name, season)
    positions = frequency.positions(times)
    assert (np.diff(positions) == 1).all()
    np.testing.assert_array_equal(frequency.labels(positions), times)
    named = Frequency.parse(name).anchored(times[0])
    np.testing.assert_array_equal(named.labels(named.positions(times[:1]) + np.arange(70)), times)


def test_grid_of_numbers():
    frequency = Frequency.guess([np.asarray([3, 8, 13, 28]), np.asarray([1, 2])])
    assert (frequency.count, str(frequency), frequency.season) == (5, "5", 1)
    np.testing.assert_array_equal(frequency.labels(np.asarray([0, 1])), [3, 8])


def test_times_in_a_step_have_its_position():
    day = Frequency.parse("D")
    assert len(set(day.positions(dates("2024-02-29T00:00", "2024-02-29T23:59")))) == 1
    (label,) = Frequency.parse("W").labels(Frequency.parse("W").positions(dates("2024-02-29T11:00")))
    assert shown(label) == "2024-02-26"
    (label,) = Frequency.parse("QS").labels(Frequency.parse("QS").positions(dates("2024-02-29T11:00")))
    assert shown(label) == "2024-01-01"


def test_five_weekdays_are_days():
    monday = np.datetime64("2024-01-01", "us")
    assert Frequency.guess([monday + np.arange(5) * np.timedelta64(1, "D")]).unit == "us"
    assert Frequency.guess([np.delete(monday + np.arange(14) * np.timedelta64(1, "D"), [5, 6, 12, 13])]).unit == "B"


@pytest.mark.parametrize("text", ["H", "", "0h", "-3", "two", "0"])
def test_unknown_frequency(text):
    with pytest.raises(InputError, match=f"--freq is {text!r}, expected steps such as 15min or MS. .*Known: B, D"):
        Frequency.parse(text)


def test_written_in_one_form():
    assert written(dates("2024-01-01", "2024-01-02")) == ["2024-01-01", "2024-01-02"]
    assert written(dates("2024-01-01", "2024-01-01T06:00")) == ["2024-01-01 00:00", "2024-01-01 06:00"]
    assert written(dates("2024-01-01T00:00:01.5")) == ["2024-01-01 00:00:01.500000"]
    assert written(np.asarray([3, 4])) == ["3", "4"]
