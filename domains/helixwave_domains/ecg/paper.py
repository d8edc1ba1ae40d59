"""The standard ECG-paper page: true scale, calibration pulse, lead labels, and what a model found."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from helixwave.errors import InputError
from helixwave.files import atomic_write
from helixwave.style import in_style
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from helixwave_domains.ecg import paper_header as header
from helixwave_domains.ecg.paper_layout import PAGE, SQUARE, Page, Row, Segment, lay_out, layout_of
from helixwave_domains.ecg.paper_text import LINE, NORMAL, SMALL, put, width, wrapped
from helixwave_domains.ecg.recording import Recording

if TYPE_CHECKING:
    from helixwave_domains.ecg.saliency import Saliency

# around the grid, and its least width, in millimetres
_MARGIN, _LEAST_WIDTH = 8.0, 200
# the paper's thin and thick lines: colour, width in points
_THIN, _THICK = ("#f7d3d6", 0.35), ("#eba6ad", 0.7)
_INK, _FAINT = "black", "0.5"
# eight pixels a millimetre, so that every line of the grid falls on a pixel
_DPI = 8 * 25.4
# the pulse of one millivolt, in seconds
_PULSE = 0.2
# marks of cut traces that are nearer than this are one, in millimetres
_APART = 3.0
_UNDATED: dict[str, dict[str, str | None]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


@in_style
def ecg_page(
    recording: Recording,
    *,
    layout: str | None = None,
    start: float | None = None,
    speed: float = 25.0,
    gain: float = 10.0,
    labels: Sequence[tuple[str, float]] = (),
    present: Collection[str] = (),
    flags: Sequence[str] = (),
    saliency: "Saliency | None" = None,
    title: str | None = None,
) -> Figure:
    """Ten seconds of a recording on ECG paper; a millimetre of the figure is one on paper.

    Each lead is drawn without its median. Leads that were not recorded leave a labelled space, limb leads that follow
    from others are drawn and marked. The paper is as large as rows and seconds need.

    Args:
        recording: what is drawn.
        layout: `3x4` (with a rhythm strip), `6x2`, `6x2+1`, `12x1` or `single`, the recording's own leads one below the
            other; None: what suits its leads.
        start: of the page, in seconds; None: where `saliency` is largest, or the beginning.
        speed: millimetres a second.
        gain: millimetres a millivolt.
        labels: names with probabilities, for the table at the top right.
        present: which of them are set in bold.
        flags: what is wrong with the signal, in a few words each.
        saliency: what a model looked at, drawn as a band behind the traces.
        title: instead of the file's name.

    Raises:
        InputError: an unknown layout, a start behind the end, or a scale that no paper has.
    """
    _expect_scale("speed", speed, 5, 200, "mm/s")
    _expect_scale("gain", gain, 1, 100, "mm/mV")
    chosen = start is None and saliency is not None
    if start is None:
        start = saliency.strongest(PAGE, recording.seconds) if saliency is not None else 0.0
    page = lay_out(recording, layout_of(recording, layout), start, gain)
    table = header.table_of(labels, present)
    paper = _Paper(page, speed, gain)
    above = header.heading_lines(
        header.heading(recording, page, title, flags, chosen), paper.width - 2 * _MARGIN - table.width - 4
    )
    paper.open(n_above=max(len(above), table.n_line), n_below=2)
    header.draw_heading(paper.axes, above, _MARGIN, paper.height - _MARGIN / 2)
    header.draw_table(paper.axes, table, paper.width - _MARGIN - table.width, paper.height - _MARGIN / 2)
    cut = paper.draw(saliency)
    paper.draw_footer(header.footing(recording, page, speed, gain, cut), saliency.what if saliency is not None else "")
    return paper.figure


def save_page(figure: Figure, path: Path | str) -> None:
    """Write a figure at its true size as PNG, PDF or SVG, by the ending of the name, the same bytes each time.

    Raises:
        InputError: another ending.
    """
    path = Path(path)
    kind = path.suffix[1:].lower()
    if kind not in _UNDATED:
        raise InputError(
            f"{path}: a page is written as .png, .pdf or .svg, not as {path.suffix or 'a file without ending'}"
        )
    with rc_context({"svg.hashsalt": "helixwave"}), atomic_write(path, "wb") as stream:
        figure.savefig(stream, format=kind, dpi=_DPI, metadata=_UNDATED[kind])


class _Paper:
    """A figure with one system of coordinates: millimetres from its lower left corner."""

    axes: Axes
    figure: Figure

    def __init__(self, page: Page, speed: float, gain: float):
        self.page, self.speed, self.gain = page, speed, gain
        self.pulse = _PULSE * speed
        self.lead_in = SQUARE * np.ceil((self.pulse + SQUARE) / SQUARE)
        self.grid_width = max(SQUARE * np.ceil((self.lead_in + PAGE * speed) / SQUARE), _LEAST_WIDTH)
        self.grid_height = sum(row.height for row in page.rows)
        self.width = self.grid_width + 2 * _MARGIN
        self.left = _MARGIN

    def open(self, n_above: int, n_below: int) -> None:
        """Make the figure, with room for lines above and below the grid."""
        self.bottom = _MARGIN / 2 + n_below * LINE + 1
        self.height = self.bottom + self.grid_height + 2 + n_above * LINE + _MARGIN / 2
        self.figure = Figure(figsize=(header.inches(self.width), header.inches(self.height)), facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.axes.set(xlim=(0, self.width), ylim=(0, self.height), autoscale_on=False)

    def x(self, second: float) -> float:
        """Where a second of the page stands."""
        return self.left + self.lead_in + second * self.speed

    def draw(self, saliency: "Saliency | None") -> bool:
        """Grid, bands, pulses and traces; whether some trace left its row."""
        self._draw_grid()
        top, cut = self.bottom + self.grid_height, False
        for row in self.page.rows:
            baseline = top - row.up
            cut |= self._draw_pulse(row, baseline)
            for number, segment in enumerate(row.segments):
                if saliency is not None and segment.trace is not None:
                    self._draw_band(segment, row, baseline, saliency)
                cut |= self._draw_segment(segment, row, baseline)
                if number:
                    x = self.x(segment.start)
                    self.axes.plot([x, x], [baseline - 3, baseline + 3], color=_INK, linewidth=0.6, linestyle="-")
            top -= row.height
        return cut

    def _draw_grid(self) -> None:
        right, top = self.left + self.grid_width, self.bottom + self.grid_height
        for step, (colour, linewidth), order in ((1, _THIN, 0.1), (SQUARE, _THICK, 0.2)):
            down = [[(x, self.bottom), (x, top)] for x in self.left + np.arange(0, self.grid_width + 0.5, step)]
            across = [[(self.left, y), (right, y)] for y in self.bottom + np.arange(0, self.grid_height + 0.5, step)]
            self.axes.add_collection(
                LineCollection(down + across, colors=colour, linewidths=linewidth, linestyles="-", zorder=order),
                autolim=False,
            )

    def _draw_pulse(self, row: Row, baseline: float) -> bool:
        """One millivolt, at the beginning of a row."""
        side = (self.lead_in - self.pulse) / 2
        steps = np.asarray([side / 2, side, side, side + self.pulse, side + self.pulse, self.lead_in - side / 2])
        return self._line(self.left + steps, baseline + self.gain * np.asarray([0, 0, 1, 1, 0, 0]), row, baseline)

    def _draw_segment(self, segment: Segment, row: Row, baseline: float) -> bool:
        left = self.x(segment.start)
        if segment.trace is None:
            put(self.axes, left + 1, baseline + 2, segment.label, SMALL, color=_FAINT)
            return False
        x = left + np.arange(len(segment.trace)) / self.page.rate * self.speed
        y = baseline + segment.trace * self.gain
        # the name stands above what is drawn beside it
        beside = y[(x < left + width(segment.label, NORMAL, "bold") + 2) & ~np.isnan(y)]
        highest, top = beside.max(initial=baseline), baseline + row.up
        above = top - 5 if highest > top else min(max(highest + 2.5, baseline + 5), top - 2)
        halo = [withStroke(linewidth=2, foreground="white")]
        put(self.axes, left + 1, above, segment.label, weight="bold", path_effects=halo, zorder=4)
        return self._line(x, y, row, baseline)

    def _line(self, x: np.ndarray, y: np.ndarray, row: Row, baseline: float) -> bool:
        """A line inside its row; whether it leaves it, which arrows mark."""
        low, high = baseline - row.down, baseline + row.up
        (line,) = self.axes.plot(x, y, color=_INK, linewidth=0.8, linestyle="-", solid_joinstyle="round")
        line.set_clip_path(Rectangle((0, low), self.width, high - low, transform=self.axes.transData))
        for beyond, at, marker in ((y > high, high - 1, "^"), (y < low, low + 1, "v")):
            where = x[beyond]
            places = where[np.diff(where, prepend=-np.inf) > _APART]
            if len(places):
                self.axes.plot(places, np.full(len(places), at), marker, color=header.CUT, markersize=4, zorder=4)
        return bool((y > high).any() or (y < low).any())

    def _draw_band(self, segment: Segment, row: Row, baseline: float, saliency: "Saliency") -> None:
        """What a model looked at, one shade for every half millimetre."""
        n = round(2 * segment.seconds * self.speed)
        values = saliency.at(segment.lead, self.page.start + segment.start + (np.arange(n) + 0.5) / n * segment.seconds)
        if values is None:
            return
        shade = np.empty((1, n, 4))
        shade[...], shade[0, :, 3] = to_rgba(header.BAND), header.STRONGEST * values
        extent = (
            self.x(segment.start),
            self.x(segment.start + segment.seconds),
            baseline - row.down,
            baseline + row.up,
        )
        self.axes.imshow(shade, extent=extent, aspect="auto", interpolation="nearest", zorder=1)

    def draw_footer(self, parts: Sequence[str], legend: str) -> None:
        """How the page was drawn, and at the right what a band means."""
        room = self.grid_width - (header.legend_width(legend) + 6 if legend else 0)
        for number, line in enumerate(wrapped(parts, room, SMALL, most=2)):
            put(self.axes, self.left, self.bottom - 1 - (number + 0.5) * LINE, line, SMALL)
        if legend:
            header.draw_legend(self.axes, legend, self.left + self.grid_width, self.bottom - 1 - 0.5 * LINE)


def _expect_scale(name: str, value: float, low: float, high: float, unit: str) -> None:
    if not low <= value <= high:
        raise InputError(f"{name} is {value:g} {unit}, expected {low:g} to {high:g} {unit}")
