import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.ecg.preprocessing import Prepared, Preprocessing, preprocessing_from

from tests.domains.ecg.recordings import recording_of


def noise(n, n_lead=2, seed=0):
    return np.random.default_rng(seed).standard_normal((n_lead, n)).astype(np.float32)


def test_each_lead_of_a_window_has_mean_0_and_deviation_1():
    window = 3 + 0.5 * noise(1000)
    made = Preprocessing(rate=500, leads=["I", "II"]).scaled(window)
    assert made.shape == (1000, 2)
    np.testing.assert_allclose(made.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(made.std(0), 1, atol=1e-4)


def test_what_is_missing_is_zero_and_changes_nothing_else():
    window = 3 + noise(1000)
    gap = window.copy()
    gap[1, 200:700] = np.nan
    scaled = Preprocessing(rate=500, leads=["I", "II"]).scaled
    made = scaled(gap)
    assert (made[200:700, 1] == 0).all()
    known = np.r_[0:200, 700:1000]
    np.testing.assert_allclose(made[known, 1], scaled(window[:, known])[:, 1], atol=1e-5)
    np.testing.assert_allclose(made[:, 0], scaled(window)[:, 0], atol=1e-6)


def test_a_flat_lead_stays_flat():
    made = Preprocessing(rate=500, leads=["I"]).scaled(np.full((1, 100), 1e-3, np.float32) + 1e-5 * noise(100, 1))
    assert np.abs(made).max() < 0.01


def test_constants_and_plain_millivolts():
    window = noise(100)
    constants = Preprocessing(rate=500, leads=["I", "II"], scale="constants", mean=0.5, deviation=2.0)
    np.testing.assert_allclose(constants.scaled(window), (window.T - 0.5) / 2, rtol=1e-6)
    np.testing.assert_array_equal(Preprocessing(rate=500, leads=["I", "II"], scale="none").scaled(window), window.T)


@pytest.mark.parametrize(("seconds", "stride"), [(7.3, 300), (10, 500), (2.0, 1000), (0.1, 10), (11.0, 10_000)])
@pytest.mark.parametrize("band", [{}, {"highpass": 0.5, "lowpass": 40.0}])
def test_windows_cover_all_and_are_pieces_of_the_whole(seconds, stride, band):
    preprocessing = Preprocessing(rate=200, leads=["II", "I"], window=2.0, scale="none", **band)
    prepared = Prepared(recording_of(noise(round(500 * seconds))), preprocessing, resample=True)
    whole = prepared.read(0, prepared.n_sample)
    covered = np.zeros(prepared.n_sample, bool)
    for start, inputs in prepared.windows(stride, at_once=3):
        np.testing.assert_allclose(inputs.T, whole[:, start : start + len(inputs)], atol=1e-5)
        assert len(inputs) == min(preprocessing.length, prepared.n_sample)
        covered[start : start + len(inputs)] = True
    assert covered.all() or stride > preprocessing.length


def test_the_filter_takes_what_is_outside_its_band():
    time = np.arange(5000) / 500
    waves = {hz: np.sin(2 * np.pi * hz * time) for hz in (0.1, 10, 80)}
    preprocessing = Preprocessing(rate=500, leads=["I"], scale="none", highpass=0.5, lowpass=40)
    inner = slice(1500, -1500)
    for hz, gain in ((0.1, 0), (10, 1), (80, 0)):
        made = Prepared(recording_of([waves[hz]], leads=("I",)), preprocessing).read(0, 5000)[0]
        np.testing.assert_allclose(made[inner], gain * waves[hz][inner], atol=0.06)


def test_leads_in_another_order_give_the_same():
    signal = noise(1000)
    preprocessing = Preprocessing(rate=500, leads=["I", "II"])
    one = next(Prepared(recording_of(signal), preprocessing).windows(500))[1]
    other = next(Prepared(recording_of(signal[::-1], leads=("II", "I")), preprocessing).windows(500))[1]
    np.testing.assert_array_equal(one, other)


def test_another_rate_has_to_be_asked_for():
    with pytest.raises(InputError, match=r"test\.hea: it has 500 Hz, the model reads 100 Hz\. Pass --resample"):
        Prepared(recording_of(noise(1000)), Preprocessing(rate=100, leads=["I"]))


def test_missing_leads_have_to_be_asked_for():
    preprocessing = Preprocessing(rate=500, leads=["I", "V1"])
    with pytest.raises(InputError, match=r"no lead V1, only I, II\. Pass --missing-leads zero"):
        Prepared(recording_of(noise(1000)), preprocessing).read(0, 10)
    made = next(Prepared(recording_of(noise(1000)), preprocessing, missing_leads="zero").windows(500))[1]
    assert (made[:, 1] == 0).all()
    assert (made[:, 0] != 0).any()


def test_no_samples():
    with pytest.raises(InputError, match=r"test\.hea: it has no samples"):
        Prepared(recording_of(noise(0)), Preprocessing(rate=500, leads=["I"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0}, "rate is 0, expected 1 to 10,000 Hz"),
        ({"window": 0}, "window is 0, expected seconds, more than 0"),
        ({"deviation": 0}, "deviation is 0, expected more than 0"),
        ({"lowpass": 300.0}, "lowpass is 300.0, expected 0 to 250 Hz, half of the rate"),
        ({"highpass": 40.0, "lowpass": 20.0}, "highpass is 40.0, expected less than lowpass"),
        ({"leads": ["I", "W"]}, "no lead named 'W'"),
        ({"leads": []}, "leads is empty"),
        ({"scale": "zscore"}, "scale is 'zscore'"),
        ({"rates": 1}, "unknown key 'rates'. Did you mean 'rate'"),
    ],
)
def test_what_a_checkpoint_says_is_checked(change, message):
    config = {**Preprocessing(rate=500, leads=["I", "II"]).config(), **change}
    with pytest.raises(InputError, match=message):
        preprocessing_from(config, where="config.json")


def test_what_a_checkpoint_keeps_is_read_back():
    preprocessing = Preprocessing(rate=250, leads=["V1"], scale="constants", mean=1, deviation=3, lowpass=40.0)
    assert preprocessing_from(preprocessing.config(), where="") == preprocessing
