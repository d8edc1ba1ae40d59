"""Windows of atrial fibrillation."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.ecg import rhythm
from helixwave_domains.ecg.recording import Annotation, Recording, held
from helixwave_domains.ecg.rhythm import CPSC2021, rhythm_of

RATE = 20.0


def marks(*pairs: tuple[int, str]) -> list[Annotation]:
    return [Annotation(sample, "+", text) for sample, text in pairs]


def test_the_rhythm_of_a_window_is_that_of_every_sample() -> None:
    changes = [(30, "(AFIB"), (55, "(N"), (70, "(AFL")]
    by_sample = np.zeros(100, dtype=int)
    for (start, text), stop in zip(changes, [55, 70, 100], strict=True):
        by_sample[start:stop] = text != "(N"
    for start in range(90):
        for stop in range(start + 1, 101, 7):
            expected = set(by_sample[start:stop].tolist())
            got = rhythm_of(marks(*changes), start, stop)
            assert got == (expected.pop() if len(expected) == 1 else None), (start, stop)


def fake(monkeypatch: pytest.MonkeyPatch, folder: Path, rhythms: dict[str, list[Annotation]]) -> None:
    """Two leads of 60 seconds that hold their sample's number, with an offset; one file for each of `rhythms`."""

    def read(path: Path) -> Recording:
        signal = np.tile(np.arange(1200, dtype=np.float32) / 1000 + 5, (2, 1))
        found = tuple(rhythms[path.stem])
        return Recording(
            ("I", "II"), RATE, 1200, held(signal), path, "WFDB", ("I", "II"), ("mV", "mV"), annotations=found
        )

    for name in rhythms:
        (folder / f"{name}.hea").touch()
    monkeypatch.setattr(rhythm, "read_recording", read)


def six_patients() -> dict[str, list[Annotation]]:
    kinds = [[], [], marks((0, "(AFIB"), (3, "None")), marks((0, "(AFIB")), marks((500, "(AFL")), marks((700, "(AFIB"))]
    return {f"data_{patient}_{record}": kind for patient, kind in enumerate(kinds, 1) for record in (1, 2)}


def test_windows_are_split_by_patient_and_mixed_ones_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, tmp_path, six_patients())
    data = CPSC2021(folder=str(tmp_path), rate=RATE, test=0.4, validation=0.2)
    assert sorted(chain(*data.patients.values())) == list("123456")
    assert all(data.patients.values())
    # side by side 6 windows a recording, 11 with half of a window between them; a change mixes one or two
    for name, per_recording in (("train", 11), ("validation", 6), ("test", 6)):
        count = len(getattr(data, name)) + data.mixed[name]
        assert count == 2 * per_recording * len(data.patients[name])
    assert sum(data.mixed.values()) >= 2
    example = data.train.example(0, np.random.default_rng(0))
    assert example["inputs"].shape == (200, 2)
    # the offset is gone
    np.testing.assert_allclose(example["inputs"].mean(0), 0, atol=1e-4)
    assert "left out" in str(data.describe())


def test_no_window_has_two_rhythms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # all patients change at the same moment, which each sample shows
    fake(monkeypatch, tmp_path, {f"data_{patient}_1": marks((500, "(AFIB")) for patient in range(6)})
    data = CPSC2021(folder=str(tmp_path), rate=RATE, scale="none", stride=1.0)
    for part in (data.train, data.validation, data.test):
        assert set(part.targets.tolist()) == {0, 1}
        for i in range(len(part)):
            example = part.example(i, None)
            samples = np.rint((example["inputs"][:, 0] - 5) * 1000)
            assert set(samples >= 500) == {example["target"] == 1}


def test_an_unknown_rhythm_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, tmp_path, {**six_patients(), "data_1_1": marks((4, "(VT"))})
    with pytest.raises(InputError, match=r"the rhythm '\(VT' is marked, expected \(N, \(AFIB, \(AFL"):
        CPSC2021(folder=str(tmp_path), rate=RATE)


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no records data_PATIENT_RECORD\.hea are there"):
        CPSC2021(folder=str(tmp_path))


def test_real_recordings_have_both_rhythms_on_all_sides(data_folder: Path) -> None:
    data = CPSC2021(folder=str(data_folder / "cpsc2021_sample"), split_seed=1)
    assert sorted(chain(*data.patients.values()), key=int) == ["8", "21", "35", "84", "92", "101"]
    for part in (data.train, data.validation, data.test):
        assert set(part.targets.tolist()) == {0, 1}
        inputs = part.example(0, None)["inputs"]
        assert inputs.shape == (2000, 2)
        np.testing.assert_allclose(inputs.mean(0), 0, atol=1e-3)
