"""Recordings as DICOM waveforms in microvolts (pydicom)."""

from pathlib import Path
from typing import Any

import numpy as np
from helixwave.files import atomic_write

from helixwave_domains.ecg.formats.channels import package
from helixwave_domains.ecg.formats.digits import MISSING, Digits, digits_of, not_kept
from helixwave_domains.ecg.leads import LEADS, lead_number
from helixwave_domains.ecg.recording import Recording

# what the standard allows of a 12-lead ECG (PS3.3, A.34.3): anything else is a general ECG
_MOST_SAMPLES, _RATES = 16_384, (200, 1000)
_TWELVE_LEADS, _GENERAL = "1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.840.10008.5.1.4.1.1.9.1.2"


def write_dicom(recording: Recording, path: Path) -> list[str]:
    """Write one file with one group of channels, called RHYTHM."""
    pydicom = package("pydicom")
    digits = digits_of(recording)
    dataset = _described(pydicom, recording)
    dataset.WaveformSequence = [_group(pydicom, digits)]
    with atomic_write(path, "wb") as file:
        pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return [*digits.coarse, *not_kept(recording, frozenset({"age", "sex"}))]


def _described(pydicom: Any, recording: Recording) -> Any:
    """The attributes that every file must have, without a person's name or number."""
    fits = recording.n_sample <= _MOST_SAMPLES and _RATES[0] <= recording.rate <= _RATES[1]
    made = pydicom.Dataset()
    made.SOPClassUID = _TWELVE_LEADS if fits and set(recording.leads) <= set(LEADS) else _GENERAL
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(made, keyword, pydicom.uid.generate_uid())
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyTime", "StudyID"):
        setattr(made, keyword, "")
    for keyword in ("AccessionNumber", "ReferringPhysicianName", "ContentDate", "ContentTime", "AcquisitionDateTime"):
        setattr(made, keyword, "")
    made.Modality, made.SeriesNumber, made.InstanceNumber = "ECG", 1, 1
    made.PatientSex = str(recording.facts.get("sex", ""))[:1].upper()
    age = recording.facts.get("age")
    made.PatientAge = "" if age is None else _age(float(age))
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    return made


def _age(years: float) -> str:
    return f"{round(years):03d}Y" if years >= 2 else f"{round(years * 12):03d}M"


def _group(pydicom: Any, digits: Digits) -> Any:
    recording = digits.recording
    made = pydicom.Dataset()
    made.MultiplexGroupLabel, made.WaveformOriginality = "RHYTHM", "ORIGINAL"
    made.NumberOfWaveformChannels, made.NumberOfWaveformSamples = len(recording.leads), recording.n_sample
    made.SamplingFrequency = f"{recording.rate:.10g}"
    made.WaveformBitsAllocated, made.WaveformSampleInterpretation = 16, "SS"
    rows = zip(recording.leads, digits.steps, digits.centres, strict=True)
    made.ChannelDefinitionSequence = [_channel(pydicom, *row) for row in rows]
    made.add_new("WaveformPaddingValue", "OW", np.array([MISSING], "<i2").tobytes())
    raw = b"".join(np.ascontiguousarray(block.T, "<i2").tobytes() for block in digits.blocks())
    made.add_new("WaveformData", "OW", raw)
    return made


def _channel(pydicom: Any, lead: str, step: float, centre: float) -> Any:
    made = pydicom.Dataset()
    made.ChannelLabel = lead[:16]
    number = lead_number(lead)
    code = (
        _code(pydicom, lead, "99HELIXWAVE", lead)
        if number is None
        else _code(pydicom, f"2:{number}", "MDC", f"Lead {lead}")
    )
    made.ChannelSourceSequence = [code]
    made.ChannelSensitivity, made.ChannelBaseline = f"{step:g}", f"{centre:.0f}"
    made.ChannelSensitivityUnitsSequence = [_code(pydicom, "uV", "UCUM", "microvolt")]
    made.ChannelSensitivityCorrectionFactor, made.ChannelSampleSkew, made.WaveformBitsStored = "1", "0", 16
    return made


def _code(pydicom: Any, value: str, scheme: str, meaning: str) -> Any:
    made = pydicom.Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value[:16], scheme, meaning[:64]
    return made
