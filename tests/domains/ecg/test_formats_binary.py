"""EDF and DICOM: values against the bytes and another library's reading, and files that are wrong."""

import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pyedflib
import pytest
from helixwave.errors import InputError
from helixwave_domains.ecg.conversion import convert
from helixwave_domains.ecg.formats.channels import Declared
from helixwave_domains.ecg.formats.dicom import DICOM
from helixwave_domains.ecg.formats.edf import EDF
from helixwave_domains.ecg.formats.wfdb_record import WFDB
from helixwave_domains.ecg.leads import LEADS
from helixwave_domains.ecg.recording import Annotation, Recording, held

SIGNAL = np.round(np.random.default_rng(3).normal(0, 0.5, (2, 1000)), 3)


def small(**more) -> Recording:
    """Two leads of 10 s."""
    facts = {"sex": "female", "age": 61.0}
    recording = Recording(
        ("I", "V2"),
        100.0,
        1000,
        held(SIGNAL.astype(np.float32)),
        Path("small"),
        "test",
        ("I", "V2"),
        ("mV", "mV"),
        facts=facts,
    )
    return Recording(**{**recording.__dict__, **more})


def edf(path: Path, channels: list[tuple[str, str, int]], annotations: list[tuple[float, str]] = ()) -> Path:
    """A file of 4 s with channels (label, unit, rate), each a ramp from 0 up."""
    with pyedflib.EdfWriter(str(path), len(channels), file_type=1) as file:
        file.setStartdatetime(datetime(2000, 1, 1))
        file.setPatientName("Doe")
        file.setSex(1)
        file.setSignalHeaders(
            [
                {
                    "label": label,
                    "dimension": unit,
                    "sample_frequency": rate,
                    "physical_min": -3276.8,
                    "physical_max": 3276.7,
                    "digital_min": -32768,
                    "digital_max": 32767,
                    "transducer": "",
                    "prefilter": "",
                }
                for label, unit, rate in channels
            ]
        )
        file.writeSamples([np.arange(4 * rate) * 0.5 for _, _, rate in channels])
        for onset, text in annotations:
            file.writeAnnotation(onset, -1, text)
    return path


def test_edf_equals_the_record_it_was_made_from(data_folder):
    found = EDF().read(data_folder / "ecg_formats/derived_JS20000_uV.edf", Declared())
    origin = WFDB().read(data_folder / "cinc2021_sample/JS20000.hea", Declared())
    assert (found.leads, found.rate, found.n_sample) == (LEADS, 500, 5000)
    assert (found.names[3], found.units[3]) == ("ECG aVR", "uV (header)")
    np.testing.assert_allclose(found.signal, origin.signal, atol=1e-5)
    np.testing.assert_allclose(found.load(33, 77), origin.load(33, 77), atol=1e-5)


def test_edf_units_differ_by_channel_and_other_signals_are_left_out(tmp_path):
    channels = [
        ("EKG II", "mV", 100),
        ("ECG V1", "uV", 100),
        ("EEG Fp1", "uV", 100),
        ("SaO2", "%", 100),
        ("Pos", "", 1),
    ]
    marks = [(0.5, "N"), (1.0, "+ (AFIB"), (2.5, "A patient moved")]
    found = EDF().read(edf(tmp_path / "a.edf", channels, marks), Declared())
    ramp = np.arange(400) * 0.5
    assert found.leads == ("II", "V1")
    np.testing.assert_allclose(found.signal, [ramp, ramp / 1000], atol=1e-3)
    assert found.notes == (
        "Pos is left out: it has 1 Hz, the ECG 100 Hz",
        "EEG Fp1 is left out: no ECG",
        "SaO2 is left out: no ECG",
    )
    assert found.annotations == (
        Annotation(50, "N"),
        Annotation(100, "+", "(AFIB"),
        Annotation(250, '"', "A patient moved"),
    )
    assert found.facts == {"sex": "male"}


def test_edf_that_is_wrong(tmp_path):
    whole = edf(tmp_path / "a.edf", [("ECG I", "uV", 100)]).read_bytes()
    path = tmp_path / "b.edf"
    for size, message in (
        (0, "0 bytes, expected an EDF header"),
        (300, "not readable as EDF"),
        (1200, "not readable as EDF"),
    ):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=message):
            EDF().read(path, Declared())
    with pytest.raises(InputError, match=r"ECG I has no units\. Pass --units"):
        EDF().read(edf(path, [("ECG I", "", 100)]), Declared())
    assert EDF().read(path, Declared(units="uV")).units == ("uV (declared)",)


