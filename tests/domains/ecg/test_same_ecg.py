"""One ECG in many files is one ECG: the same probabilities, whatever the format, the unit and the order."""

from dataclasses import replace

import numpy as np
import pytest
from helixwave_domains.ecg.conversion import convert
from helixwave_domains.ecg.formats import read_recording
from helixwave_domains.ecg.holter_speed import measure, tiled
from helixwave_domains.ecg.leads import LEADS
from helixwave_domains.ecg.predictor import Predictor, Serving
from helixwave_domains.ecg.recording import held

from tests.domains.ecg.recordings import recording_of
from tests.domains.ecg.tiny import tiny_model

FORMATS = [".hea", ".edf", ".csv", ".dcm", ".npz", ".parquet"]


@pytest.fixture(scope="module")
def predictor():
    return Predictor(tiny_model(rate=250.0, highpass=0.5, lowpass=40.0), Serving(resample=True))


@pytest.fixture(scope="module")
def original(data_folder):
    return read_recording(data_folder / "cinc2021_sample" / "JS20000.hea")


def shuffled(recording):
    """The same file with its channels in another order."""
    order = np.random.default_rng(1).permutation(len(recording.leads))
    leads = tuple(recording.leads[i] for i in order)
    return recording_of(recording.signal[order], leads, recording.rate, source=recording.source)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("order", ["as it is", "shuffled"])
def test_the_format_changes_nothing(predictor, original, suffix, order, tmp_path):
    expected = predictor.predict(original)
    recording = original if order == "as it is" else shuffled(original)
    convert(recording, tmp_path / f"copy{suffix}")
    read = read_recording(tmp_path / f"copy{suffix}")
    assert read.leads == LEADS
    np.testing.assert_allclose(predictor.predict(read).timeline, expected.timeline, atol=1e-5)


def test_the_unit_changes_nothing(predictor, original, data_folder):
    microvolts = read_recording(data_folder / "ecg_formats" / "derived_JS20000_uV.edf")
    assert set(microvolts.units) == {"uV (header)"}
    np.testing.assert_allclose(predictor.predict(microvolts).values, predictor.predict(original).values, atol=1e-5)


def test_limb_leads_that_are_left_out_change_little(predictor, original):
    """They follow from I and II up to the steps of the recorder."""
    kept = [lead for lead in LEADS if lead not in ("III", "aVR", "aVL", "aVF")]
    signal = original.signal[[LEADS.index(lead) for lead in kept]]
    fewer = recording_of(signal, tuple(kept), original.rate)
    np.testing.assert_allclose(predictor.predict(fewer).values, predictor.predict(original).values, atol=1e-3)


@pytest.fixture(scope="module")
def half_hour(data_folder):
    return read_recording(data_folder / "mitdb" / "100.hea")


def test_half_an_hour(half_hour):
    used = Predictor(tiny_model(leads=("II", "V5")), Serving(resample=True))
    found = used.predict(half_hour)
    assert half_hour.names == ("MLII", "V5")
    assert "MLII is taken for lead II" in half_hour.notes
    assert len(found.starts) == -(-half_hour.seconds // 5)
    assert found.starts[-1] + found.seconds == pytest.approx(half_hour.seconds, abs=0.01)
    # windows at the beginning and in the middle, read on their own with what is around them
    signal = half_hour.signal
    for i in (0, 100):
        start = round(found.starts[i] * 360)
        first = max(start - 3600, 0)
        alone = used.predict(recording_of(signal[:, first : start + 5400], half_hour.leads, 360.0))
        at = round((start - first) / 1800)
        np.testing.assert_allclose(alone.timeline[at], found.timeline[i], atol=1e-5)


def test_memory_does_not_grow_with_the_hours(half_hour, tmp_path):
    used = Predictor(tiny_model(leads=("II", "V5")), Serving(resample=True))
    convert(tiled(half_hour, 0.05), tmp_path / "short.hea")
    measure(used, tmp_path / "short.hea")
    convert(tiled(half_hour, 4.0), tmp_path / "long.hea")
    cost, found = measure(used, tmp_path / "long.hea")
    # the signal alone has 41 MB
    assert cost.mebibytes < 25
    assert found.starts[-1] + found.seconds == pytest.approx(4 * 3600 + 17 / 360, abs=0.02)


def test_a_piece_over_and_over(half_hour):
    whole = tiled(half_hour, 1.5)
    n = half_hour.n_sample
    np.testing.assert_array_equal(
        whole.load(n - 5, n + 5), np.concatenate([half_hour.load(n - 5, n), half_hour.load(0, 5)], axis=1)
    )
    assert held(half_hour.load(0, 10))(2, 4).shape == (2, 2)


def test_beats_of_a_day_are_looked_for_in_pieces(half_hour):
    from helixwave_domains.ecg.beat_detection import detect, r_peaks

    plain = replace(half_hour, annotations=())
    peaks, origin = r_peaks(plain)
    assert origin == "found in lead II by NeuroKit2"
    whole = detect(plain.signal[0], plain.rate)
    assert abs(len(peaks) - len(whole)) <= 2
    near = np.abs(peaks[:, None] - whole).min(1)
    assert (near <= 5).mean() > 0.999
