"""EDF, EDF+ and BDF (pyEDFlib)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.ecg.formats.channels import COMMENT, Channels, Declared, package, recording_of, unreadable
from helixwave_domains.ecg.formats.edf_writer import write_edf
from helixwave_domains.ecg.formats.person import age_and_sex
from helixwave_domains.ecg.leads import canonical_lead
from helixwave_domains.ecg.recording import Annotation, Recording

_HEADER_BYTES = 256


class EDF:
    """A file of signals in physical units; signals at another rate than the ECG are left out."""

    name = "EDF"
    suffixes = (".edf", ".bdf", ".rec")
    written = (".edf",)

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether it begins as EDF or BDF does."""
        return head[:8] in (b"0       ", b"\xffBIOSEMI") or (not head and path.suffix.lower() in self.suffixes)

    def read(self, path: Path, declared: Declared) -> Recording:
        """The recording; its signals are read from the file piece by piece."""
        if path.stat().st_size < _HEADER_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes, expected an EDF header of at least {_HEADER_BYTES}")
        with unreadable(path, self.name), package("pyedflib").EdfReader(str(path)) as file:
            places, rate, notes = _ecg(file)
            channels = Channels(
                path=path,
                format="BDF" if file.filetype in (2, 3) else self.name,
                names=[file.getLabel(place).strip() or f"channel {place + 1}" for place in places],
                units=[file.getPhysicalDimension(place).strip() or None for place in places],
                rate=rate,
                n_sample=int(file.getNSamples()[places[0]]),
                read=_Signals(path, tuple(places)),
                annotations=_annotations(file, rate),
                facts=age_and_sex(None, file.getSex()),
                notes=notes,
            )
        return recording_of(channels, declared)

    def write(self, recording: Recording, path: Path) -> list[str]:
        """Write it as EDF+."""
        return write_edf(recording, path)


@dataclass(frozen=True)
class _Signals:
    """The file is opened for each piece, so that a recording can be handed to another process."""

    path: Path
    places: Sequence[int]

    def __call__(self, start: int, stop: int) -> NDArray[Any]:
        pyedflib = package("pyedflib")
        # to look for the annotations each time would read all of the file
        with unreadable(self.path, "EDF"), pyedflib.EdfReader(str(self.path), pyedflib.DO_NOT_READ_ANNOTATIONS) as file:
            return np.stack([file.readSignal(place, start, stop - start) for place in self.places])


def _ecg(file: Any) -> tuple[list[int], float, list[str]]:
    """The signals of the rate that the ECG has, this rate, and what is left out."""
    names = [file.getLabel(place).strip() for place in range(file.signals_in_file)]
    rates = [float(file.getSampleFrequency(place)) for place in range(file.signals_in_file)]
    if not names:
        raise InputError(f"{file.file_name}: it has no signals")
    ecg = [rate for name, rate in zip(names, rates, strict=True) if canonical_lead(name) or name[:3] in ("ECG", "EKG")]
    rate = ecg[0] if ecg else max(rates)
    notes = [
        f"{name} is left out: it has {other:g} Hz, the ECG {rate:g} Hz"
        for name, other in zip(names, rates, strict=True)
        if other != rate
    ]
    return [place for place, other in enumerate(rates) if other == rate], rate, notes


def _annotations(file: Any, rate: float) -> tuple[Annotation, ...]:
    onsets, _, texts = file.readAnnotations()
    return tuple(_annotation(round(onset * rate), str(text)) for onset, text in zip(onsets, texts, strict=True))


def _annotation(sample: int, text: str) -> Annotation:
    symbol, _, rest = text.partition(" ")
    if len(symbol) == 1 and (not rest or (symbol == "+" and rest.startswith("("))):
        return Annotation(sample, symbol, rest)
    return Annotation(sample, COMMENT, text)
