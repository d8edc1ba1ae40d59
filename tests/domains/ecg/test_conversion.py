"""Every format that is written comes back, and says what it cannot keep."""

import re
from dataclasses import replace

import numpy as np
import pytest
import wfdb
from helixwave.errors import InputError
from helixwave_domains.ecg.conversion import convert
from helixwave_domains.ecg.formats import find_recordings, read_recording
from helixwave_domains.ecg.formats.digits import digits_of
from helixwave_domains.ecg.leads import with_leads
from helixwave_domains.ecg.recording import Annotation, held

from tests.domains.ecg.written_formats import FORMATS, small_recording

KEPT = {
    ".hea": {"labels", "annotations", "age", "sex"},
    ".npz": {"labels", "annotations", "age", "sex"},
    ".edf": {"annotations", "sex"},
    ".dcm": {"age", "sex"},
    ".csv": set(),
    ".tsv": set(),
    ".parquet": set(),
}


@pytest.mark.parametrize("ending", FORMATS)
def test_what_is_written_comes_back(tmp_path, ending):
    recording = small_recording()
    said = convert(recording, tmp_path / f"a{ending}")
    found = read_recording(tmp_path / f"a{ending}")
    assert (found.leads, found.rate, found.n_sample) == (recording.leads, recording.rate, recording.n_sample)
    np.testing.assert_allclose(found.signal, recording.signal, atol=1e-6)
    kept = KEPT[ending]
    assert found.labels == (recording.labels if "labels" in kept else None)
    assert found.annotations == (recording.annotations if "annotations" in kept else ())
    assert found.facts == {key: value for key, value in recording.facts.items() if key in kept}
    lost = {"labels", "annotations", "age", "sex"} - kept
    assert sorted(said) == sorted(f"{name} cannot be kept in this format" for name in lost)


@pytest.mark.parametrize("name", ["cinc2021_sample/JS20000.hea", "cpsc2021_sample/data_101_6.hea"])
def test_a_real_record_is_the_same_in_every_format_with_its_leads_in_any_order(data_folder, tmp_path, name):
    recording = read_recording(data_folder / name)
    shuffled = with_leads(recording, np.random.default_rng(0).permutation(recording.leads).tolist())
    for ending in FORMATS:
        convert(shuffled, tmp_path / f"a{ending}")
        found = read_recording(tmp_path / f"a{ending}")
        assert found.leads == recording.leads
        # half a step of 1 uV at most
        np.testing.assert_allclose(found.load(0, recording.n_sample), recording.signal, atol=5.1e-4)


def test_wfdb_reads_our_records(data_folder, tmp_path):
    recording = read_recording(data_folder / "cinc2021_sample/JS20000.hea")
    convert(recording, tmp_path / "a.hea")
    found = wfdb.rdrecord(str(tmp_path / "a"))
    np.testing.assert_allclose(found.p_signal.T / 1000, recording.signal, atol=1e-6)
    assert found.comments == ["Age: 84", "Sex: Female", "Dx: 284470004,427084000,698252002,55930002"]
    digital = wfdb.rdrecord(str(tmp_path / "a"), physical=False)
    assert [int(total) % 65536 for total in digital.d_signal.sum(axis=0)] == [sum_ % 65536 for sum_ in digital.checksum]
    assert digital.d_signal[0].tolist() == digital.init_value


@pytest.mark.parametrize("ending", [".hea", ".dcm", ".csv", ".npz", ".parquet"])
def test_missing_values_stay_missing(tmp_path, ending):
    signal = small_recording().signal.copy()
    signal[0, 5:9], signal[1] = np.nan, np.nan
    convert(small_recording(load=held(signal)), tmp_path / f"a{ending}")
    np.testing.assert_allclose(read_recording(tmp_path / f"a{ending}").signal, signal, atol=1e-6)


