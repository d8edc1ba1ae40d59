"""WFDB records: a header with signal files in the formats of PhysioNet, and annotations (wfdb)."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.ecg.formats.channels import Channels, Declared, package, recording_of, unreadable
from helixwave_domains.ecg.formats.wfdb_header import (
    Header,
    SignalLine,
    begins_header,
    channel_names,
    header_of,
    read_header,
)
from helixwave_domains.ecg.formats.wfdb_writer import write_wfdb
from helixwave_domains.ecg.leads import canonical_lead
from helixwave_domains.ecg.recording import Annotation, Recording

# the bits of a sample in each format; the lowest of their values means that it is missing
_BITS = {
    **dict.fromkeys(("16", "61", "160", "516"), 16),
    **dict.fromkeys(("80", "508"), 8),
    **dict.fromkeys(("310", "311"), 10),
    **dict.fromkeys(("24", "524"), 24),
    "212": 12,
    "32": 32,
}
_RECORD_FILES = ("", ".hea", ".dat", ".mat")


class WFDB:
    """A record named by its header, by another of its files, or without an ending.

    `100.hea`, `100.dat` and `100` have the annotations of `100.atr`; `100.qrs` has its own.
    """

    name = "WFDB"
    suffixes = (".hea",)
    written = (".hea",)

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether it is a header, or belongs to one."""
        return begins_header(head.decode("latin-1")) if path.suffix == ".hea" else header_of(path) != path

    def read(self, path: Path, declared: Declared) -> Recording:
        """The recording; its signals are read from the files piece by piece."""
        file = header_of(path)
        with unreadable(path, "a WFDB record"):
            header = read_header(file)
            record = _joined(header) if header.segments else _Segment(header)
            channels = Channels(
                path=file,
                format=self.name,
                names=record.names,
                units=record.units,
                rate=record.rate,
                n_sample=record.n_sample,
                read=record.read,
                annotations=_annotations(path, header, record.rate),
                labels=header.labels(),
                facts=header.facts(),
                notes=record.notes,
            )
        return recording_of(channels, declared)

    def write(self, recording: Recording, path: Path) -> list[str]:
        """Write it in format 16."""
        return write_wfdb(recording, path)


