"""DICOM waveforms (pydicom): 12-lead, general, ambulatory and resting ECG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.ecg.formats.channels import Channels, Declared, package, recording_of, unreadable
from helixwave_domains.ecg.formats.dicom_writer import write_dicom
from helixwave_domains.ecg.formats.person import age_and_sex
from helixwave_domains.ecg.leads import canonical_lead
from helixwave_domains.ecg.recording import Recording

# Waveform Sample Interpretation (5400,1006) with a sample's bits
_DTYPES = {("SB", 8): "i1", ("UB", 8): "u1", ("SS", 16): "i2", ("US", 16): "u2", ("SL", 32): "i4", ("UL", 32): "u4"}


class DICOM:
    """A file with a waveform: its rhythm, or its longest group of channels where none is called so."""

    name = "DICOM"
    suffixes = (".dcm",)
    written = (".dcm",)

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether it begins as DICOM files do; one without that beginning must be called `.dcm`."""
        return head[128:132] == b"DICM" or path.suffix.lower() in self.suffixes

    def read(self, path: Path, declared: Declared) -> Recording:
        """The recording; its samples are held as the file has them."""
        with unreadable(path, self.name):
            file = package("pydicom").dcmread(path)
            groups = list(file.get("WaveformSequence", []))
            if not groups:
                what = getattr(file.get("SOPClassUID"), "name", "an unknown kind")
                raise InputError(f"{path}: a DICOM file without a waveform ({what}), expected an ECG")
            group = _rhythm(groups)
            sources = group.ChannelDefinitionSequence
            channels = Channels(
                path=path,
                format=self.name,
                names=[_name(source, place) for place, source in enumerate(sources)],
                units=[_unit(source) for source in sources],
                rate=float(group.SamplingFrequency),
                n_sample=int(group.NumberOfWaveformSamples),
                read=_samples(path, group, file.original_encoding[1] is False),
                facts=age_and_sex(file.get("PatientAge"), file.get("PatientSex")),
                notes=_left_out(file, group),
            )
        return recording_of(channels, declared)

    def write(self, recording: Recording, path: Path) -> list[str]:
        """Write it as a 12-lead or a general ECG."""
        return write_dicom(recording, path)


@dataclass(frozen=True)
class _Samples:
    """Digits `[samples, channels]` that become values in the channels' units."""

    digits: NDArray[Any]
    scales: NDArray[np.float64]
    offsets: NDArray[np.float64]
    spare: int
    padding: int | None

    def __call__(self, start: int, stop: int) -> NDArray[Any]:
        digits = self.digits[start:stop].T
        missing = None if self.padding is None else digits == self.padding
        if self.spare and digits.dtype.kind == "i":
            # the bits above those that are stored may be anything, also in a negative number
            digits = (digits << self.spare) >> self.spare
        values = digits * self.scales + self.offsets
        if missing is not None:
            values[missing] = np.nan
        return values


def _samples(path: Path, group: Any, big_endian: bool) -> _Samples:
    kind = (str(group.WaveformSampleInterpretation), int(group.WaveformBitsAllocated))
    if kind not in _DTYPES:
        raise InputError(
            f"{path}: samples of kind {kind[0]} with {kind[1]} bits, expected one of SS, US, SL, UL, SB, UB"
        )
    dtype = np.dtype(_DTYPES[kind]).newbyteorder(">" if big_endian else "<")
    shape = (int(group.NumberOfWaveformSamples), int(group.NumberOfWaveformChannels))
    raw = bytes(group.WaveformData)
    wanted = shape[0] * shape[1] * dtype.itemsize
    if len(raw) < wanted or not wanted:
        raise InputError(f"{path}: {len(raw)} bytes of waveform, expected {wanted}. Is the file complete?")
    sources = group.ChannelDefinitionSequence
    stored = {int(source.get("WaveformBitsStored", kind[1])) for source in sources}
    padding = group.get("WaveformPaddingValue")
    return _Samples(
        digits=np.frombuffer(raw[:wanted], dtype).reshape(shape),
        scales=np.array(
            [
                [_number(source, "ChannelSensitivity", 1) * _number(source, "ChannelSensitivityCorrectionFactor", 1)]
                for source in sources
            ]
        ),
        offsets=np.array([[_number(source, "ChannelBaseline", 0)] for source in sources]),
        spare=kind[1] - max(stored),
        padding=None
        if padding is None
        else int(np.frombuffer(padding, dtype)[0])
        if isinstance(padding, bytes)
        else int(padding),
    )


def _number(source: Any, keyword: str, default: float) -> float:
    value = source.get(keyword)
    return default if value is None else float(value)


def _rhythm(groups: Sequence[Any]) -> Any:
    """The longest group that is called a rhythm, or the longest of all."""
    rhythms = [group for group in groups if "RHYTHM" in str(group.get("MultiplexGroupLabel", "")).upper()]
    return max(rhythms or groups, key=lambda group: int(group.NumberOfWaveformSamples) / float(group.SamplingFrequency))


def _left_out(file: Any, chosen: Any) -> list[str]:
    notes = []
    for group in file.WaveformSequence:
        if group is not chosen:
            seconds = int(group.NumberOfWaveformSamples) / float(group.SamplingFrequency)
            notes.append(f"group {group.get('MultiplexGroupLabel', 'without a label')} ({seconds:g} s) is left out")
    marks = len(file.get("WaveformAnnotationSequence", []))
    return [*notes, f"{marks} annotations of the file are not read"] if marks else notes


def _name(source: Any, place: int) -> str:
    codes = source.get("ChannelSourceSequence") or []
    said = [str(code.get(keyword, "")) for code in codes[:1] for keyword in ("CodeValue", "CodeMeaning")]
    said.append(str(source.get("ChannelLabel", "")))
    readable = [*said[1:], *said[:1]]
    known = next((name for name in readable if canonical_lead(name)), None)
    return known or next((name for name in readable if name), f"channel {place + 1}")


def _unit(source: Any) -> str | None:
    codes = source.get("ChannelSensitivityUnitsSequence") or []
    return str(codes[0].get("CodeValue", "")) or None if codes else None