def test_edf_says_what_it_makes_of_missing_values_and_odd_lengths(tmp_path):
    # a prime number, so that no data records of one length hold it
    signal = np.resize(small_recording().signal, (2, 1009)) + np.float32(9)
    signal[0, 5:9] = np.nan
    recording = small_recording(load=held(signal), n_sample=1009, annotations=(Annotation(1, "N", "x" * 50),))
    said = convert(recording, tmp_path / "a.edf")
    found = read_recording(tmp_path / "a.edf")
    added = found.n_sample - 1009
    assert added == 1
    assert "4 missing values are written as 0 mV" in said
    assert "1 samples of 0 mV are added to fill the last data record" in said
    assert "1 annotations are cut to 40 characters" in said
    expected = np.concatenate([np.nan_to_num(signal), np.zeros((2, added))], axis=1)
    np.testing.assert_allclose(found.signal, expected, atol=1e-3)


def test_more_annotations_than_data_records(tmp_path):
    marks = tuple(Annotation(place, "N") for place in range(0, 1000, 7))
    assert not any("annotations" in line for line in convert(small_recording(annotations=marks), tmp_path / "a.edf"))
    assert read_recording(tmp_path / "a.edf").annotations == marks
    many = tuple(Annotation(place, "N") for place in range(1000))
    said = convert(small_recording(annotations=many), tmp_path / "b.edf")
    there = read_recording(tmp_path / "b.edf").annotations
    assert there == many[: len(there)]
    assert f"the last {1000 - len(there)} annotations have no room in 10 data records" in said


@pytest.mark.parametrize(
    ("low", "high", "step"),
    [(-1, 1, 0.25), (-8, 8.1, 0.25), (-9, 9, 1), (12, 13, 0.25), (20, 21, 1), (-60, 60, 2), (3, 3, 0.25)],
)
def test_sixteen_bits_hold_the_range_and_zero(low, high, step):
    signal = np.linspace(low, high, 50, dtype=np.float32)[None]
    digits = digits_of(small_recording(load=held(signal), n_sample=50, leads=("I",)))
    assert digits.steps[0] == step
    assert bool(digits.coarse) == (step > 1)
    made = next(digits.blocks()).astype(float)
    np.testing.assert_allclose((made * digits.steps + digits.centres) / 1000, signal, atol=0.51 * step / 1000 + 1e-5)


def test_leads_of_no_known_name_keep_it(tmp_path):
    recording = small_recording(leads=("V1", "ECG1"))
    for ending in FORMATS:
        convert(recording, tmp_path / f"a{ending}")
        assert read_recording(tmp_path / f"a{ending}").leads == ("V1", "ECG1")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xyz", "no format to write ends in '.xyz'. Known: .csv, .dcm, .edf, .hea, .npz, .parquet, .tsv"),
        ("a", "no format to write ends in 'nothing'"),
        ("a b.hea", "a WFDB record's name has letters, digits, - and _ alone"),
    ],
)
def test_names_that_cannot_be_written(tmp_path, name, message):
    with pytest.raises(InputError, match=re.escape(message)):
        convert(small_recording(), tmp_path / name)


def test_a_recording_is_not_written_over_itself(tmp_path):
    convert(small_recording(), tmp_path / "a.hea")
    with pytest.raises(InputError, match=r"this is the recording itself\. Choose another name"):
        convert(read_recording(tmp_path / "a"), tmp_path / "a.hea")


@pytest.mark.parametrize("ending", FORMATS)
def test_nothing_is_left_where_reading_fails(tmp_path, ending):
    def fail(start, stop):
        raise InputError("the disk is gone")

    (tmp_path / f"old{ending}").write_text("as it was")
    with pytest.raises(InputError, match="the disk is gone"):
        convert(replace(small_recording(), load=fail), tmp_path / f"old{ending}")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["as it was"]


def test_an_odd_rate_has_no_data_records(tmp_path):
    with pytest.raises(InputError, match=r"EDF has no data records for 1\.00033 Hz"):
        convert(small_recording(rate=1.00033), tmp_path / "a.edf")


def test_converted_folders_are_found(tmp_path):
    convert(small_recording(), tmp_path / "a.hea")
    assert {path.name for path in tmp_path.iterdir()} == {"a.hea", "a.dat", "a.atr"}
    assert find_recordings([tmp_path]).paths == [tmp_path / "a.hea"]
