"""Where each lead stands on ECG paper: which layout, which seconds, which row, in millimetres."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from helixwave.errors import InputError, nearest

from helixwave_domains.ecg.leads import LEADS, missing_leads, with_leads
from helixwave_domains.ecg.recording import Recording, Signal

# seconds of a page
PAGE = 10.0
# of the paper's thick lines, in millimetres
SQUARE = 5
# a page of all rows grows up to this many times its least height before traces are cut off
_GROWTH = 2


@dataclass(frozen=True)
class Layout:
    """Leads in columns that follow one another in time, and rhythm strips as long as the page below them.

    Args:
        columns: leads of each column from above, as many in each.
        strips: leads of the rhythm strips.
        spacing: the least height of a row in millimetres.
    """

    columns: tuple[tuple[str, ...], ...]
    strips: tuple[str, ...] = ()
    spacing: int = 30

    @property
    def leads(self) -> tuple[str, ...]:
        """Every lead that has a place."""
        return tuple(dict.fromkeys([lead for column in self.columns for lead in column] + [*self.strips]))

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Leads of each row from the left."""
        return [*zip(*self.columns, strict=True), *((lead,) for lead in self.strips)]


_THREES = tuple(LEADS[i : i + 3] for i in range(0, 12, 3))
_SIXES = (LEADS[:6], LEADS[6:])
LAYOUTS = {
    "3x4": Layout(_THREES, ("II",)),
    "6x2": Layout(_SIXES, spacing=25),
    "6x2+1": Layout(_SIXES, ("II",), spacing=25),
    "12x1": Layout((LEADS,), spacing=20),
}
"""The standard pages; `+1` has a rhythm strip of lead II, as `3x4` always has."""

SINGLE = "single"
"""The recording's own leads one below the other, whatever they are."""


def layout_of(recording: Recording, name: str | None = None) -> Layout:
    """A layout by name; None: 3x4 for a recording with most of the twelve leads, else `single`.

    Raises:
        InputError: an unknown name.
    """
    if name is None:
        name = "3x4" if len(missing_leads(recording, LEADS)) <= 4 else SINGLE
    if name == SINGLE:
        return Layout((recording.leads,), spacing=30 if len(recording.leads) <= 4 else 20)
    if name not in LAYOUTS:
        raise InputError(f"no layout named {name!r}. {nearest(name, [*LAYOUTS, SINGLE])}")
    return LAYOUTS[name]


@dataclass(frozen=True)
class Segment:
    """Some seconds of one lead on paper.

    Args:
        lead: its name.
        label: what stands beside it.
        start, seconds: its time, the start from the beginning of the page.
        trace: its samples in millivolts without the median of the page; None if there is nothing to draw.
    """

    lead: str
    label: str
    start: float
    seconds: float
    trace: Signal | None


@dataclass(frozen=True)
class Row:
    """Segments beside one another, and how far up and down from their baseline there is room, in millimetres."""

    segments: tuple[Segment, ...]
    up: int
    down: int

    @property
    def height(self) -> int:
        """Of the row, in millimetres."""
        return self.up + self.down


@dataclass(frozen=True)
class Page:
    """What is drawn: rows, and what was done to them.

    Args:
        start: of the page in the recording, in seconds.
        rate: samples a second.
        rows: from above.
        offset: the largest median that was taken away, in millivolts.
        undrawn: leads that have no place in the layout.
    """

    start: float
    rate: float
    rows: tuple[Row, ...]
    offset: float
    undrawn: tuple[str, ...]


def lay_out(recording: Recording, layout: Layout, start: float, gain: float) -> Page:
    """A page of a recording from `start` on; `gain` in millimetres a millivolt.

    Raises:
        InputError: the recording does not reach to `start`.
    """
    if not 0 <= start < max(recording.seconds, 1e-9):
        raise InputError(
            f"{recording.source}: a page from second {start:g} on, but it has {recording.seconds:g} seconds. Choose an "
            "earlier start"
        )
    first = round(start * recording.rate)
    chosen = with_leads(recording, layout.leads, missing="zero")
    signal = chosen.load(first, min(first + round(PAGE * recording.rate), recording.n_sample))
    offsets = {lead: _median(trace) for lead, trace in zip(chosen.leads, signal, strict=True)}
    traces = {lead: trace - offsets[lead] for lead, trace in zip(chosen.leads, signal, strict=True)}
    lost = set(missing_leads(recording, layout.leads))
    rows = []
    for leads in layout.rows:
        segments = _segments(leads, {lead: traces[lead] for lead in leads if lead not in lost}, recording)
        rows.append(_row(segments, gain, layout.spacing))
    undrawn = tuple(lead for lead in recording.leads if lead not in layout.leads)
    offset = max(map(abs, offsets.values()), default=0.0)
    return Page(start, recording.rate, tuple(_bounded(rows, layout.spacing)), offset, undrawn)


def _segments(leads: Sequence[str], traces: dict[str, Signal], recording: Recording) -> tuple[Segment, ...]:
    seconds = PAGE / len(leads)
    edges = [round(number * seconds * recording.rate) for number in range(len(leads) + 1)]
    found = []
    for number, (lead, trace) in enumerate(zip(leads, map(traces.get, leads), strict=True)):
        part = None if trace is None else trace[edges[number] : edges[number + 1]]
        label = f"{lead}: not recorded" if part is None else lead if lead in recording.leads else f"{lead} (derived)"
        if part is not None and np.isnan(part).all():
            label, part = f"{lead}: {'no signal' if len(part) else 'ended before'}", None
        found.append(Segment(lead, label, number * seconds, seconds, part))
    return tuple(found)


def _row(segments: tuple[Segment, ...], gain: float, spacing: int) -> Row:
    """A row that all of its traces fit into, with a label above them and the calibration pulse."""
    known = [trace[~np.isnan(trace)] for s in segments if (trace := s.trace) is not None]
    values = np.concatenate([*known, np.zeros(1), np.ones(1)]) * gain
    up, down = (SQUARE * ceil(extent / SQUARE) for extent in (values.max() + SQUARE, 1 - values.min()))
    while up + down < spacing:
        up, down = (up + SQUARE, down) if up <= down else (up, down + SQUARE)
    return Row(segments, up, down)


def _bounded(rows: list[Row], spacing: int) -> list[Row]:
    """Rows that together are no higher than a page may be: the highest are cut, all to the same height."""
    most, height = max(row.height for row in rows), _GROWTH * spacing * len(rows)
    while sum(min(row.height, most) for row in rows) > height:
        most -= SQUARE
    return [_cut(row, most) for row in rows]


def _cut(row: Row, most: int) -> Row:
    if row.height <= most:
        return row
    up = min(max(SQUARE * round(most * row.up / row.height / SQUARE), SQUARE), most - SQUARE)
    return replace(row, up=up, down=most - up)


def _median(trace: Signal) -> float:
    known = trace[~np.isnan(trace)]
    return float(np.median(known)) if len(known) else 0.0