def test_dicom_equals_another_reading(data_folder):
    path = data_folder / "ecg_formats/pydicom_waveform_ecg.dcm"
    found = DICOM().read(path, Declared())
    # microvolts `[samples, channels]`
    expected = pydicom.dcmread(path).waveform_array(0).T / 1000
    assert (found.leads, found.rate, found.n_sample) == (LEADS, 1000, 10_000)
    assert found.names[0] == "Lead I (Einthoven)"
    np.testing.assert_allclose(found.signal, expected, atol=1e-6)
    np.testing.assert_allclose(found.load(5, 9), expected[:, 5:9], atol=1e-6)
    assert found.notes == ("group MEDIAN BEAT (1.2 s) is left out", "77 annotations of the file are not read")
    assert found.facts == {"age": 42, "sex": "female"}


def dicom(folder: Path) -> tuple[Path, pydicom.Dataset]:
    """A file that we wrote, and what it holds."""
    path = folder / "a.dcm"
    convert(small(), path)
    return path, pydicom.dcmread(path)


def test_our_dicom_is_read_by_pydicom(tmp_path):
    _, found = dicom(tmp_path)
    np.testing.assert_allclose(found.waveform_array(0).T / 1000, SIGNAL, atol=1e-6)
    assert found.SOPClassUID.name == "General ECG Waveform Storage"
    # the standard allows 200 to 1000 Hz for this one
    convert(small(rate=500.0), tmp_path / "b.dcm")
    assert pydicom.dcmread(tmp_path / "b.dcm").SOPClassUID.name == "12-lead ECG Waveform Storage"
    assert (found.PatientName, found.PatientID, found.PatientAge) == ("", "", "061Y")
    channel = found.WaveformSequence[0].ChannelDefinitionSequence[1]
    assert channel.ChannelSourceSequence[0].CodeValue == "2:4"


def test_dicom_baseline_sensitivity_correction_and_stored_bits(tmp_path):
    path, file = dicom(tmp_path)
    group = file.WaveformSequence[0]
    # 12 bits of two's complement without the sign above them
    group.WaveformData = (np.array([[5, 0x0FFF]] * 1000, "<i2")).tobytes()
    for channel in group.ChannelDefinitionSequence:
        channel.WaveformBitsStored = 12
        channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor, channel.ChannelBaseline = (
            "2",
            "1.5",
            "100",
        )
    group.ChannelDefinitionSequence[0].ChannelSensitivityUnitsSequence[0].CodeValue = "mV"
    file.save_as(path)
    found = DICOM().read(path, Declared()).signal
    np.testing.assert_allclose(found[:, 0], [5 * 3 + 100, (-1 * 3 + 100) / 1000], rtol=1e-6)


def test_the_longest_group_is_read_where_none_is_a_rhythm(tmp_path):
    path, file = dicom(tmp_path)
    short = pydicom.dcmread(path).WaveformSequence[0]
    short.NumberOfWaveformSamples = 10
    file.WaveformSequence.insert(0, short)
    for group, label in zip(file.WaveformSequence, ("A", "B"), strict=True):
        group.MultiplexGroupLabel = label
    file.save_as(path)
    found = DICOM().read(path, Declared())
    assert found.n_sample == 1000
    assert found.notes == ("group A (0.1 s) is left out",)


def test_dicom_that_is_wrong(tmp_path):
    path, file = dicom(tmp_path)
    group = file.WaveformSequence[0]
    raw = group.WaveformData
    changes = {
        "3998 bytes of waveform, expected 4000. Is the file complete?": lambda: setattr(
            group, "WaveformData", raw[:-2]
        ),
        "samples of kind MB with 16 bits": lambda: setattr(group, "WaveformSampleInterpretation", "MB"),
        "a DICOM file without a waveform (General ECG Waveform Storage)": lambda: delattr(file, "WaveformSequence"),
    }
    for message, change in changes.items():
        change()
        file.save_as(path)
        with pytest.raises(InputError, match=re.escape(message)):
            DICOM().read(path, Declared())
    path.write_bytes(b"\0" * 128 + b"DICM" + b"damaged")
    with pytest.raises(InputError, match=r"not readable as DICOM|without a waveform"):
        DICOM().read(path, Declared())
