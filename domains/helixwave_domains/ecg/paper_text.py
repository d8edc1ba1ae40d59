"""Text on ECG paper, measured before it is set, so that nothing overlaps."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from helixwave.style import plain
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font

MM = 25.4
"""Millimetres of an inch."""

SMALL, NORMAL, LARGE = 7.0, 8.0, 11.0
"""Sizes in points."""

LINE = 4.2
"""From one line to the next, in millimetres."""

BETWEEN = "  ·  "


def put(axes: Axes, x: float, y: float, text: str, size: float = NORMAL, **style: Any) -> None:
    """Set a text whose left end and middle stand at (x, y), in millimetres."""
    axes.text(x, y, plain(text), fontsize=size, **{"va": "center", **style})


def width(text: str, size: float = NORMAL, weight: str = "normal") -> float:
    """Of a text, in millimetres."""
    font = _font(weight)
    font.set_size(size, 72)
    font.set_text(text)
    return font.get_width_height()[0] / 64 / 72 * MM


def printable(text: str) -> str:
    """A text in one line, with a box for each letter that the font lacks."""
    font = _font("normal")
    return "".join(letter if font.get_char_index(ord(letter)) else "□" for letter in " ".join(text.split()))


def _font(weight: str) -> FT2Font:
    return get_font(findfont(FontProperties(weight=weight)))


def fitted(text: str, room: float, size: float = NORMAL, weight: str = "normal") -> str:
    """A text that is not wider than `room`, in millimetres; what is too long ends in an ellipsis."""
    text = printable(text)
    if width(text, size, weight) <= room:
        return text
    cut = bisect_left(range(1, len(text)), True, key=lambda n: width(f"{text[:n]}…", size, weight) > room)
    return f"{text[:cut].rstrip()}…"


def wrapped(parts: Sequence[str], room: float, size: float = NORMAL, most: int = 4) -> list[str]:
    """Lines of parts with dots between them, at most so many; the last one says how many parts are left out."""
    lines: list[list[str]] = []
    for part in (fitted(part, room, size) for part in parts):
        if lines and width(BETWEEN.join([*lines[-1], part]), size) <= room:
            lines[-1].append(part)
        else:
            lines.append([part])
    more = sum(map(len, lines[most:]))
    if more:
        last = lines[most - 1]
        while last and width(BETWEEN.join([*last, _more(more)]), size) > room:
            last.pop()
            more += 1
        last.append(_more(more))
    return [BETWEEN.join(line) for line in lines[:most]]


def _more(count: int) -> str:
    return f"and {count} more"
