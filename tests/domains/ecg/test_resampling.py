import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.ecg.resampling import Resampling
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly

from tests.domains.ecg.recordings import recording_of

RATES = [(500.0, 100.0), (100.0, 500.0), (360.0, 100.0), (257.0, 500.0), (500.0, 128.5), (1000.0, 1000.0)]


def noise(seconds, rate, n_lead=2, seed=0):
    return np.random.default_rng(seed).standard_normal((n_lead, round(seconds * rate))).astype(np.float32)


@pytest.mark.parametrize(("old", "new"), RATES)
@settings(max_examples=20)
@given(data=st.data())
def test_a_piece_is_what_it_is_in_the_whole(old, new, data):
    resampling = Resampling(recording_of(noise(3, old), rate=old), new)
    whole = resampling.read(0, resampling.n_sample)
    start = data.draw(st.integers(0, resampling.n_sample - 1))
    stop = data.draw(st.integers(start + 1, resampling.n_sample))
    np.testing.assert_allclose(resampling.read(start, stop), whole[:, start:stop], atol=1e-6)


@pytest.mark.parametrize(("old", "new"), RATES)
def test_the_middle_is_what_scipy_makes(old, new):
    signal = noise(8, old)
    resampling = Resampling(recording_of(signal, rate=old), new)
    expected = resample_poly(signal.astype(float), resampling.ratio.numerator, resampling.ratio.denominator, axis=1)
    made = resampling.read(0, resampling.n_sample)
    assert made.shape == expected.shape
    # scipy has zeros behind the ends
    margin = round(0.15 * new)
    np.testing.assert_allclose(made[:, margin:-margin], expected[:, margin:-margin], atol=1e-5)


def test_a_slow_wave_stays_what_it_is_up_to_both_ends():
    time = np.arange(1000) / 500
    made = Resampling(recording_of([5 + np.sin(2 * np.pi * time)], leads=("I",)), 100.0).read(0, 200)
    expected = 5 + np.sin(2 * np.pi * np.arange(200) / 100)
    np.testing.assert_allclose(made[0, 5:-5], expected[5:-5], atol=2e-3)
    np.testing.assert_allclose(made[0], expected, atol=0.1)


def test_a_gap_stays_a_gap_and_does_not_spread():
    signal = np.full((1, 1000), 3.0)
    signal[0, 400:600] = np.nan
    made = Resampling(recording_of(signal, leads=("I",)), 100.0).read(0, 200)
    assert np.isnan(made[0, 81:119]).all()
    assert not np.isnan(made[0, :80]).any()
    np.testing.assert_allclose(made[0, ~np.isnan(made[0])], 3.0, atol=1e-3)


def test_a_lead_without_any_value():
    made = Resampling(recording_of(np.full((1, 500), np.nan), leads=("I",)), 100.0).read(0, 100)
    assert np.isnan(made).all()


def test_rates_without_a_ratio():
    with pytest.raises(InputError, match=r"test\.hea: 499\.984 Hz cannot be resampled to 100 Hz\. Is the rate right"):
        Resampling(recording_of(noise(1, 500), rate=499.9837), 100.0)
