"""Second moments of windows against the windows written out."""

import numpy as np
import pytest
from helixwave_domains.forecasting.window_statistics import WindowStatistics, no_windows, window_statistics
from hypothesis import given, settings
from hypothesis import strategies as st

RNG = np.random.default_rng(0)


def written_out(series, width):
    """The product of all windows with themselves, a 1 before each."""
    rows = [
        np.concatenate([[1.0], each[t : t + width].T.ravel()]) for each in series for t in range(len(each) - width + 1)
    ]
    return sum(np.outer(row, row) for row in rows)


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    width=st.integers(1, 12),
    n_variable=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_equals_the_windows_written_out(lengths, width, n_variable):
    series = [RNG.normal(2.0, 1.0, size=(length, n_variable)) for length in lengths]
    found, expected = window_statistics(series, width).moments, written_out(series, width)
    assert np.abs(found - expected).max() <= 1e-12 * np.abs(expected).max()


def test_long_series_to_twelve_digits():
    x = RNG.normal(size=(20000, 1)).cumsum(0) / 50
    windows = np.lib.stride_tricks.sliding_window_view(x[:, 0], 200)
    found = window_statistics([x], 200)
    expected = windows.T @ windows
    assert np.abs(found.moments[1:, 1:] - expected).max() <= 1e-12 * np.abs(expected).max()
    assert found.count == len(windows)


def test_more_series_than_are_held_at_once():
    series = [RNG.normal(size=(9 + i % 2, 1)) for i in range(600)]
    found, expected = window_statistics(series, 4).moments, written_out(series, 4)
    assert np.abs(found - expected).max() <= 1e-12 * np.abs(expected).max()


def test_shards_add_up():
    series = [RNG.normal(size=(30, 2)) for _ in range(8)]
    whole = window_statistics(series, 7)
    parts = window_statistics(series[:3], 7) + window_statistics(series[3:], 7)
    assert np.abs(parts.moments - whole.moments).max() <= 1e-10 * np.abs(whole.moments).max()


def test_new_rows_add_the_windows_that_they_end():
    x, width = RNG.normal(size=(80, 2)), 9
    updated = window_statistics([x[:60]], width) + window_statistics([x[60 - width + 1 :]], width)
    assert np.allclose(updated.moments, window_statistics([x], width).moments, rtol=1e-10)


def test_series_shorter_than_a_window_have_none():
    assert window_statistics([np.ones((3, 1))], 4).count == 0
    with pytest.raises(ValueError, match="no series is as long as a window of 4 steps"):
        window_statistics([np.ones((3, 1))], 4).per_window()


def test_statistics_of_other_windows_do_not_add():
    with pytest.raises(ValueError, match="1 variables in windows of 4 steps cannot be added to those of 2"):
        no_windows(4) + WindowStatistics(2, np.zeros((5, 5)))


def test_no_series():
    with pytest.raises(ValueError, match="no series was given"):
        window_statistics([], 3)
