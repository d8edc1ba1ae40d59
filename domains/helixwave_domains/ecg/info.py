"""What `helixwave ecg info` prints of a recording."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from helixwave.console import console
from helixwave.file_info import show_each
from rich.markup import escape
from rich.table import Table

from helixwave_domains.ecg.formats import Declared, find_recordings, read_recording
from helixwave_domains.ecg.quality import LeadQuality, assess
from helixwave_domains.ecg.recording import Recording

Assessed = tuple[Recording, Mapping[str, LeadQuality]]

# marks are counted by symbol, and by text where they have one, as rhythms do: the most frequent ones are shown
_MARKS = 12


def show_info(inputs: Iterable[Path | str], declared: Declared = Declared(), as_json: bool = False) -> bool:  # noqa: B008
    """Print what files hold and how good each lead is, as tables or as one line of JSON a file.

    Returns:
        whether all of them could be read; those that could not are printed with the reason.

    Raises:
        InputError: a file is not there, or a folder holds no ECG.
    """
    found = find_recordings(inputs)

    def read(path: Path) -> Assessed:
        recording = read_recording(path, declared)
        return recording, assess(recording)

    complete = show_each(
        found.paths, read, show=lambda known: _show(*known), plain=lambda known: _plain(*known), as_json=as_json
    )
    for path in [] if as_json else found.skipped:
        console.print(escape(f"skipped, no ECG: {path}"))
    return complete


def _show(recording: Recording, quality: Mapping[str, LeadQuality]) -> None:
    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    for name, value in _facts(recording):
        facts.add_row(name, escape(value))
    leads = Table(box=None, pad_edge=False)
    for head in ("lead", "in the file", "units"):
        leads.add_column(head, no_wrap=True)
    for head in ("swing mV", "missing %", "flat s", "<0.5 Hz %", "hum mV"):
        leads.add_column(head, justify="right", no_wrap=True)
    leads.add_column("quality")
    for lead, name, units in zip(recording.leads, recording.names, recording.units, strict=True):
        found = quality[lead]
        leads.add_row(*map(escape, (lead, name, units.partition(" (")[0], *_figures(found))), _flags(found))
    console.print(facts)
    console.print()
    console.print(leads)
    console.print()


def _facts(recording: Recording) -> Iterator[tuple[str, str]]:
    yield "file", str(recording.source)
    yield "format", recording.format
    yield "length", f"{recording.seconds:g} s, {recording.n_sample} samples at {recording.rate:g} Hz"
    yield "units", ", ".join(dict.fromkeys(recording.units))
    yield "labels", "not said" if recording.labels is None else ", ".join(recording.labels) or "none"
    if recording.annotations:
        counted = _marks(recording).most_common()
        shown = [f"{mark} {count}" for mark, count in counted[:_MARKS]]
        yield "marks", ", ".join([*shown, *([f"{len(counted) - _MARKS} other kinds"] if counted[_MARKS:] else [])])
    for name, value in recording.facts.items():
        yield name, value if isinstance(value, str) else f"{value:g}"
    for note in recording.notes:
        yield "note", note


def _figures(found: LeadQuality) -> tuple[str, ...]:
    return (
        "-" if math.isnan(found.amplitude) else f"{found.amplitude:.2f}",
        f"{100 * found.missing:.1f}",
        f"{found.longest_flat:.2f}",
        f"{100 * found.wander:.0f}",
        f"{found.hum:.3f}",
    )


def _flags(found: LeadQuality) -> str:
    return f"[yellow]{escape(', '.join(found.flags))}[/]" if found.flags else "good"


def _marks(recording: Recording) -> Counter[str]:
    return Counter(f"{mark.symbol} {mark.text}".strip() for mark in recording.annotations)


def _plain(recording: Recording, quality: Mapping[str, LeadQuality]) -> dict[str, Any]:
    """What JSON can hold, with null for figures that there are none of."""
    rows = zip(recording.leads, recording.names, recording.units, strict=True)
    return {
        "file": str(recording.source),
        "format": recording.format,
        "rate": recording.rate,
        "samples": recording.n_sample,
        "seconds": recording.seconds,
        "leads": [{"name": name, "units": units, **_finite(asdict(quality[lead]))} for lead, name, units in rows],
        "labels": None if recording.labels is None else list(recording.labels),
        "annotations": dict(_marks(recording)),
        "facts": dict(recording.facts),
        "notes": list(recording.notes),
    }


def _finite(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in figures.items()}
