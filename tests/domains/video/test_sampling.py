"""Times of frames, compared with loops over their definitions."""

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.video.sampling import dense_times, frames_at, uniform_times, window_starts
from hypothesis import given
from hypothesis import strategies as st


@given(st.floats(0, 100), st.floats(0.01, 100), st.integers(1, 40))
def test_one_frame_of_each_part(start, length, n):
    drawn = uniform_times(start, start + length, n, np.random.default_rng(0))
    middles = uniform_times(start, start + length, n)
    for i in range(n):
        first, last = start + i * length / n, start + (i + 1) * length / n
        assert first - 1e-9 <= drawn[i] <= last + 1e-9
        assert middles[i] == pytest.approx((first + last) / 2)


def test_dense_times_are_evenly_spaced():
    np.testing.assert_allclose(dense_times(2, 10, 3), [2, 2.1, 2.2])


@given(st.floats(0.01, 500), st.floats(0.1, 50), st.floats(0.1, 50))
def test_windows_leave_nothing_out(duration, length, stride):
    starts = window_starts(duration, length, stride)
    assert starts[0] == 0
    assert (np.diff(starts) <= stride + 1e-6).all()
    assert (np.diff(starts) > 0).all()
    assert starts[-1] + length == pytest.approx(max(duration, length))


@pytest.mark.parametrize(("length", "stride"), [(0, 1), (1, 0), (1, float("nan")), (float("inf"), 1)])
def test_windows_of_no_length_are_refused(length, stride):
    with pytest.raises(InputError, match="expected seconds, more than 0"):
        window_starts(10, length, stride)


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=30, unique=True),
    st.lists(st.integers(0, 1100), max_size=30),
)
def test_the_frame_that_is_seen(stamps, times):
    stamps = np.sort(np.array(stamps)) / 25
    for time, found in zip(times, frames_at(stamps, np.array(times) / 25), strict=True):
        seen = 0
        for number, stamp in enumerate(stamps):
            if stamp <= time / 25:
                seen = number
        assert found == seen
