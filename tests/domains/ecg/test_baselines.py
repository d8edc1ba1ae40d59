"""R peaks, features of recordings, and regressions on them. Baselines of beats are in `test_beats`."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.ecg.baselines import EcgFeaturesLogisticRegression
from helixwave_domains.ecg.beat_detection import detect, r_peaks
from helixwave_domains.ecg.formats import read_recording
from helixwave_domains.ecg.record_features import lead_features, record_features, rhythm_features
from helixwave_domains.ecg.recording import Annotation

from tests.domains.ecg.recordings import recording_of

RATE = 200.0


def beating(seconds: float, times: np.ndarray, height: float = 1.0) -> np.ndarray:
    """A lead with a narrow wave at each time, and a broad one behind it."""
    t = np.arange(0, seconds, 1 / RATE)[:, None]
    waves = np.exp(-(((t - times) / 0.012) ** 2)) + 0.2 * np.exp(-(((t - times - 0.25) / 0.06) ** 2))
    return (height * waves.sum(1)).astype(np.float32)


def test_peaks_stand_where_they_are_drawn() -> None:
    times = np.cumsum(np.random.default_rng(0).uniform(0.6, 1.1, 12))
    lead = beating(14, times)
    np.testing.assert_allclose(detect(lead, RATE) / RATE, times, atol=0.01)
    lead[1000:1010] = np.nan
    assert len(detect(lead, RATE)) >= 11
    recording = recording_of(np.stack([0 * lead, np.nan_to_num(lead)]), rate=RATE)
    found, origin = r_peaks(recording)
    np.testing.assert_array_equal(found, detect(np.nan_to_num(lead), RATE))
    assert origin == "found in lead II by NeuroKit2"


def test_annotated_beats_are_taken_as_they_are() -> None:
    marks = tuple(Annotation(sample, symbol) for sample, symbol in [(5, "+"), (9, "N"), (20, "~"), (30, "/")])
    found, origin = r_peaks(recording_of(np.zeros((2, 100)), annotations=marks))
    assert found.tolist() == [9, 30]
    assert origin == "from the annotations of the file"


@pytest.mark.parametrize(
    "lead", [np.zeros(2000), np.full(2000, np.nan), np.linspace(0, 0.02, 2000), np.ones(100)], ids=str
)
def test_what_does_not_beat_has_no_peaks(lead: np.ndarray) -> None:
    assert len(detect(lead.astype(np.float32), RATE)) == 0
    assert rhythm_features(lead.astype(np.float32), RATE) == [0.0] * 7


def test_peaks_of_a_real_recording_are_those_of_its_annotators(data_folder: Path) -> None:
    recording = read_recording(data_folder / "mitdb" / "100")
    true = np.array([mark.sample for mark in recording.annotations if mark.symbol in "NAV"])
    found = detect(recording.signal[0], recording.rate)
    near = abs(true[:, None] - found[None]) <= 0.05 * recording.rate
    assert len(true) == 2273
    assert near.any(1).mean() > 0.998
    assert near.any(0).mean() > 0.999


def test_features_say_what_they_are_named() -> None:
    even, uneven = np.arange(0.5, 30, 0.75), np.cumsum(np.tile([0.6, 0.9], 20))[:-1]
    found, rate, variation, change, share, shortest, longest = rhythm_features(beating(30, uneven), RATE)
    assert [found, share] == [1, 1]
    intervals = np.diff(uneven)
    assert rate == pytest.approx(60 / intervals.mean(), rel=0.01)
    assert variation == pytest.approx(intervals.std() / intervals.mean(), rel=0.05)
    assert change == pytest.approx(0.3 / intervals.mean(), rel=0.05)
    assert longest / shortest == pytest.approx(1.5, rel=0.03)
    assert rhythm_features(beating(30, even), RATE)[2] < 0.01


def test_spectra_are_shares_of_the_bands_of_a_wave() -> None:
    t = np.arange(0, 10, 1 / RATE)
    signal = np.stack([np.sin(2 * np.pi * 2 * t), 3 * np.sin(2 * np.pi * 20 * t)]).astype(np.float32)
    found = np.array(lead_features(signal, RATE)).reshape(8, 2)
    np.testing.assert_allclose(np.exp(found[0]), [np.sqrt(0.5), 3 * np.sqrt(0.5)], rtol=0.01)
    np.testing.assert_allclose(found[2], [1, 3 * np.sin(0.4 * np.pi)], rtol=0.01)
    np.testing.assert_allclose(found[4:], [[1, 0], [0, 0], [0, 1], [0, 0]], atol=1e-6)


def source(targets: Any) -> Any:
    """Thirty recordings a part, of which every second beats twice as fast; the targets belong to these two kinds."""
    signals = [beating(10, np.arange(0.3 + 0.01 * i, 10, (0.9, 0.45)[i % 2]))[None] for i in range(30)]
    part = SimpleNamespace(signals=signals, targets=np.array([targets[i % 2] for i in range(30)]))
    config = {"leads": ["II"], "rate": RATE}
    return SimpleNamespace(train=part, validation=part, test=part, preprocessing=config, classes=["slow", "fast"])


@pytest.mark.parametrize("amplitudes", [True, False])
def test_classes_that_differ_in_rate_are_told_apart(amplitudes: bool) -> None:
    outputs, target = EcgFeaturesLogisticRegression(amplitudes=amplitudes).predict(source([0, 1]))
    assert outputs.exp().sum(1).tolist() == pytest.approx([1.0] * 30)
    assert (outputs.argmax(1) == target).all()


def test_labels_are_told_apart_each_on_its_own() -> None:
    nan = float("nan")
    data = source(np.array([[0, 1, nan], [1, 1, 1]], dtype=np.float32))
    outputs, target = EcgFeaturesLogisticRegression().predict(data)
    assert outputs.shape == target.shape == (30, 3)
    assert ((outputs[:, 0] > 0) == (target[:, 0] == 1)).all()
    # of what is always true, its share: 31 of 32
    assert outputs[:, 1].tolist() == pytest.approx([np.log(31)] * 30)
    assert outputs[:, 2].tolist() == pytest.approx([np.log(16)] * 30)


def test_features_of_the_rhythm_alone_are_fewer() -> None:
    signals = [beating(10, np.arange(0.5, 10, 0.8))[None]]
    assert record_features(signals, ["II"], RATE).shape == (1, 7 + 8)
    assert record_features(signals, ["II"], RATE, amplitudes=False).shape == (1, 7)


def test_the_baseline_is_for_recordings() -> None:
    part = SimpleNamespace()
    with pytest.raises(InputError, match="ecg_features_logistic_regression is for recordings"):
        EcgFeaturesLogisticRegression().predict(SimpleNamespace(train=part, validation=part, test=part))
