import numpy as np
import pytest
import torch
from helixwave.errors import InputError
from helixwave_domains.ecg.leads import LEADS
from helixwave_domains.ecg.predictor import Predictor, Serving
from helixwave_domains.ecg.preprocessing import Preprocessing

from tests.domains.ecg.recordings import recording_of
from tests.domains.ecg.tiny import tiny_checkpoint, tiny_model


def noise(seconds, n_lead=12, rate=100, seed=0):
    return np.random.default_rng(seed).standard_normal((n_lead, round(seconds * rate))).astype(np.float32)


def predictor(serving=None, **settings):
    return Predictor(tiny_model(**settings), serving)


def expected(model, window):
    """Probabilities of one window, read aloud."""
    inputs = (window - window.mean(1, keepdims=True)) / window.std(1, keepdims=True)
    with torch.no_grad():
        logits = model(torch.from_numpy(inputs.T[None]).float())[0].double() / 2.0
    return logits.sigmoid().numpy()


def test_windows_side_by_side_the_last_at_the_end():
    signal, used = noise(13), predictor()
    found = used.predict(recording_of(signal, LEADS, 100.0))
    np.testing.assert_allclose(found.starts, [0, 5, 8])
    rows = [expected(used.model, signal[:, start : start + 500]) for start in (0, 500, 800)]
    np.testing.assert_allclose(found.timeline, rows, atol=1e-5)
    np.testing.assert_allclose(found.values, np.mean(rows, 0), atol=1e-5)
    highest = predictor(Serving(aggregate="max")).predict(recording_of(signal, LEADS, 100.0))
    np.testing.assert_allclose(highest.values, np.max(rows, 0), atol=1e-5)


def test_labels_are_present_from_their_thresholds_on():
    used = predictor()
    found = used.predict(recording_of(noise(5), LEADS, 100.0))
    wanted = [name for name, p, cut in zip(used.classes, found.values, [0.3, 0.5, 0.7], strict=True) if p >= cut]
    assert found.present == wanted
    assert found.probabilities == dict(zip(used.classes, found.values, strict=True))


def test_of_classes_the_likeliest_is_present():
    found = predictor(predicts="class").predict(recording_of(noise(5), LEADS, 100.0))
    assert found.values.sum() == pytest.approx(1)
    assert found.present == [found.classes[int(found.values.argmax())]]


def test_a_short_recording_is_one_window():
    signal, used = noise(0.5), predictor()
    found = used.predict(recording_of(signal, LEADS, 100.0))
    assert (found.starts.tolist(), found.seconds) == ([0.0], 0.5)
    np.testing.assert_allclose(found.values, expected(used.model, signal), atol=1e-5)


def test_stride_and_window():
    used = predictor(Serving(window=2.0, stride=0.5))
    found = used.predict(recording_of(noise(4.2), LEADS, 100.0))
    np.testing.assert_allclose(found.starts, [0, 0.5, 1, 1.5, 2, 2.2])
    assert found.seconds == 2.0


@pytest.mark.parametrize("serving", [{"window": 0}, {"stride": -1.0}])
def test_a_window_has_a_length(serving):
    with pytest.raises(InputError, match="expected seconds, more than 0"):
        Serving(**serving)


def test_what_was_done_is_said():
    serving = Serving(resample=True, missing_leads="zero")
    found = predictor(serving).predict(recording_of(noise(5, 3, 250), ("I", "II", "V2"), 250.0))
    assert found.notes == (
        "leads III, aVR, aVL, aVF computed from I and II",
        "no leads V1, V3, V4, V5, V6 in the file: missing values",
        "resampled from 250 to 100 Hz",
    )


def test_checkpoints_are_read_back(tmp_path):
    tiny_checkpoint(tmp_path)
    recording = recording_of(noise(6), LEADS, 100.0)
    found, own = Predictor.load(tmp_path).predict(recording), predictor().predict(recording)
    np.testing.assert_array_equal(found.values, own.values)


def test_a_model_that_does_not_say_how_it_reads():
    model = tiny_model()
    del model.config["preprocessing"]
    with pytest.raises(InputError, match="a ECGModel that does not say how ECGs are read"):
        Predictor(model)


def test_a_checkpoint_that_says_nonsense(tmp_path):
    model = tiny_model()
    model.config["preprocessing"]["rate"] = "fast"
    with pytest.raises(InputError, match="here: preprocessing: rate is 'fast', expected float"):
        Predictor(model, where="here")


def test_the_preprocessing_is_the_one_of_training():
    assert predictor().preprocessing == Preprocessing(rate=100.0, leads=list(LEADS), window=5.0)
