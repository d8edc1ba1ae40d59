"""From the channels of a file to a recording: which are leads, what a number is worth, and what the user declares."""

import importlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from helixwave.errors import InputError
from helixwave.files import reading
from numpy.typing import NDArray

from helixwave_domains.ecg.leads import canonical_lead, order_leads
from helixwave_domains.ecg.recording import Annotation, Recording, Signal

Read = Callable[[int, int], NDArray[Any]]
"""Values `[channels, stop - start]` of the samples from `start` up to `stop`, NaN where nothing was recorded."""

COMMENT = '"'
"""The symbol of a mark that is neither a beat nor a rhythm."""

_NUMBER = re.compile(r"([\d.]+(?:e[+-]?\d+)?)?\s*([^\d\s]+)", re.IGNORECASE)
_MILLIVOLTS = {"mv": 1.0, "millivolt": 1.0, "uv": 1e-3, "microvolt": 1e-3, "nv": 1e-6, "v": 1e3, "volt": 1e3}
# types of signals in the EDF+ specification that are no ECG although they may be voltages
_OTHER = re.compile(r"(EEG|EOG|EMG|ERG|MEG|MCG|EP|Temp|Resp|SaO2|Light|Sound|Event|Status|Trigger)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Declared:
    """What the user says of a file. It counts more than what the file says, and a note tells where the two differ.

    Args:
        units: of one step of the numbers: `mV`, `uV`, `V`, or with a factor, as in `4.88uV`.
        rate: samples a second.
        leads: names of the channels in the order of the file.
    """

    units: str | None = None
    rate: float | None = None
    leads: list[str] | None = None


@dataclass(frozen=True)
class Channels:
    """What a file says of its channels.

    Args:
        path, format: of the file.
        names: of the channels; None where it says none.
        units: of the values of `read`; None where it says none.
        rate: samples a second; None where it says nothing of it.
        n_sample: samples of each channel.
        read: values in these units.
        said: where the units stand: `header`.
        annotations, labels, facts, notes: of the recording.
    """

    path: Path
    format: str
    names: Sequence[str | None]
    units: Sequence[str | None]
    rate: float | None
    n_sample: int
    read: Read
    said: str = "header"
    annotations: tuple[Annotation, ...] = ()
    labels: tuple[str, ...] | None = None
    facts: Mapping[str, str | float] = field(default_factory=dict)
    notes: Sequence[str] = ()


class Format(Protocol):
    """A kind of file. To register one in the entry points `helixwave.ecg_formats` is all it takes to add it."""

    name: str
    suffixes: tuple[str, ...]
    """How its files usually end."""

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether a file that begins with `head` is of this kind."""
        ...

    def read(self, path: Path, declared: Declared) -> Recording:
        """The recording.

        Raises:
            InputError: it cannot be read.
        """
        ...


def millivolts(unit: str) -> float | None:
    """How many millivolts one step is, as in 0.001 for `uV`; None where it is no voltage."""
    found = _NUMBER.fullmatch(unit.strip().replace("µ", "u").replace("μ", "u"))
    if not found:
        return None
    name = found[2].lower()
    scale = _MILLIVOLTS.get(name) or _MILLIVOLTS.get(name.removesuffix("s"))
    return None if scale is None else scale * float(found[1] or 1)


def recording_of(channels: Channels, declared: Declared) -> Recording:
    """A recording of the channels that are leads, in canonical order and millivolts.

    Raises:
        InputError: names, units or the rate are neither in the file nor declared, or what is declared makes no sense.
    """
    notes = list(channels.notes)
    names = _names(channels, declared, notes)
    units = _units(channels, declared, names, notes)
    rate = _rate(channels, declared, notes)
    used = [place for place, unit in enumerate(units) if unit is not None]
    order, leads, said = order_leads([names[place] for place in used])
    if not leads:
        raise InputError(f"{channels.path}: no channel is an ECG, only {', '.join(names) or 'none at all'}")
    places = [used[place] for place in order]
    scales = np.array([[millivolts(units[place] or "")] for place in places])
    source = "declared" if declared.units else channels.said
    return Recording(
        leads=leads,
        rate=rate,
        n_sample=channels.n_sample,
        load=Millivolts(channels.read, places, scales),
        source=channels.path,
        format=channels.format,
        names=tuple(names[place] for place in places),
        units=tuple(f"{units[place]} ({source})" for place in places),
        annotations=channels.annotations,
        labels=channels.labels,
        facts=channels.facts,
        notes=(*notes, *said),
    )


@dataclass(frozen=True)
class Millivolts:
    """The `load` of a recording: the channels at `places`, each times its scale."""

    read: Read
    places: list[int]
    scales: NDArray[np.float64]

    def __call__(self, start: int, stop: int) -> Signal:
        return (self.read(start, stop)[self.places] * self.scales).astype(np.float32)


@runtime_checkable
class WritableFormat(Format, Protocol):
    """A kind of file that is also written."""

    written: tuple[str, ...]
    """How the files end that it writes."""

    def write(self, recording: Recording, path: Path) -> list[str]:
        """Write a recording and return what the format could not keep."""
        ...


def unreadable(path: Path, kind: str) -> AbstractContextManager[None]:
    """Turn whatever a library raises over a damaged file into one line."""
    return reading(path, f"not readable as {kind}", "Is the file complete?")


def package(name: str) -> Any:
    """An optional package, imported now.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"this file needs {name}, which is not there: pip install 'helixwave[ecg]'") from error


