"""Single beats: cut, split, classified."""

from pathlib import Path

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave.objectives.classification import Classification
from helixwave_domains.ecg.baselines import BeatLogisticRegression, BeatNearestNeighbours
from helixwave_domains.ecg.beat_augmentation import BeatAugmentation
from helixwave_domains.ecg.beat_pictures import accuracy_by_record
from helixwave_domains.ecg.beat_preprocessing import BeatPreprocessing
from helixwave_domains.ecg.beats import BeatSplit, MitdbBeats
from helixwave_domains.ecg.recording import Recording, held


def recording(signal: np.ndarray, rate: float = 360.0) -> Recording:
    return Recording(
        ("II",), rate, signal.shape[1], held(signal.astype(np.float32)), Path("r"), "WFDB", ("MLII",), ("mV",)
    )


def beats_file(folder: Path, records: tuple[int, ...] = (1, 2, 3, 4)) -> str:
    """Beats of four records: each of N and V, record 4 alone has R."""
    rng = np.random.default_rng(0)
    record = np.repeat(records, 40)
    y = np.where((record == 4) & (np.arange(len(record)) % 4 == 0), 2, np.arange(len(record)) % 2)
    shape = np.sin(np.arange(256) / 20 * (1 + y[:, None]))
    x = 1024 + 200 * shape + rng.normal(0, 5, shape.shape) + 10 * record[:, None]
    arrays = {
        "x_adu": x.astype(np.int16),
        "y": y.astype(np.int8),
        "classes": np.array(["N", "V", "R"]),
        "record": record.astype(np.int16),
        "rr_prev": np.full(len(y), 288, np.int32),
        "rr_next": np.full(len(y), 144, np.int32),
        "split": np.tile(np.repeat([0, 1, 2], [24, 6, 10]), len(records)).astype(np.int8),
        "fs": 360,
        "gain": 200,
        "baseline": 1024,
    }
    np.savez(folder / "beats.npz", **arrays)
    return str(folder / "beats.npz")


def test_a_beat_is_its_scaled_window_and_its_intervals() -> None:
    signal = np.random.default_rng(0).normal(0, 1, (1, 2000))
    peaks = [50, 650, 938, 1950]
    inputs = BeatPreprocessing().inputs(recording(signal), peaks)
    assert inputs.shape == (4, 256, 4)
    window = signal[0, 650 - 102 : 650 + 154].astype(np.float32)
    np.testing.assert_allclose(inputs[1, :, 0], window - np.median(window), atol=1e-6)
    for i, (before, after) in enumerate([(None, 600), (600, 288), (288, 1012), (1012, None)]):
        for channel, samples in ((1, before), (2, after)):
            expected = 0.0 if samples is None else samples / 360 - 0.8
            np.testing.assert_allclose(inputs[i, :, channel], expected, atol=1e-6)
        ratio = 0.0 if before is None or after is None else np.log(after / before)
        np.testing.assert_allclose(inputs[i, :, 3], ratio, atol=1e-6)
    # over the ends nothing is known: zeros, and the median is that of what is known
    assert not inputs[0, : 102 - 50, 0].any()
    assert not inputs[3, 102 + 50 :, 0].any()
    np.testing.assert_allclose(np.median(inputs[0, 52:, 0]), 0, atol=1e-6)


def test_beats_of_another_rate_are_resampled_if_asked() -> None:
    time = np.arange(0, 6, 1 / 720)
    fast = recording(np.sin(2 * np.pi * time)[None], 720)
    slow = recording(np.sin(2 * np.pi * time[::2])[None])
    with pytest.raises(InputError, match="720 Hz, the model reads 360 Hz"):
        BeatPreprocessing().inputs(fast, [1440])
    got = BeatPreprocessing().inputs(fast, [1440, 2160], resample=True)
    np.testing.assert_allclose(got, BeatPreprocessing().inputs(slow, [720, 1080]), atol=2e-2)


def test_without_intervals_there_are_the_leads_alone() -> None:
    settings = BeatPreprocessing(intervals=False)
    assert settings.inputs(recording(np.ones((1, 1000))), [500]).shape == (1, 256, settings.n_channel) == (1, 256, 1)


