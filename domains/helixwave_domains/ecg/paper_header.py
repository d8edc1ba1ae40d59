"""What stands above and below the grid of an ECG page: whose it is, what a model found, and how it was drawn."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from helixwave.style import COLOURS
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from helixwave_domains.ecg.paper_layout import PAGE, Page
from helixwave_domains.ecg.paper_text import LARGE, LINE, MM, SMALL, fitted, put, width, wrapped
from helixwave_domains.ecg.recording import Recording

BAND = COLOURS[0]
"""The colour of what a model looked at."""

STRONGEST = 0.45
"""How opaque that is where the model looked most."""

CUT = COLOURS[1]
"""The colour of arrows where a trace leaves its row."""

_GREY = "0.35"
# rows of the table of labels, and the widths of its columns in millimetres: name, bar, number
_MOST, _NAME, _BAR, _NUMBER = 8, 58.0, 22.0, 11.0
# an offset that is worth a word, in millivolts
_LARGE_OFFSET = 0.5


@dataclass(frozen=True)
class Table:
    """Labels with their probabilities, the most probable first.

    Args:
        rows: those that are drawn.
        present: which of them the model takes for present.
        rest: a line on the others, empty if all are drawn.
    """

    rows: Sequence[tuple[str, float]]
    present: Collection[str]
    rest: str

    @property
    def n_line(self) -> int:
        """Lines that it takes, with the one below it."""
        return len(self.rows) + bool(self.rest) + 1 if self.rows else 0

    @property
    def width(self) -> float:
        """In millimetres."""
        return _NAME + _BAR + _NUMBER if self.rows else 0.0


def table_of(labels: Sequence[tuple[str, float]], present: Collection[str]) -> Table:
    """The table of labels and probabilities in any order."""
    ordered = sorted(labels, key=lambda row: -row[1])
    rest = ordered[_MOST:]
    return Table(
        ordered[:_MOST], present, f"and {len(rest)} more, none above {ceil(100 * rest[0][1])} %" if rest else ""
    )


def percent(probability: float) -> str:
    """A probability in whole per cent; neither certain nor impossible by rounding."""
    if 0 < probability < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= probability < 1 else f"{100 * probability:.0f} %"


def draw_table(axes: Axes, table: Table, left: float, top: float) -> None:
    """Bars of probabilities, from `top` downwards."""
    for number, (name, probability) in enumerate(table.rows):
        weight = "bold" if name in table.present else "normal"
        y = top - (number + 0.5) * LINE
        put(axes, left, y, fitted(name, _NAME - 3, SMALL, weight), SMALL, weight=weight)
        for share, colour in ((1.0, "0.9"), (float(np.clip(probability, 0, 1)), COLOURS[0])):
            axes.add_patch(Rectangle((left + _NAME, y - 1.2), _BAR * share, 2.4, facecolor=colour, linewidth=0))
        put(axes, left + table.width, y, percent(probability), SMALL, weight=weight, ha="right")
    below = [*([table.rest] if table.rest else []), "Estimates of a model, no diagnosis."]
    for number, line in enumerate(below if table.rows else []):
        put(axes, left, top - (len(table.rows) + number + 0.5) * LINE, line, SMALL, color=_GREY)


def heading(recording: Recording, page: Page, title: str | None, flags: Sequence[str], chosen: bool) -> list[list[str]]:
    """Parts of the lines above the grid: title, patient and recording, which page it is, what is wrong with it."""
    facts = recording.facts
    age, sex = facts.get("age"), facts.get("sex")
    person = [f"{age:g} years" if isinstance(age, float | int) else f"{age} years"] if _known(age) else []
    recorded = [f"{len(recording.leads)} lead{'s' * (len(recording.leads) > 1)}", f"{recording.rate:g} Hz"]
    lines = [[title or recording.source.name], [*([str(sex)] if _known(sex) else []), *person, *recorded]]
    lines[1] += [f"{recording.seconds:.1f} s", recording.format]
    if recording.seconds > PAGE or page.start:
        stop = min(page.start + PAGE, recording.seconds)
        which = "where the model looked most, " if chosen else ""
        lines.append([f"this page: {which}{clock(page.start)} to {clock(stop)} of {clock(recording.seconds)}"])
    return [*lines, list(flags)] if flags else lines


def clock(seconds: float) -> str:
    """Hours, minutes, seconds and tenths."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    return f"{minutes // 60}:{minutes % 60:02}:{tenths / 10:04.1f}"


def _known(fact: object) -> bool:
    return fact is not None and fact != "" and fact == fact and str(fact).lower() not in {"unknown", "nan"}


def heading_lines(heading: Sequence[Sequence[str]], room: float) -> list[tuple[str, float, str]]:
    """What is set above the grid: text, size and colour of each line."""
    title, *others = heading
    lines = [(fitted(title[0], room, LARGE, "bold"), LARGE, "black")]
    for number, parts in enumerate(others):
        colour = "black" if number == 0 else _GREY
        lines += [(line, SMALL + 1, colour) for line in wrapped(parts, room, SMALL + 1)]
    return lines


def draw_heading(axes: Axes, lines: Sequence[tuple[str, float, str]], left: float, top: float) -> None:
    """The lines, from `top` downwards."""
    for number, (text, size, colour) in enumerate(lines):
        weight = "bold" if size == LARGE else "normal"
        put(axes, left, top - (number + 0.5) * LINE, text, size, color=colour, weight=weight)


def footing(recording: Recording, page: Page, speed: float, gain: float, cut: bool) -> list[str]:
    """Parts of the line below the grid: scales, and whatever was done to the traces."""
    parts = [f"{speed:g} mm/s", f"{gain:g} mm/mV", f"{recording.rate:g} Hz", "no filter"]
    if page.offset > _LARGE_OFFSET:
        parts.append(f"offset of the baseline removed, up to {page.offset:.1f} mV")
    if cut:
        parts.append(f"▲▼ trace leaves its row, draw it with {gain / 2:g} mm/mV")
    if page.undrawn:
        parts.append(f"not drawn: {', '.join(page.undrawn)}")
    return parts


def legend_width(what: str) -> float:
    """Of the legend of a saliency band, in millimetres."""
    return width(_legend(what), SMALL) + 2 + _BAR + 2 + width("most", SMALL)


def draw_legend(axes: Axes, what: str, right: float, y: float) -> None:
    """The legend of a saliency band, with its right end at `right`."""
    end = right - width("most", SMALL)
    shade = np.empty((1, 64, 4))
    shade[...], shade[0, :, 3] = to_rgba(BAND), np.linspace(0, STRONGEST, 64)
    axes.imshow(shade, extent=(end - 2 - _BAR, end - 2, y - 1.2, y + 1.2), aspect="auto", interpolation="nearest")
    put(axes, end, y, "most", SMALL)
    put(axes, end - 4 - _BAR, y, _legend(what), SMALL, ha="right")


def _legend(what: str) -> str:
    return f"influence on {fitted(what, 60, SMALL)}: none"


def inches(millimetres: float) -> float:
    """Of so many millimetres."""
    return millimetres / MM
