"""How a frame is read: what its columns are, how its cells are written, and what is done about its flaws."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

JoinedBy: TypeAlias = Literal["mean", "sum", "last"]


_ENDINGS = {".csv", ".tsv", ".txt", ".gz", ".parquet", ".pq"}


@dataclass(frozen=True)
class Columns:
    """What the columns of a frame are.

    Args:
        time: labels of steps.
        id: names of series that stand one above the other; None: there is one.
        targets: what is forecast; empty: every column of numbers that is nothing else.
        exogenous: known for the steps to come, too: rows behind the last target hold them.
        static: the same in all rows of a series.
    """

    time: str
    id: str | None = None
    targets: tuple[str, ...] = ()
    exogenous: tuple[str, ...] = ()
    static: tuple[str, ...] = ()

    @property
    def named(self) -> list[str]:
        return [self.time, *([] if self.id is None else [self.id]), *self.targets, *self.exogenous, *self.static]


@dataclass(frozen=True)
class Cells:
    """How the cells of a file are read.

    Args:
        decimal: what stands before the fraction of a number.
        time_format: of times, as in `%d.%m.%Y`; None: ISO 8601, or as the first looks, months before days.
        not_a_number: what to do with text among numbers.
    """

    decimal: Literal[".", ","] = "."
    time_format: str | None = None
    not_a_number: Literal["error", "missing"] = "error"


@dataclass(frozen=True)
class Repairs:
    """What is done about flaws.

    Args:
        sort: whether rows are put in the order of time.
        duplicates: which of several rows of one time counts.
        frequency: the step of the grid; None: the one that most neighbours are apart.
        resample: how rows that lie in one step of `frequency` become one; None: each row is a step.
        gaps: whether steps without a row are added, with missing values.
        missing: what becomes of missing values: those between others by interpolation, those at an end the nearest, or
            kept, for a model that takes them.
        ends: what becomes of series that end before the last: steps up to there with missing values, or forecasts from
            ends of their own.
    """

    sort: bool = False
    duplicates: Literal["error", "first", "last", "mean"] = "error"
    frequency: str | None = None
    resample: JoinedBy | None = None
    gaps: Literal["error", "fill"] = "error"
    missing: Literal["error", "interpolate", "keep"] = "error"
    ends: Literal["error", "missing", "own"] = "error"


def frame_name(path: Path) -> str:
    """The name of a file without the endings that frames have."""
    name = Path(path.name)
    while name.suffix.lower() in _ENDINGS:
        name = name.with_suffix("")
    return str(name)
