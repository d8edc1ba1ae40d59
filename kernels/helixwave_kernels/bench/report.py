"""Rows as Markdown that also reads well in a terminal."""

from collections.abc import Sequence
from typing import Any

from helixwave_kernels.bench import machine
from helixwave_kernels.bench.contenders import CHECKED, cases, refusals
from helixwave_kernels.bench.machine import Limits
from helixwave_kernels.bench.measure import Row
from helixwave_kernels.bench.promises import exponents, outcomes

HEADER = [
    *("T", "implementation", "forward ms", "wall", "both ms", "wall"),
    *("forward x", "both x", "triad", "matmul", "peak MB", "error"),
]
LEGEND = """\
- `forward ms` and `both ms` (forward and backward: the sum of y, differentiated by every argument) are {time},
  `wall` beside them the time by the clock: the best of three alternated runs or more, of fewer where they take seconds.
  At each turn the process first gives back what it has freed, so that no line profits from another one's memory.
- `forward x` and `both x` say how many times faster a line is than the first one of its length without \\*.
- `triad` and `matmul` hold what a forward pass has to read and write, and the operations of the plain recurrence,
  against the limits of the machine.
- `peak MB` is what one forward and backward pass adds to {memory}.
- `error` is the largest, over outputs, states and all gradients, of the difference from the reference in float64 at
  T <= {checked}, as root mean square over that of the value. The outputs of longer runs are compared with one another.
  What disagrees gets no time.
- \\* marks what means something else and is timed for scale.
"""
GROWTH = """\
Exponents of T in the cost of forward and backward, fitted by least squares of logarithms from T = 4096.
"""
FRESH_PAGES = """\
`time` is of passes whose memory is at hand, in a process that keeps what it frees. The tables below are of a process
with the settings that the C library comes with, where the system clears new pages for large tensors in every pass: the
exponent `with fresh pages`.
"""
OWN_TIME = {"cpu": "cpu time, summed over threads", "cuda": "the time between two events on the GPU"}
MEMORY = {"cpu": "a fresh process", "cuda": "the device memory that is in use"}


def operator_table(operator: str, rows: Sequence[Row], limits: Limits) -> str:
    """All rows of one operator."""
    lines = []
    for row in rows:
        name = row.name + (" \\*" if row.kind == "unlike" else "")
        if row.forward is None:
            lines.append([str(row.length), name, *["-"] * (len(HEADER) - 2)])
            continue
        times = [_digits(value) for value in (row.forward, row.forward_wall, row.both, row.both_wall)]
        first = next((other for other in rows if other.length == row.length and _is_measure(other)), row)
        ratios = [_ratio(first.forward, row.forward), _ratio(first.both, row.both)]
        error = "-" if row.error is None else f"{row.error:.0e}"
        lines.append([str(row.length), name, *times, *ratios, *_shares(row, limits), _digits(row.peak), error])
    return markdown(HEADER, lines)


def section(operator: str, rows: Sequence[Row], limits: Limits, device: str) -> str:
    """One operator: its sizes, its table, and who is missing and why."""
    sizes = ", ".join(f"{axis} = {size}" for axis, size in cases(operator).MEASURED.items())
    parts = [f"## {operator}\n", f"{sizes}, float32.\n", operator_table(operator, rows, limits)]
    notes = [f"- T = {row.length}: {row.name} {row.note}" for row in rows if row.note]
    notes += [f"- {name} cannot run here: {reason}" for name, reason in refusals(operator, device).items()]
    return "\n".join([*parts, "\n".join(notes) + "\n" if notes else ""]).rstrip() + "\n"


def page(rows: Sequence[Row], limits: Limits, device: str, command: str) -> str:
    """The whole run."""
    facts = machine.description(device)
    facts["triad from memory"] = f"{limits.triad / 1e9:.3g} GB/s"
    facts["float32 matrix product"] = f"{limits.matmul / 1e9:.3g} GFLOP/s"
    packages = ", ".join(f"{name} {version}" for name, version in machine.versions().items()) or "none"
    parts = [
        "# The operators, measured\n",
        f"Every figure comes from one run of\n\n    {command}\n",
        markdown(["machine", ""], [[name, value] for name, value in facts.items()]),
        f"Measured against, where installed: {packages}.\n",
    ]
    if device == "cpu":
        parts += ["## What is promised, and what was measured\n", promises_table(rows)]
    parts += [
        "## Growth\n",
        GROWTH + FRESH_PAGES * (device == "cpu"),
        growth_table(rows),
    ]
    legend = LEGEND.format(time=OWN_TIME[device], memory=MEMORY[device], checked=CHECKED)
    parts += ["## The tables\n", legend]
    for operator in dict.fromkeys(row.operator for row in rows):
        parts.append(section(operator, [row for row in rows if row.operator == operator], limits, device))
    return "\n".join(parts)


def no_gpu_page(command: str) -> str:
    """What stands where no GPU could be had."""
    return (
        "# The operators on a GPU\n\n"
        "No GPU could be had: `torch.cuda.is_available()` was false where this page was written. It holds no figure.\n"
        "`make gpu-check` on a machine with one writes it anew, with torch, triton, numpy and pytest alone:\n\n"
        f"    {command}\n"
    )


def promises_table(rows: Sequence[Row]) -> str:
    words = {True: "met", False: "**not met**"}
    lines = [
        [each.operator, each.promise, each.promised, each.measured or "-", words[each.met] if each.measured else "-"]
        for each in outcomes(rows)
    ]
    return markdown(["operator", "promise", "promised", "measured", ""], lines)


def growth_table(rows: Sequence[Row]) -> str:
    lines = [
        [operator, name, str(fit.longest), *("-" if value is None else f"{value:.2f}" for value in fit[1:])]
        for operator in dict.fromkeys(row.operator for row in rows)
        for name, fit in exponents(rows, operator).items()
    ]
    return markdown(["operator", "implementation", "up to T", "time", "with fresh pages", "memory"], lines)


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table with columns of equal width; figures to the right."""
    widths = [max(len(line[i]) for line in (header, *lines)) for i in range(len(header))]
    right = [all(_is_figure(line[i]) for line in lines) for i in range(len(header))]

    def row(cells: Sequence[str]) -> str:
        padded = (cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(cells, widths, right, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (width + 1) + (":" if r else "-") for width, r in zip(widths, right, strict=True))
    return "\n".join([row(header), f"|{rule}|", *map(row, lines)]) + "\n"


def _is_measure(row: Row) -> bool:
    """Whether ratios can be given against this row."""
    return row.forward is not None and row.kind != "unlike"


def _is_figure(cell: str) -> bool:
    return cell == "-" or cell[:1].isdigit()  # 12, 3%, 40x


def _shares(row: Row, limits: Limits) -> list[str]:
    work: Any = getattr(cases(row.operator), "work", None)
    if work is None or not row.forward:
        return ["-", "-"]
    moved, operations = work(T=row.length, **cases(row.operator).MEASURED)
    seconds = row.forward / 1e3
    return [f"{100 * moved / seconds / limits.triad:.0f}%", f"{100 * operations / seconds / limits.matmul:.0f}%"]


def _ratio(first: float | None, value: float | None) -> str:
    return f"{first / value:.3g}" if first and value else "-"


def _digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"
