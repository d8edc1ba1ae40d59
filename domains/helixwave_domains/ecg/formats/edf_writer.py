"""Recordings as EDF+ in microvolts (pyEDFlib)."""

import math
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from datetime import datetime
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.errors import InputError
from helixwave.files import atomic_write
from numpy.typing import NDArray

from helixwave_domains.ecg.formats.channels import COMMENT, package
from helixwave_domains.ecg.formats.digits import HIGHEST, LOWEST, MISSING, Digits, count_missing, digits_of, not_kept
from helixwave_domains.ecg.leads import LEADS
from helixwave_domains.ecg.recording import Annotation, Recording

# pyEDFlib counts a data record's duration in steps of 10 us
_TICKS = 100_000
_SHORTEST, _LONGEST = 0.1, 10.0
_MOST_CHANNELS, _LONGEST_TEXT = 64, 40
# what EDF+ has where the day is not known
_NO_DAY = datetime(1985, 1, 1)


def write_edf(recording: Recording, path: Path) -> list[str]:
    """Write one file; EDF has no missing values, so that these become 0 mV."""
    length = _record_length(recording.n_sample, recording.rate)
    if length is None:
        raise InputError(f"{path}: EDF has no data records for {recording.rate:g} Hz. Choose another format")
    digits = digits_of(recording)
    padded = -recording.n_sample % length
    missing = count_missing(recording)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.edf"
        lost = _write(digits, made, length, padded)
        with atomic_write(path, "wb") as file, made.open("rb") as written:
            shutil.copyfileobj(written, file)
    said = [f"{missing} missing values are written as 0 mV"] if missing else []
    said += [f"{padded} samples of 0 mV are added to fill the last data record"] if padded else []
    return [*digits.coarse, *not_kept(recording, frozenset({"annotations", "sex"})), *said, *lost]


def _write(digits: Digits, path: Path, length: int, padded: int) -> list[str]:
    recording = digits.recording
    file = package("pyedflib").EdfWriter(str(path), len(recording.leads), file_type=1)
    try:
        lost = _describe(file, recording, digits, length, (recording.n_sample + padded) // length)
        for records in _records(digits, length, padded):
            for record in records:
                file.blockWriteDigitalShortSamples(np.ascontiguousarray(record).ravel())
        for mark in recording.annotations:
            file.writeAnnotation(mark.sample / recording.rate, -1, _text(mark)[:_LONGEST_TEXT])
    finally:
        file.close()
    return lost


def _records(digits: Digits, length: int, padded: int) -> Iterator[NDArray[np.int16]]:
    """Data records `[n, leads, length]`, missing values and what fills the last one 0 mV."""
    zeros = np.rint(-digits.centres / digits.steps).astype(np.int16)[:, None]
    rest = np.zeros((len(zeros), 0), np.int16)
    for block in chain(digits.blocks(), [np.repeat(zeros, padded, axis=1)]):
        rest = np.concatenate([rest, np.where(block == MISSING, zeros, block)], axis=1)
        whole = rest.shape[1] // length
        yield rest[:, : whole * length].reshape(len(rest), whole, length).transpose(1, 0, 2)
        rest = rest[:, whole * length :]


def _describe(file: Any, recording: Recording, digits: Digits, length: int, n_record: int) -> list[str]:
    """Write the header and tell which annotations there is no room for."""
    with warnings.catch_warnings():
        # pyEDFlib warns of any duration that is not its own choice
        warnings.simplefilter("ignore")
        file.setDatarecordDuration(length / recording.rate)
        file.setStartdatetime(_NO_DAY)
        file.setSignalHeaders(
            [_signal(*row, recording.rate) for row in zip(recording.leads, digits.steps, digits.centres, strict=True)]
        )
        if "sex" in recording.facts:
            file.setSex(int(recording.facts["sex"] == "male"))
        channels = math.ceil(len(recording.annotations) / n_record)
        file.set_number_of_annotation_signals(channels)
    lost = max(len(recording.annotations) - n_record * _MOST_CHANNELS, 0)
    said = [f"the last {lost} annotations have no room in {n_record} data records"] if lost else []
    long = sum(len(_text(mark)) > _LONGEST_TEXT for mark in recording.annotations)
    return [*said, f"{long} annotations are cut to {_LONGEST_TEXT} characters"] if long else said


def _signal(lead: str, step: float, centre: float, rate: float) -> dict[str, Any]:
    return {
        "label": f"ECG {lead}" if lead in LEADS else lead[:16],
        "dimension": "uV",
        "sample_frequency": rate,
        "physical_min": float(centre + LOWEST * step),
        "physical_max": float(centre + HIGHEST * step),
        "digital_min": LOWEST,
        "digital_max": HIGHEST,
        "transducer": "",
        "prefilter": "",
    }


def _text(mark: Annotation) -> str:
    """A mark as the reader takes it apart again."""
    return mark.text if mark.symbol == COMMENT and mark.text else f"{mark.symbol} {mark.text}".strip()


def _record_length(n_sample: int, rate: float) -> int | None:
    """Samples of a data record: those that leave the last one full or nearly so, and last about a second."""
    ticks = Fraction(_TICKS) / Fraction(rate).limit_denominator(10**6)
    lengths = range(max(math.ceil(_SHORTEST * rate), 1), int(_LONGEST * rate) + 1)
    fitting = [n for n in lengths if (n * ticks).denominator == 1]
    return min(fitting, key=lambda n: (-n_sample % n, abs(math.log(n / rate))), default=None)