def test_a_preprocessing_is_what_its_config_says() -> None:
    settings = BeatPreprocessing(leads=["I"], before=0.2)
    assert BeatPreprocessing(**settings.config()) == settings


@pytest.mark.parametrize("peaks", [[5, 5], [9, 2], [-1, 4], [4, 1000]])
def test_peaks_out_of_order_or_place_are_refused(peaks: list[int]) -> None:
    with pytest.raises(InputError, match="R peaks have to be samples of the recording in rising order"):
        BeatPreprocessing().inputs(recording(np.zeros((1, 1000))), peaks)


def test_a_window_without_length_is_refused() -> None:
    with pytest.raises(InputError, match=r"before 0 and after 0\.4"):
        BeatPreprocessing(before=0, after=0.4)


def test_the_file_has_its_own_split(tmp_path: Path) -> None:
    data = MitdbBeats(file=beats_file(tmp_path))
    assert [len(data.train), len(data.validation), len(data.test)] == [96, 24, 40]
    assert data.classes == ["N", "V", "R"]
    assert data.describe()["records in training and test"] == 4
    example = data.test.example(0, None)
    assert example["inputs"].shape == (256, 4)
    np.testing.assert_allclose(example["inputs"][0, 1:], [0, -0.4, np.log(0.5)], atol=1e-6)
    assert len(data.export(None, tmp_path)) == 1


def test_between_patients_no_record_is_on_both_sides(tmp_path: Path) -> None:
    data = MitdbBeats(file=beats_file(tmp_path), test_records=[2, 4])
    assert set(data.record["train"]) == set(data.record["validation"]) == {1, 3}
    assert set(data.record["test"]) == {2, 4}
    # R is of record 4 alone
    assert data.classes == ["N", "V"]
    facts = data.describe()
    assert facts["records in training and test"] == 0
    assert facts["beats of classes that are not in training and test, left out"] == "10 R"
    assert len(data.train) + len(data.validation) + len(data.test) == 150