@dataclass(frozen=True)
class _Segment:
    """The channels of a header that have the rate of the ECG."""

    header: Header

    @cached_property
    def per_frame(self) -> int:
        """Samples in a frame of the first standard lead, or the most that a channel has."""
        signals = self.header.signals
        known = [signal.per_frame for signal in signals if canonical_lead(signal.name)]
        return known[0] if known else max(signal.per_frame for signal in signals)

    @cached_property
    def places(self) -> list[int]:
        """The channels that are read."""
        return [place for place, signal in enumerate(self.header.signals) if signal.per_frame == self.per_frame]

    @property
    def signals(self) -> list[SignalLine]:
        """Their lines in the header."""
        return [self.header.signals[place] for place in self.places]

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called."""
        return tuple(self.header.signals[place].name or f"channel {place + 1}" for place in self.places)

    @property
    def units(self) -> tuple[str, ...]:
        """Of the values that `read` gives."""
        return tuple(signal.unit for signal in self.signals)

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.header.rate * self.per_frame

    @property
    def n_sample(self) -> int:
        """Samples of each channel."""
        return self.header.n_frame * self.per_frame

    @property
    def notes(self) -> list[str]:
        """What is left out or taken for granted."""
        others = [signal for signal in self.header.signals if signal.per_frame != self.per_frame]
        plain = [name for name, signal in zip(self.names, self.signals, strict=True) if not signal.calibrated]
        return [
            *(f"{other.name} is left out: it has another rate" for other in others),
            *(f"{name} has no gain in the header: 200 steps are 1 mV, as the format says" for name in plain),
        ]

    def read(self, start: int, stop: int) -> NDArray[np.float64]:
        """Values in these units, NaN where the format says that they are missing."""
        digits = self._digits(start, stop) if start < stop else np.zeros((len(self.places), 0))
        gains, baselines, codes = self._scales
        values: NDArray[np.float64] = (digits - baselines) / gains
        values[digits == codes] = np.nan
        return values

    @cached_property
    def _scales(self) -> tuple[NDArray[np.float64], ...]:
        """The gain, the baseline and the digit for a missing sample of each channel, all `[channels, 1]`."""
        codes = [-(2 ** (_BITS[signal.format] - 1)) if signal.format in _BITS else np.nan for signal in self.signals]
        gains, baselines = [signal.gain for signal in self.signals], [signal.baseline for signal in self.signals]
        return tuple(np.array(row, np.float64)[:, None] for row in (gains, baselines, codes))

    def _digits(self, start: int, stop: int) -> NDArray[Any]:
        if self._is_plain:
            first = self.header.signals[0]
            shape = (self.header.n_frame, len(self.header.signals))
            path = self.header.path.parent / first.file
            return np.asarray(np.memmap(path, "<i2", "r", first.offset, shape)[start:stop].T)
        # format 8 says by how much a sample differs from the one before, so that it is read from the first one on
        differences = any(signal.format == "8" for signal in self.signals)
        first_frame = 0 if differences else start // self.per_frame
        read = package("wfdb").rdrecord(
            str(self.header.path.with_suffix("")),
            sampfrom=first_frame,
            sampto=-(-stop // self.per_frame),
            channels=self.places,
            physical=False,
            smooth_frames=False,
        )
        skipped = first_frame * self.per_frame
        return np.stack([channel[start - skipped : stop - skipped] for channel in read.e_d_signal])

    @property
    def _is_plain(self) -> bool:
        """Whether one file has all samples side by side, as most do: it is read without wfdb, some ten times faster."""
        signals = self.header.signals
        kinds = {(signal.file, signal.format, signal.per_frame, signal.skew) for signal in signals}
        return kinds == {(signals[0].file, "16", 1, 0)}


@dataclass(frozen=True)
class _Joined:
    """Segments one after the other, each with its length; None is a gap."""

    names: tuple[str, ...]
    segments: list[tuple[int, _Segment | None]]

    @cached_property
    def parts(self) -> list[_Segment]:
        """The segments that are no gaps."""
        return [segment for _, segment in self.segments if segment]

    @property
    def units(self) -> tuple[str, ...]:
        """Of each channel, as the first segment with it says."""
        said = {name: unit for part in reversed(self.parts) for name, unit in zip(part.names, part.units, strict=True)}
        return tuple(said.get(name, "mV") for name in self.names)

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.parts[0].rate

    @property
    def n_sample(self) -> int:
        """Samples of all segments and gaps."""
        return sum(length for length, _ in self.segments)

    @property
    def notes(self) -> list[str]:
        """What is joined, left out or taken for granted."""
        gaps = len(self.segments) - len(self.parts)
        joined = f"{len(self.parts)} segments and {gaps} gaps are joined"
        return list(dict.fromkeys([joined, *(note for part in self.parts for note in part.notes)]))

    def read(self, start: int, stop: int) -> NDArray[np.float64]:
        """Values of all channels, NaN where a segment does not have one."""
        values = np.full((len(self.names), stop - start), np.nan)
        begin = 0
        for length, segment in self.segments:
            first, last = max(start, begin), min(stop, begin + length)
            if segment and first < last:
                alike = segment.names == self.names
                rows = range(len(self.names)) if alike else map(self.names.index, segment.names)
                values[list(rows), first - start : last - start] = segment.read(first - begin, last - begin)
            begin += length
        return values


def _joined(header: Header) -> _Joined:
    segments = [(length, _part(header, name, length)) for name, length in header.segments if length]
    parts = [segment for _, segment in segments if segment]
    if not parts:
        raise InputError(f"{header.path}: none of its segments has a signal")
    units = {(name, unit) for part in parts for name, unit in zip(part.names, part.units, strict=True)}
    if len({part.rate for part in parts}) > 1 or len({name for name, _ in units}) < len(units):
        raise InputError(f"{header.path}: its segments differ in rate or units. Read them one by one")
    first, length = header.segments[0]
    layout = channel_names(header.path.with_name(f"{first}.hea")) if length == 0 else ()
    found = layout or tuple(dict.fromkeys(name for part in parts for name in part.names))
    alike = all(part.names == parts[0].names for part in parts)
    return _Joined(
        parts[0].names if alike else found, [(length * parts[0].per_frame, part) for length, part in segments]
    )


def _part(header: Header, name: str, length: int) -> _Segment | None:
    if name == "~":
        return None
    segment = _Segment(read_header(header.path.with_name(f"{name}.hea")))
    if segment.header.n_frame != length:
        raise InputError(f"{segment.header.path}: {segment.header.n_frame} samples, {header.path.name} says {length}")
    return segment


def _annotations(path: Path, header: Header, rate: float) -> tuple[Annotation, ...]:
    record = header.path.with_suffix("")
    other = path.suffix not in _RECORD_FILES and path.with_suffix("") == record
    file = path if other else header.path.with_suffix(".atr")
    if not file.is_file():
        return ()
    with unreadable(file, "WFDB annotations"):
        read = package("wfdb").rdann(str(record), file.suffix[1:])
    scale = rate / (read.fs or header.rate)
    texts = (text.strip("\x00 ") for text in read.aux_note)
    marks = zip(read.sample, read.symbol, texts, strict=True)
    return tuple(Annotation(round(int(sample) * scale), symbol, text) for sample, symbol, text in marks)
