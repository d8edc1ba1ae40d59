"""Headers of WFDB records: which files, channels, gains and units (the WFDB Applications Guide, header(5))."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from helixwave.errors import InputError

from helixwave_domains.ecg.formats.person import age_and_sex

# bytes of a sample; the formats in FLAC have no fixed size
_BYTES = {"8": 1, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2, "212": 1.5, "310": 4 / 3, "311": 4 / 3}
_RECORD_LINE = re.compile(r"[-\w.]+(/\d+)?\s+\d+(\s+[\d.]+\S*(\s.*)?)?")
_FORMAT = re.compile(r"(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?")
_GAIN = re.compile(r"(-?[\d.]+(?:e[+-]?\d+)?)?(?:\((-?\d+)\))?(?:/(\S+))?", re.IGNORECASE)
_UNKNOWN = {"", "unknown", "nan", "none", "n/a"}
# age and sex as the MIT-BIH databases have them: `69 M 1085 1629 x1`
_MIT = re.compile(r"(\d+)\s+([MF])\b.*")
# what the format says of a header without a rate or a gain
_RATE, _STEPS = 250.0, 200.0


@dataclass(frozen=True)
class SignalLine:
    """A channel: `file`, its `format`, samples in a frame, skew, the byte it begins at, `(digit - baseline) / gain`."""

    file: str
    format: str
    per_frame: int
    skew: int
    offset: int
    gain: float
    baseline: int
    unit: str
    calibrated: bool
    name: str


@dataclass(frozen=True)
class Header:
    """A header: channels, or the names and lengths of segments (`~` is a gap), frames and frames a second."""

    path: Path
    signals: list[SignalLine]
    segments: list[tuple[str, int]]
    rate: float
    n_frame: int
    comments: list[str]

    def facts(self) -> dict[str, str | float]:
        """Age and sex."""
        mit = next((found for found in map(_MIT.fullmatch, self.comments) if found), None)
        said = self._said()
        return age_and_sex(mit[1], mit[2]) if mit else age_and_sex(said.get("age"), said.get("sex"))

    def labels(self) -> tuple[str, ...] | None:
        """The codes behind `Dx:`."""
        codes = [code.strip() for code in self._said().get("dx", "").split(",")]
        return tuple(code for code in codes if code.lower() not in _UNKNOWN) or None

    def _said(self) -> dict[str, str]:
        parted = (comment.partition(":") for comment in self.comments)
        return {key.strip().lower(): value.strip() for key, _, value in parted}


def begins_header(text: str) -> bool:
    """Whether a text has the first line of a header, or none at all."""
    lines = _lines(text)
    return not lines or bool(_RECORD_LINE.fullmatch(lines[0]))


def read_header(path: Path) -> Header:
    """A header whose files are there and as long as it says.

    Raises:
        InputError: it is no header, or names a file that is missing, too short or outside its folder.
    """
    text = _text(path)
    lines = _lines(text)
    if not lines or not _RECORD_LINE.fullmatch(lines[0]):
        came = repr(lines[0][:60]) if lines else "nothing"
        raise InputError(f"{path}: {came} begins no WFDB header, expected a line as in `100 2 360 650000`")
    first, rows = lines[0].split(), [line.split() for line in lines[1:]]
    for row in rows:
        _expect_inside(path, row[0])
    joined = "/" in first[0]
    signals = [] if joined else [_signal(path, row) for row in rows[: int(first[1])]]
    if not joined and len(signals) < max(int(first[1]), 1):
        raise InputError(f"{path}: it names {len(signals)} channels, its first line says {first[1]}")
    return Header(
        path=path,
        signals=signals,
        segments=[(row[0], int(row[1])) for row in rows] if joined else [],
        rate=float(first[2].split("/")[0]) if len(first) > 2 else _RATE,
        n_frame=_n_frame(path, signals, int(first[3]) if len(first) > 3 else 0),
        comments=[line.strip().lstrip("#").strip() for line in text.splitlines() if line.strip().startswith("#")],
    )


def header_of(path: Path) -> Path:
    """The header of the record that a file belongs to; the file itself where there is none."""
    for header in (path.with_suffix(".hea"), path.with_name(f"{path.name}.hea")):
        if path.suffix != ".hea" and path.name and header.is_file():
            return header
    return path


def files_of(header: Path) -> set[Path]:
    """The signal files and the headers of segments that a header names."""
    names = [line.split()[0] for line in _lines(_text(header))[1:]]
    return {header.parent / file for name in names for file in (name, f"{name}.hea")}


def channel_names(path: Path) -> tuple[str, ...]:
    """The channels of the header that stands at the beginning of segments of differing channels."""
    return tuple(_signal(path, line.split()).name for line in _lines(_text(path))[1:])


def _signal(path: Path, row: Sequence[str]) -> SignalLine:
    spec = _FORMAT.fullmatch(row[1]) if len(row) > 1 else None
    gain = _GAIN.fullmatch(row[2]) if len(row) > 2 else None
    if spec is None or (gain is None and len(row) > 2):
        raise InputError(f"{path}: {' '.join(row)[:60]!r} names no channel, expected as in `100.dat 212 200 11 1024`")
    steps = float(gain[1] or 0) if gain else 0.0
    zero = int(row[4]) if len(row) > 4 else 0
    return SignalLine(
        file=row[0],
        format=spec[1],
        per_frame=int(spec[2] or 1),
        skew=int(spec[3] or 0),
        offset=int(spec[4] or 0),
        gain=steps or _STEPS,
        baseline=int(gain[2]) if gain and gain[2] else zero,
        unit=(gain[3] if gain else None) or "mV",
        calibrated=bool(steps),
        name=" ".join(row[8:]),
    )


def _expect_inside(header: Path, name: str) -> None:
    """Raise InputError if a header names a file that is not in its folder or below."""
    place = PurePosixPath(name.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts or ":" in name:
        raise InputError(f"{header}: it names {name}, which is outside its folder. Only files beside it are read")


def _n_frame(header: Path, signals: Sequence[SignalLine], said: int) -> int:
    """How many frames there are; if the header does not say it, as many as the files have room for."""
    n_frame = said
    for name in dict.fromkeys(signal.file for signal in signals):
        inside = [signal for signal in signals if signal.file == name]
        path, width = header.parent / name, _BYTES.get(inside[0].format)
        if name == "~":
            continue
        if not path.is_file():
            raise InputError(f"{header}: it names {name}, which is not there. Put it beside the header")
        if width is None:
            continue
        there, frame = path.stat().st_size - inside[0].offset, width * sum(signal.per_frame for signal in inside)
        n_frame = n_frame or int(there / frame)
        if there < math.floor(n_frame * frame) or not n_frame:
            wanted = math.ceil(max(n_frame, 1) * frame) + inside[0].offset
            raise InputError(f"{path}: {path.stat().st_size} bytes, expected {wanted}. Is the file complete?")
    return n_frame


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