@pytest.mark.parametrize("records", [[9], [], [1, 2, 3, 4]])
def test_records_that_leave_nothing_are_refused(records: list[int], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected some of 1, 2, 3, 4"):
        MitdbBeats(file=beats_file(tmp_path), test_records=records)


def test_augmentation_follows_from_the_draws_alone(tmp_path: Path) -> None:
    settings = {"shift": 8, "amplitude": 0.1, "noise": 0.1, "jitter": 0.1, "interval_noise": 0.1, "mixup": 0.4}
    data = MitdbBeats(file=beats_file(tmp_path), **settings)  # type: ignore[arg-type]
    plain = data.train.example(3, None)
    first, again = (data.train.example(3, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(first["inputs"], again["inputs"])
    assert first["inputs"].dtype == np.float32
    assert first["inputs"].shape == plain["inputs"].shape
    # the intervals stay constant along the window
    np.testing.assert_array_equal(np.ptp(first["inputs"][:, 1:], axis=0), 0)
    assert not np.allclose(first["inputs"][0], plain["inputs"][0])
    np.testing.assert_array_equal(data.test.example(3, np.random.default_rng(1))["inputs"], data.test.inputs[3])


def test_without_settings_nothing_is_augmented(tmp_path: Path) -> None:
    data = MitdbBeats(file=beats_file(tmp_path))
    np.testing.assert_allclose(
        data.train.example(5, np.random.default_rng(0))["inputs"], data.train.inputs[5], atol=1e-6
    )


def test_a_jitter_changes_both_intervals_by_one_factor() -> None:
    jitter = BeatAugmentation(jitter=0.2)
    for seed in range(5):
        before, after, ratio = jitter.intervals(np.array([0.6, 0.9]), np.random.default_rng(seed))
        assert ratio == pytest.approx(np.log(1.5))
        assert (after + 0.8) / (before + 0.8) == pytest.approx(1.5)


def test_mixed_beats_have_the_label_of_either_by_its_weight() -> None:
    inputs = np.arange(2, dtype=np.float32)[:, None, None] * np.ones((2, 4, 1), dtype=np.float32)
    split = BeatSplit(inputs, np.array([0, 1]), augmentation=BeatAugmentation(mixup=1.0))
    drawn = [split.example(0, np.random.default_rng(seed)) for seed in range(4000)]
    shown = np.array([example["inputs"][0, 0] for example in drawn])
    label = np.array([example["target"] for example in drawn])
    # the other beat is this one or the second: of all that show s of the second, a share s has its label
    for low, high in ((0.1, 0.3), (0.4, 0.6), (0.7, 0.9)):
        near = (low < shown) & (shown < high)
        assert label[near].mean() == pytest.approx(shown[near].mean(), abs=0.08)


def test_augmentation_below_zero_is_refused() -> None:
    with pytest.raises(InputError, match="mixup is -1, expected 0 or more"):
        BeatAugmentation(mixup=-1)


def test_missing_or_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.npz is not there. It should be mitdb10_beats.npz .*data.file=PATH"):
        MitdbBeats(file=str(tmp_path / "none.npz"))
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(InputError, match=r"text.npz: no NumPy archive"):
        MitdbBeats(file=str(tmp_path / "text.npz"))
    np.savez(tmp_path / "other.npz", x_adu=np.zeros(3))
    with pytest.raises(InputError, match="it has no y, classes, record"):
        MitdbBeats(file=str(tmp_path / "other.npz"))


def test_accuracy_of_records_seen_and_not(tmp_path: Path) -> None:
    table = accuracy_by_record(MitdbBeats(file=beats_file(tmp_path)), neighbours=1)
    assert table["record"].tolist() == [1, 2, 3, 4]
    assert table["test beats"].tolist() == [10] * 4
    # nobody else has the class R
    assert table["patient seen in training"][3] == 1
    assert table["patient not seen"][3] < 1


def test_baselines_are_as_strong_as_others_found(data_folder: Path) -> None:
    data = MitdbBeats(file=str(data_folder / "mitdb_beats" / "mitdb10_beats.npz"))
    objective = Classification(data.classes)
    by_lead = objective.score(*BeatNearestNeighbours(intervals=[0.0]).predict(data))
    with_intervals = objective.score(*BeatNearestNeighbours().predict(data))
    # five neighbours by the lead alone
    assert by_lead["accuracy"] == pytest.approx(0.984, abs=0.004)
    assert with_intervals["accuracy"] > by_lead["accuracy"] > 0.984
    assert with_intervals["macro_f1"] > by_lead["macro_f1"] > 0.982


def test_logistic_regression_tells_what_is_linear(tmp_path: Path) -> None:
    data = MitdbBeats(file=beats_file(tmp_path))
    baseline = BeatLogisticRegression()
    assert Classification(data.classes).score(*baseline.predict(data))["accuracy"] > 0.95
    assert "logistic regression" in baseline.description


@pytest.mark.parametrize("baseline", [BeatNearestNeighbours(), BeatLogisticRegression()])
def test_beat_baselines_are_for_beats(baseline: BeatNearestNeighbours | BeatLogisticRegression) -> None:
    with pytest.raises(InputError, match="is for single beats"):
        baseline.predict(object())


def test_a_wandering_baseline_is_a_slope_and_a_bend_without_a_mean() -> None:
    flat = np.zeros((1001, 1), dtype=np.float32)
    drawn = [BeatAugmentation(wander=0.1).lead(flat, np.random.default_rng(seed))[:, 0] for seed in range(300)]
    time = np.linspace(-1, 1, 1001)
    for baseline in drawn[:5]:
        fitted = np.polynomial.Polynomial.fit(time, baseline, 2)
        np.testing.assert_allclose(fitted(time), baseline, atol=1e-6)
    assert np.abs(np.mean(drawn, axis=1)).max() < 1e-3
    assert np.std([baseline[-1] - baseline[0] for baseline in drawn]) == pytest.approx(0.2, rel=0.15)
