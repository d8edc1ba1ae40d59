"""WFDB records: a header with signal files in the formats of PhysioNet, and annotations (wfdb)."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.ecg.formats.channels import Channels, Declared, package, recording_of, unreadable
from helixwave_domains.ecg.formats.person import age_and_sex
from helixwave_domains.ecg.leads import canonical_lead
from helixwave_domains.ecg.recording import Annotation, Recording

# bytes of a sample; the formats in FLAC have no fixed size
_BYTES = {"8": 1.0, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2, "212": 1.5, "310": 4 / 3, "311": 4 / 3}
# the value of a sample that is missing
_MISSING = {
    16: ("16", "61", "160", "516"),
    24: ("24", "524"),
    32: ("32",),
    8: ("80", "508"),
    12: ("212",),
    10: ("310", "311"),
}
_CODES = {form: -(2 ** (bits - 1)) for bits, forms in _MISSING.items() for form in forms}
_RECORD_LINE = re.compile(r"[-\w]+(/\d+)?\s+\d+(\s.*)?")
_UNKNOWN = {"", "unknown", "nan", "none", "n/a"}
# age and sex as the MIT-BIH databases have them: `69 M 1085 1629 x1`
_MIT = re.compile(r"(\d+)\s+([MF])\b.*")


class WFDB:
    """A record named by its header, by another of its files, or without an ending.

    `100.hea`, `100.dat` and `100` have the annotations of `100.atr`; `100.qrs` has its own.
    """

    name = "WFDB"
    suffixes = (".hea",)

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether it is a header, or belongs to one."""
        if path.suffix != ".hea":
            return header_of(path) != path
        lines = _lines(head.decode("latin-1"))
        return not lines or bool(_RECORD_LINE.fullmatch(lines[0]))

    def read(self, path: Path, declared: Declared) -> Recording:
        """The recording; its signals are read from the files piece by piece."""
        header = header_of(path)
        with unreadable(path, "a WFDB record"):
            record = _record(header)
            facts, labels = _told(_text(header))
            channels = Channels(
                path=header,
                format=self.name,
                names=record.names,
                units=record.units,
                rate=record.rate,
                n_sample=record.n_sample,
                read=record.read,
                annotations=_annotations(path, header, record.rate),
                labels=labels,
                facts=facts,
                notes=record.notes,
            )
        return recording_of(channels, declared)


def header_of(path: Path) -> Path:
    """The header of the record that a file belongs to; the file itself where there is none."""
    for header in (path.with_suffix(".hea"), path.with_name(f"{path.name}.hea")):
        if path.suffix != ".hea" and header.is_file():
            return header
    return path


def files_of(header: Path) -> set[Path]:
    """The signal files and the segments that a header names."""
    return {
        header.parent / name
        for line in _lines(_text(header))[1:]
        for name in (line.split()[0], f"{line.split()[0]}.hea")
    }


