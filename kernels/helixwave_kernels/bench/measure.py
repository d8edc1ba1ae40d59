"""A race of all contenders for one operator, at each length."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from torch import Tensor

from helixwave_kernels.agreement import error
from helixwave_kernels.bench.contenders import Contender, Verdict, contenders, inputs, tolerance, verdict
from helixwave_kernels.bench.timing import Alone, Times, alone, both, forward, give_back_memory, timed

# milliseconds: what takes longer is run once, and at no greater length
SLOW = 20e3
# there are three turns, or fewer once LONG is spent, and up to ten until SHORT is; what is shorter runs twice in a turn
LEAST, MOST = 3, 10
LONG, SHORT = 3e3, 1e3


class Row(NamedTuple):
    """One line of a table; times in milliseconds, memory in MB, None where something was not measured.

    `forward` and `both` are the times that are compared, see `Times`; `peak` and `steady` are of both passes, see
    `Alone`; `error` is the largest of all results' against the reference in float64; `wrong` says that the contender
    gets no time because of what `note` tells.
    """

    operator: str
    length: int
    name: str
    kind: str
    forward_wall: float | None = None
    forward: float | None = None
    both_wall: float | None = None
    both: float | None = None
    peak: float | None = None
    steady: float | None = None
    error: float | None = None
    note: str = ""
    wrong: bool = False


def lengths(text: str) -> list[int]:
    """T from a command line, such as `1024,4096`: ascending, each once."""
    return sorted({int(part) for part in text.split(",")})


def measure(operator: str, lengths: Iterable[int], device: str = "cpu", names: set[str] | None = None) -> Iterator[Row]:
    """One row for each length and contender, peers first; `names` keeps some of them alone."""
    field = [_Runner(operator, each, device) for each in contenders(operator, device).values()]
    # y of the first one, the reference where it takes part, is what the others have to agree with at this length
    order = ("ours", "peer", "unlike")
    for T in sorted(lengths):
        race = [each for each in field if each.contender.longest >= T and (not names or each.contender.name in names)]
        for each in race:
            each.prepare(T)
        arguments, expected = inputs(operator, T, device), None
        for _ in range(MOST):
            for each in sorted(race, key=lambda each: order.index(each.contender.kind)):
                y = each.run(arguments, expected)
                expected = y if expected is None else expected
        yield from (each.row() for each in race)


class _Runner:
    """A contender on its way through the lengths."""

    def __init__(self, operator: str, contender: Contender, device: str):
        self.operator, self.contender, self.device = operator, contender, device
        self.verdict: Verdict | None = None
        self.too_slow = 0

    def prepare(self, T: int) -> None:
        """Forget the shorter length; check what has not been checked, and run it alone."""
        self.T, self.forward_times, self.both_times = T, list[Times](), list[Times]()
        self.alone, self.turns = Alone(), 0
        if self.verdict is None:
            self.verdict = self._check()
        self.note, self.wrong = self.verdict.problem, bool(self.verdict.problem)
        if self.too_slow:
            self.note = f"left out: took over {SLOW / 1e3:.0f} s at T = {self.too_slow}"
        if not self.note:
            self._run_alone()

    def run(self, arguments: dict[str, Any], expected: Tensor | None) -> Tensor | None:
        """Take the times of one more pass of each kind, unless enough is known; y of the first one, if it is right."""
        if self.note or self._known():
            return None
        kept = deque[Tensor](maxlen=1)
        self.turns += 1
        give_back_memory()
        self.forward_times += self._timed(lambda: kept.append(forward(self.contender.run, arguments)))
        y = kept.pop()
        if self.turns == 1 and self.contender.kind != "unlike" and expected is not None:
            distance = error(y, expected)
            if distance > tolerance(self.contender, self.device):
                self.note, self.wrong = f"disagrees with the others at this length: y is off by {distance:.0e}", True
                return None
        if not self.both_times or self.both_times[0].own <= SLOW:
            self.both_times += self._timed(lambda: both(self.contender.run, arguments))
        if self.both_times[0].own > SLOW or self.forward_times[0].own > SLOW:
            self.too_slow = self.T
        return None if self.contender.kind == "unlike" else y

    def row(self) -> Row:
        assert self.verdict is not None
        row = Row(self.operator, self.T, self.contender.name, self.contender.kind, error=self.verdict.error)
        if self.note:
            return row._replace(note=self.note, wrong=self.wrong)
        forward_wall, forward_own = map(min, zip(*self.forward_times, strict=True))
        both_wall, both_own = map(min, zip(*self.both_times, strict=True))
        row = row._replace(forward_wall=forward_wall, forward=forward_own, both_wall=both_wall, both=both_own)
        steady = both_own if self.device == "cuda" else self.alone.steady
        return row._replace(peak=self.alone.peak, steady=steady)

    def _timed(self, run: Callable[[], Any]) -> list[Times]:
        """Of two runs, if they are quick: the second finds the memory that the first has freed, as in any loop."""
        first = timed(run, self.device)
        return [first] if first.own > SHORT else [first, timed(run, self.device)]

    def _known(self) -> bool:
        spent = sum(times.own for times in (*self.forward_times, *self.both_times))
        return bool(self.too_slow or (self.turns and spent > (LONG if self.turns < LEAST else SHORT)))

    def _check(self) -> Verdict:
        try:
            return verdict(self.contender, self.operator, self.T, self.device)
        except Exception as failure:  # others' code may fail in any way, and the rest is measured without it
            self._tell(failure)
            return Verdict(None, f"fails with {type(failure).__name__}")

    def _run_alone(self) -> None:
        try:
            self.alone = alone(self.operator, self.contender.name, self.T, self.device)
        except Exception as failure:  # most likely there is too little memory
            self._tell(failure)
            self.note = f"left out: fails in a process of its own with {type(failure).__name__}"
            return
        if self.alone.times and self.alone.times.own > SLOW:
            self.both_times.append(self.alone.times)

    def _tell(self, failure: Exception) -> None:
        print(f"{self.operator}: {self.contender.name} at T = {self.T}: {failure}", file=sys.stderr)
