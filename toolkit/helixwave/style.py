"""How all pictures look: colours that are told apart by every kind of colour vision, and lines that are by none."""

from cycler import cycler
from matplotlib import rc_context

# Okabe and Ito, "Color Universal Design", 2008, without its yellow, which is faint on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.")
MARKERS = "os^DvPX"
GREY = "0.6"
# from one way through white to the other, and from nothing to much
DIVERGING, SEQUENTIAL = "PuOr", "Blues"

_LINES = cycler(linestyle=DASHES) * cycler(color=COLOURS)

in_style = rc_context(
    {
        "axes.prop_cycle": _LINES,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "font.size": 9,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "lines.linewidth": 1.4,
    }
)
"""Decorates a function that draws."""


def plain(name: str) -> str:
    """A name as matplotlib shows it letter by letter: a pair of dollar signs would begin a formula."""
    return name.replace("$", r"\$")