@dataclass(frozen=True)
class _Segment:
    """A record that wfdb reads in one piece, its channels of one rate."""

    record: Path
    places: list[int]
    names: tuple[str, ...]
    units: tuple[str, ...]
    gains: NDArray[np.float64]
    baselines: NDArray[np.float64]
    formats: list[str]
    per_frame: int
    rate: float
    n_sample: int
    notes: list[str]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        if start >= stop:
            return np.zeros((len(self.names), 0))
        # format 8 says by how much a sample differs from the one before, so that it is read from the first one on
        first = 0 if "8" in self.formats else start // self.per_frame
        read = package("wfdb").rdrecord(
            str(self.record),
            sampfrom=first,
            sampto=-(-stop // self.per_frame),
            channels=self.places,
            physical=False,
            smooth_frames=False,
        )
        start, stop = start - first * self.per_frame, stop - first * self.per_frame
        values = np.stack([channel[start:stop] for channel in read.e_d_signal]).astype(np.float64)
        for row, form in zip(values, self.formats, strict=True):
            row[row == _CODES.get(form, np.nan)] = np.nan
        return (values - self.baselines) / self.gains


@dataclass(frozen=True)
class _Joined:
    """Segments one after the other; None, of which only the length is known, is a gap."""

    names: tuple[str, ...]
    segments: list[tuple[int, _Segment | None]]

    @property
    def parts(self) -> list[_Segment]:
        return [segment for _, segment in self.segments if segment]

    @property
    def units(self) -> tuple[str, ...]:
        said = {name: unit for part in reversed(self.parts) for name, unit in zip(part.names, part.units, strict=True)}
        return tuple(said.get(name, "mV") for name in self.names)

    @property
    def rate(self) -> float:
        return self.parts[0].rate

    @property
    def n_sample(self) -> int:
        return sum(length for length, _ in self.segments)

    @property
    def notes(self) -> list[str]:
        gaps = sum(segment is None for _, segment in self.segments)
        said = [f"{len(self.parts)} segments and {gaps} gaps are joined"]
        return list(dict.fromkeys([*said, *(note for part in self.parts for note in part.notes)]))

    def read(self, start: int, stop: int) -> NDArray[Any]:
        values = np.full((len(self.names), stop - start), np.nan)
        begin = 0
        for length, segment in self.segments:
            first, last = max(start, begin), min(stop, begin + length)
            if segment and first < last:
                rows = [self.names.index(name) for name in segment.names]
                rows = list(range(len(rows))) if segment.names == self.names else rows
                values[rows, first - start : last - start] = segment.read(first - begin, last - begin)
            begin += length
        return values


def _record(header: Path) -> _Segment | _Joined:
    lines = _lines(_text(header))
    if not lines:
        raise InputError(f"{header}: the header is empty, expected a line as in `100 2 360 650000`")
    if not _RECORD_LINE.fullmatch(lines[0]):
        raise InputError(f"{header}: {lines[0][:60]!r} begins no WFDB header, expected a line as in `100 2 360 650000`")
    for line in lines[1:]:
        _expect_inside(header, line.split()[0])
    if "/" not in lines[0].split()[0]:
        return _segment(header, lines)
    rows = [(line.split()[0], int(line.split()[1])) for line in lines[1:]]
    layout = _lines(_text(header.with_name(f"{rows[0][0]}.hea"))) if rows[0][1] == 0 else []
    segments = [(length, _part(header, name, length)) for name, length in rows if length]
    parts = [segment for _, segment in segments if segment]
    if not parts:
        raise InputError(f"{header}: none of its segments has a signal")
    first = parts[0]
    alike = all((part.rate, part.units) == (first.rate, first.units) for part in parts if part.names == first.names)
    if not alike or len({part.rate for part in parts}) > 1:
        raise InputError(f"{header}: its segments differ in rate or units. Read them one by one")
    said = tuple(line.split()[-1] for line in layout[1:])
    return _Joined(said or tuple(dict.fromkeys(name for part in parts for name in part.names)), segments)


def _part(header: Path, name: str, length: int) -> _Segment | None:
    if name == "~":
        return None
    path = header.with_name(f"{name}.hea")
    segment = _segment(path, _lines(_text(path)))
    if segment.n_sample != length:
        raise InputError(f"{path}: it has {segment.n_sample} samples, {header.name} says {length}")
    return segment


def _segment(header: Path, lines: Sequence[str]) -> _Segment:
    for line in lines[1:]:
        _expect_inside(header, line.split()[0])
    record = header.with_suffix("")
    read = package("wfdb").rdheader(str(record))
    if not read.n_sig:
        raise InputError(f"{header}: it names no signals")
    units = [_unit(line) for line in lines[1 : read.n_sig + 1]]
    n_frame = _expect_complete(header, read)
    names = [name or f"channel {place + 1}" for place, name in enumerate(read.sig_name)]
    ecg = [count for count, name in zip(read.samps_per_frame, names, strict=True) if canonical_lead(name)]
    per_frame = ecg[0] if ecg else max(read.samps_per_frame)
    places = [place for place, count in enumerate(read.samps_per_frame) if count == per_frame]
    notes = [f"{name} is left out: it has another rate" for place, name in enumerate(names) if place not in places]
    notes += [
        f"{names[place]} has no gain: 200 steps for 1 mV, as the format says"
        for place in places
        if units[place] is None
    ]
    return _Segment(
        record=record,
        places=places,
        names=tuple(names[place] for place in places),
        units=tuple(units[place] or "mV" for place in places),
        gains=np.array([[read.adc_gain[place]] for place in places]),
        baselines=np.array([[read.baseline[place] or 0] for place in places], np.float64),
        formats=[read.fmt[place] for place in places],
        per_frame=per_frame,
        rate=float(read.fs) * per_frame,
        n_sample=n_frame * per_frame,
        notes=notes,
    )


def _unit(line: str) -> str | None:
    """The unit of a signal line as it stands there (wfdb reads `µV` as `V`); None where the gain is not said."""
    gain = line.split()[2] if len(line.split()) > 2 else ""
    number, _, unit = gain.partition("/")
    known = re.match(r"-?[\d.]+(e[+-]?\d+)?", number)
    return (unit or "mV") if known and float(known[0]) else None


def _expect_inside(header: Path, name: str) -> None:
    """Raise InputError if a header names a file that is not in its folder or below."""
    place = PurePosixPath(name.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts or ":" in name:
        raise InputError(f"{header}: it names {name}, which is outside its folder. Only files beside it are read")


def _expect_complete(header: Path, read: Any) -> int:
    """How many frames there are, if the files are as long as they must be."""
    n_frame: int | None = read.sig_len
    for name in dict.fromkeys(read.file_name):
        path = header.parent / name
        if not path.is_file():
            raise InputError(f"{header}: it names {name}, which is not there. Put it beside the header")
        rows = [place for place, other in enumerate(read.file_name) if other == name]
        width = _BYTES.get(read.fmt[rows[0]])
        if width is None:
            continue
        offset, frame = read.byte_offset[rows[0]] or 0, width * sum(read.samps_per_frame[place] for place in rows)
        there = path.stat().st_size
        n_frame = int((there - offset) / frame) if n_frame is None else n_frame
        if there < offset + math.floor(n_frame * frame):
            raise InputError(f"{path}: {there} bytes, expected {offset + math.ceil(n_frame * frame)}. Is it complete?")
    if not n_frame:
        raise InputError(f"{header}: it has no samples")
    return n_frame


def _annotations(path: Path, header: Path, rate: float) -> tuple[Annotation, ...]:
    other = path.suffix not in ("", ".hea", ".dat", ".mat") and path.with_suffix(".hea") == header
    file = path if other else header.with_suffix(".atr")
    if not file.is_file():
        return ()
    with unreadable(file, "WFDB annotations"):
        wfdb = package("wfdb")
        read = wfdb.rdann(str(file.with_suffix("")), file.suffix[1:])
        scale = rate / (read.fs or wfdb.rdheader(str(header.with_suffix(""))).fs)
    texts = (text.strip("\x00 ") for text in read.aux_note)
    marks = zip(read.sample, read.symbol, texts, strict=True)
    return tuple(Annotation(round(int(sample) * scale), symbol, text) for sample, symbol, text in marks)


def _told(text: str) -> tuple[dict[str, str | float], tuple[str, ...] | None]:
    """Age and sex, and the codes behind `Dx:`."""
    comments = [line.strip().lstrip("#").strip() for line in text.splitlines() if line.strip().startswith("#")]
    said = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in comments)}
    mit = next((found for found in map(_MIT.fullmatch, comments) if found), None)
    age, sex = (mit[1], mit[2]) if mit else (said.get("age"), said.get("sex"))
    codes = [code.strip() for code in said.get("dx", "").split(",")]
    labels = tuple(code for code in codes if code.lower() not in _UNKNOWN)
    return age_and_sex(age, sex), labels or None


def _lines(text: str) -> list[str]:
    """The lines that are no comments."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def _text(header: Path) -> str:
    if not header.is_file():
        raise InputError(f"{header}: no such file")
    raw = header.read_bytes()
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
