"""Simulated rhythms are what their names say, and the ECG that NeuroKit2 simulates too."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.ecg.beat_detection import detect
from helixwave_domains.ecg.ecgsyn import Shape, waves
from helixwave_domains.ecg.formats import read_recording
from helixwave_domains.ecg.leads import LEADS
from helixwave_domains.ecg.recording import Recording
from helixwave_domains.ecg.simulated import SimulatedECG, real_ecg
from helixwave_domains.ecg.simulated_rhythms import RHYTHMS, simulate

RATE = 250


def drawn(name: str, seed: int) -> Recording:
    return simulate(name, np.random.default_rng(seed), RATE)


def test_the_waves_together_are_the_ecg_of_neurokit() -> None:
    import neurokit2

    rate, heart_rate = 1000, 70
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = neurokit2.ecg_simulate(
            duration=10, sampling_rate=rate, heart_rate=heart_rate, heart_rate_std=1e-4, noise=0, random_state=0
        )
    strength = np.array([1.2, -5, 30, -7.5, 0.75])
    heights = strength * Shape().at(heart_rate)[1] ** 2
    ours = heights @ waves(np.arange(-2, 14, 60 / heart_rate), 10, rate)
    middle = slice(4 * rate, 7 * rate)
    start = int(np.argmax(other[middle])) - int(np.argmax(ours[middle]))
    pieces = ours[middle], other[middle.start + start : middle.stop + start]
    # besides, theirs breathes, and is as high as they like
    time = 2 * np.pi * 0.25 * np.arange(middle.stop - middle.start) / rate
    terms = np.stack([pieces[0], np.ones_like(time), np.sin(time), np.cos(time)], axis=1)
    weights, *_ = np.linalg.lstsq(terms, pieces[1], rcond=None)
    assert abs(terms @ weights - pieces[1]).max() < 0.03 * np.ptp(pieces[1])


def test_each_wave_alone_is_one_high_and_where_it_belongs() -> None:
    peaks = np.arange(-2.0, 13)
    found = waves(peaks, 10, 500)
    np.testing.assert_allclose(found.max(1), 1, atol=0.05)
    for wave, angle in zip(found, Shape().angles, strict=True):
        place = 5 * 500 + int(np.argmax(wave[5 * 500 - 250 : 5 * 500 + 250])) - 250
        assert place / 500 == pytest.approx(5 + angle / (2 * np.pi), abs=0.02)


def test_beats_that_are_not_kept_are_not_there() -> None:
    peaks = np.arange(-2.0, 13)
    kept = peaks != 4
    found = waves(peaks, 10, 500, kept=kept)
    both = found + waves(peaks, 10, 500, kept=~kept)
    assert abs(found[:, 1875:2125]).max() < 0.1
    np.testing.assert_allclose(both, waves(peaks, 10, 500), atol=0.02)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("sinus rhythm", 59, 101), ("sinus bradycardia", 34, 60), ("sinus tachycardia", 100, 162)],
)
def test_sinus_rhythms_have_their_rates(name: str, low: float, high: float) -> None:
    for seed in range(5):
        peaks = RHYTHMS[name](np.random.default_rng(seed)).peaks
        assert peaks is not None
        assert peaks[0] <= 0
        assert peaks[-1] >= 10
        assert low < 60 / np.diff(peaks).mean() < high
        assert np.diff(peaks).std() / np.diff(peaks).mean() < 0.06
    recording = drawn(name, 3)
    true = RHYTHMS[name](np.random.default_rng(3)).peaks
    assert true is not None
    found = detect(recording.signal[1], RATE) / RATE
    assert len(found) == pytest.approx(((true > 0) & (true < 10)).sum(), abs=2)


def test_fibrillation_has_no_order_and_no_p_waves() -> None:
    variation = []
    for seed in range(5):
        rhythm = RHYTHMS["atrial fibrillation"](np.random.default_rng(seed))
        assert rhythm.peaks is not None
        assert rhythm.atria > 0
        assert np.diff(rhythm.peaks).min() > 0.299
        variation.append(np.diff(rhythm.peaks).std() / np.diff(rhythm.peaks).mean())
    assert min(variation) > 0.08


def test_premature_beats_come_early_and_a_pause_follows() -> None:
    for seed in range(10):
        rhythm = RHYTHMS["ventricular premature beats"](np.random.default_rng(seed))
        assert rhythm.peaks is not None
        assert rhythm.ectopic is not None
        intervals = np.diff(rhythm.peaks)
        usual = np.median(intervals)
        for beat in np.flatnonzero(rhythm.ectopic):
            assert 0 < rhythm.peaks[beat] < 10
            assert intervals[beat - 1] < 0.85 * usual
            assert intervals[beat] > 1.15 * usual


def test_asystole_has_no_beats() -> None:
    assert RHYTHMS["asystole"](np.random.default_rng(0)).peaks is None


@pytest.mark.parametrize("name", RHYTHMS)
def test_recordings_are_twelve_consistent_leads_and_said_to_be_simulated(name: str) -> None:
    recording = drawn(name, 0)
    assert recording.leads == LEADS
    assert recording.signal.shape == (12, 10 * RATE)
    one, two, three, _, _, foot = recording.signal[:6]
    np.testing.assert_allclose(three, two - one, atol=1e-5)
    np.testing.assert_allclose(foot, two - one / 2, atol=1e-5)
    assert "simulated" in str(recording.source)
    assert any("no patient" in note for note in recording.notes)
    np.testing.assert_array_equal(recording.signal, drawn(name, 0).signal)
    assert not np.array_equal(recording.signal, drawn(name, 1).signal)


def test_the_data_set_has_each_rhythm_in_each_part() -> None:
    data = SimulatedECG(train=3, validation=1, test=2, leads=2)
    for part, count in (("train", 3), ("validation", 1), ("test", 2)):
        assert np.bincount(getattr(data, part).targets).tolist() == [count] * 6
    assert data.describe()["origin"] == "simulated, no patients"
    assert data.train.example(0, None)["inputs"].shape == (1000, 2)
    again = SimulatedECG(train=3, validation=1, test=2, leads=2)
    np.testing.assert_array_equal(data.test.signals[3], again.test.signals[3])
    assert not np.array_equal(data.test.signals[0], data.train.signals[0])


def test_what_cannot_be_simulated_is_refused() -> None:
    with pytest.raises(InputError, match="at least one recording of each rhythm"):
        SimulatedECG(test=0)
    with pytest.raises(InputError, match="rate is 360, expected a divisor of 1000"):
        SimulatedECG(rate=360)


def test_a_real_ecg_comes_with_pydicom() -> None:
    path: Path | None = real_ecg()
    assert path is not None
    assert read_recording(path).leads == LEADS
