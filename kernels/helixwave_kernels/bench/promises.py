"""The speeds the operators are meant to reach, and whether the rows of a run reach them."""

import math
from collections.abc import Iterable, Sequence
from statistics import linear_regression
from typing import NamedTuple

from helixwave_kernels.bench.contenders import REFERENCE
from helixwave_kernels.bench.measure import Row

# exponents are fitted from here, where what a call costs at any length no longer matters
LONG = 4096
GROWTH = 1.2
WORDS = {"forward": "forward", "both": "forward and backward"}


class Outcome(NamedTuple):
    """A promise beside what came of it; `measured` is empty where the run does not tell."""

    operator: str
    promise: str
    promised: str
    measured: str = ""
    met: bool = False


class Growth(NamedTuple):
    """The exponents of T in time and memory of forward and backward, up to the longest T that was measured.

    `time` is of passes whose memory is at hand, `fresh` of those in the tables: the system clears every page that a
    process gets, and the C library asks for new ones in each pass once the tensors are large.
    """

    longest: int
    time: float | None
    fresh: float | None
    memory: float | None


class Faster(NamedTuple):
    """At T, `impl` takes at most a `least`th part of the peer's time for the passes named by `what`."""

    operator: str
    impl: str
    peer: str
    what: str
    T: int
    least: float

    @property
    def needs(self) -> dict[int, set[str]]:
        return {self.T: {self.impl, self.peer}}

    def outcome(self, rows: Sequence[Row]) -> Outcome:
        text = f"{self.impl} against {self.peer}, {WORDS[self.what]}, T = {self.T}"
        ours, theirs = (_value(rows, self.operator, name, self.T, self.what) for name in (self.impl, self.peer))
        ratio = theirs / ours if ours and theirs else None
        return _outcome(self.operator, text, ratio, least=self.least, unit="x")


class AsAccurate(NamedTuple):
    """The error of `impl` against the reference in float64 is at most the peer's."""

    operator: str
    impl: str
    peer: str

    @property
    def needs(self) -> dict[int, set[str]]:
        return {}

    def outcome(self, rows: Sequence[Row]) -> Outcome:
        ours, theirs = (_error(rows, self.operator, name) for name in (self.impl, self.peer))
        ratio = theirs / ours if ours and theirs else None
        return _outcome(self.operator, f"error of {self.peer} over that of {self.impl}", ratio, least=1, unit="x")


class Accurate(NamedTuple):
    """The error of `impl` against the reference in float64, in outputs, states and every gradient."""

    operator: str
    impl: str
    most: float

    @property
    def needs(self) -> dict[int, set[str]]:
        return {}

    def outcome(self, rows: Sequence[Row]) -> Outcome:
        text = f"{self.impl}'s error in outputs, states and gradients"
        return _outcome(self.operator, text, _error(rows, self.operator, self.impl), most=self.most)


class Grows(NamedTuple):
    """Forward and backward cost at most so many times more at `long` than at `short`."""

    operator: str
    impl: str
    short: int
    long: int
    most: float

    @property
    def needs(self) -> dict[int, set[str]]:
        return {self.short: {self.impl}, self.long: {self.impl}}

    def outcome(self, rows: Sequence[Row]) -> Outcome:
        text = f"{self.impl}, {WORDS['both']}, T = {self.long} against T = {self.short}"
        short, long = (_value(rows, self.operator, self.impl, T, "both") for T in (self.short, self.long))
        ratio = long / short if short and long else None
        return _outcome(self.operator, text, ratio, most=self.most, unit="x")


Promise = Faster | AsAccurate | Accurate | Grows