def _names(channels: Channels, declared: Declared, notes: list[str]) -> list[str]:
    said, wanted = channels.names, declared.leads
    if wanted is None:
        if None in said:
            raise InputError(
                f"{channels.path}: the {len(said)} channels have no names. Pass --leads with {len(said)} names, as in "
                "--leads I,II"
            )
        return [name or "" for name in said]
    if len(wanted) != len(said):
        raise InputError(f"{channels.path}: it has {len(said)} channels, --leads names {len(wanted)}")
    notes += [
        f"{name} is declared to be lead {lead}"
        for name, lead in zip(said, wanted, strict=True)
        if name and name != lead
    ]
    return list(wanted)


def _units(channels: Channels, declared: Declared, names: Sequence[str], notes: list[str]) -> list[str | None]:
    """The unit of each channel; None for those that are left out."""
    units: list[str | None] = []
    for name, said in zip(names, channels.units, strict=True):
        unit = declared.units or said
        if not canonical_lead(name) and _OTHER.match(name):
            notes.append(f"{name} is left out: no ECG")
            units.append(None)
        elif unit is None:
            raise InputError(f"{channels.path}: {name} has no units. Pass --units mV, uV, V or a step, as in 4.88uV")
        elif not canonical_lead(name) and said and millivolts(said) is None:
            notes.append(f"{name} is left out: its unit {said} is no voltage")
            units.append(None)
        else:
            units.append(_voltage(channels.path, name, unit))
    differing = sorted({said for said in channels.units if declared.units and said and said != declared.units})
    notes += [f"units {declared.units} are declared, the file says {said}" for said in differing]
    return units


def _voltage(path: Path, name: str, unit: str) -> str:
    if not millivolts(unit):
        raise InputError(f"{path}: {name} is in {unit!r}, expected mV, uV, V or a step, as in 4.88uV. Pass --units")
    return unit


def _rate(channels: Channels, declared: Declared, notes: list[str]) -> float:
    said, wanted = channels.rate, declared.rate
    rate = wanted if wanted is not None else said
    if rate is None:
        raise InputError(f"{channels.path}: it does not say its sampling rate. Pass --rate, as in --rate 500")
    if not (math.isfinite(rate) and rate > 0):
        raise InputError(f"{channels.path}: the sampling rate is {rate:g} Hz, expected more than 0. Pass --rate")
    if wanted is not None and said is not None and not math.isclose(wanted, said):
        notes.append(f"a rate of {wanted:g} Hz is declared, the file says {said:g} Hz")
    return float(rate)