PROMISES: list[Promise] = [
    *(
        Faster("selective_scan", "native", "mambapy parallel scan", what, T, 40)
        for what in ("forward", "both")
        for T in (4096, 16384)
    ),
    Faster("selective_scan", "native", "mambapy loop", "both", 1024, 1000),
    Faster("selective_scan", "chunked", "mambapy parallel scan", "forward", 4096, 2.5),
    Faster("selective_scan", "chunked", "mambapy parallel scan", "both", 4096, 2.5),
    Faster("diagonal_ssm", "native", "S4D kernel and FFT", "forward", 4096, 100),
    Faster("s4_kernel", "chunked", "naive Cauchy form", "forward", 16384, 20),
    AsAccurate("s4_kernel", "chunked", "naive Cauchy form"),
    Faster("mlstm", "chunked", "xlstm chunkwise", "both", 8192, 4),
    Accurate("mlstm", "chunked", 5e-6),
    Grows("mlstm", "chunked", 2048, 8192, 5),
    Faster("recurrent", "native", "xlstm vanilla", "forward", 2048, 20),
    Faster("recurrent", "native", "xlstm vanilla", "both", 2048, 50),
    Faster("recurrent", "native", "nn.LSTM, same width", "forward", 2048, 1),
    Faster("recurrent", "native", "nn.LSTM, same width", "both", 2048, 1),
    Faster("recurrent", "chunked", "xlstm vanilla", "forward", 2048, 3),
    Faster("delta_rule", "native", "fla naive chunkwise", "forward", 1024, 2.5),
    Faster("delta_rule", "native", "fla naive chunkwise", "both", 1024, 4),
    Faster("ssd", "chunked", "einsum form", "forward", 1024, 1.8),
    Faster("ssd", "chunked", "einsum form", "forward", 4096, 1.8),
]


def lengths_beside(operator: str, lengths: Iterable[int]) -> dict[int, set[str]]:
    """Who has to be measured at which further lengths for the operator's promises to be judged."""
    wanted: dict[int, set[str]] = {}
    for promise in PROMISES:
        if promise.operator == operator:
            for T, names in promise.needs.items():
                wanted[T] = wanted.get(T, set()) | names
    return {T: names for T, names in wanted.items() if T not in lengths}


def outcomes(rows: Sequence[Row]) -> list[Outcome]:
    """All promises for the operators that were measured, their growth last."""
    operators = list(dict.fromkeys(row.operator for row in rows))
    judged = [promise.outcome(rows) for promise in PROMISES if promise.operator in operators]
    for operator in operators:
        fits = exponents(rows, operator).values()
        for what, values in (
            ("time, its memory at hand,", [fit.time for fit in fits]),
            ("memory", [fit.memory for fit in fits]),
        ):
            known = [value for value in values if value is not None]
            complete = known if len(known) == len(values) else []
            text = f"exponent of {what} in T, {WORDS['both']}, the largest of our implementations"
            judged.append(_outcome(operator, text, max(complete, default=None), most=GROWTH))
    return judged


def exponents(rows: Sequence[Row], operator: str) -> dict[str, Growth]:
    """How time and memory of forward and backward grow with T, for each implementation but the reference."""
    ours = [row for row in rows if row.operator == operator and row.kind == "ours" and row.name != REFERENCE]
    fits = {}
    for name in dict.fromkeys(row.name for row in ours):
        mine = [row for row in ours if row.name == name]
        longest = max((row.length for row in mine if row.both is not None), default=0)
        columns = ([(row.length, getattr(row, what)) for row in mine] for what in ("steady", "both", "peak"))
        fits[name] = Growth(longest, *map(exponent, columns))
    return fits


def exponent(points: Iterable[tuple[int, float | None]]) -> float | None:
    """p of the least-squares fit of T ** p to long lengths; None where fewer than two are known."""
    known = [(math.log(T), math.log(value)) for T, value in points if T >= LONG and value and value > 0]
    return linear_regression(*zip(*known, strict=True)).slope if len(known) > 1 else None


def _value(rows: Sequence[Row], operator: str, name: str, T: int, what: str) -> float | None:
    found = (row for row in rows if (row.operator, row.name, row.length) == (operator, name, T))
    return next((getattr(row, what) for row in found), None)


def _error(rows: Sequence[Row], operator: str, name: str) -> float | None:
    found = [row.error for row in rows if (row.operator, row.name) == (operator, name) and row.error is not None]
    return max(found, default=None)


def _outcome(
    operator: str, text: str, value: float | None, *, least: float = -math.inf, most: float = math.inf, unit: str = ""
) -> Outcome:
    promised = f">= {least:g}{unit}" if math.isfinite(least) else f"<= {most:g}{unit}"
    if value is None:
        return Outcome(operator, text, promised)
    return Outcome(operator, text, promised, f"{value:.3g}{unit}", least <= value <= most)
