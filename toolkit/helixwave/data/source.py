"""What a data set offers to the trainer, whatever its field."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Example(TypedDict):
    """One sequence: inputs `[T]` (tokens) or `[T, C]` (signals), and its target.

    That is a class for all of it or one per position `[T]`, or labels or numbers in float32, `[n]` or `[T, n]`.
    """

    inputs: np.ndarray
    target: np.ndarray | int


class Batch(TypedDict):
    """Right-padded examples: inputs `[B, T, ...]`, lengths `[B]`, and targets.

    Classes are `[B]` or `[B, T]`, -100 where nothing is scored; labels and numbers `[B, n]` or `[B, T, n]`, NaN there.
    `objective` is the number of the objective that learns from them, 0 for the recipe's own.
    """

    inputs: Tensor
    lengths: Tensor
    target: Tensor
    objective: int


@dataclass(frozen=True)
class Picture:
    """A figure for the report with the sentence that says what to see in it.

    Args:
        table: what it shows as columns of one length; written beside the report, named after the title.
        frames: an animation that the report shows below the figure, uint8 `[T, H, W]` or, in colours, `[T, H, W, 3]`.
    """

    title: str
    caption: str
    figure: "Figure"
    table: Mapping[str, Iterable[Any]] | None = None
    frames: np.ndarray | None = None

    @property
    def table_name(self) -> str:
        """The file of the table."""
        return f"{re.sub(r'[^a-z0-9]+', '_', self.title.lower()).strip('_')}.tsv"


class Split(Protocol):
    """Examples by number."""

    padding: int | float
    """What fills the inputs behind the end of a sequence."""

    def __len__(self) -> int: ...

    def length(self, index: int) -> int:
        """Positions of an example, for batches of similar length."""

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        """An example: augmented by draws from `rng`, or as it is if `rng` is None."""


class Source(Protocol):
    """A data set, split. Registered under `helixwave.datasets`; its constructor's arguments stand in the recipe.

    It may also have what `helixwave.data.views` asks for: a `vocabulary`, if its inputs are tokens, so that a language
    model can learn them; and `test_parts`. A published benchmark has the `metric` that others
    report, which judges a run where the recipe names none; one for estimators may have `test_groups`, masks of the test
    rows by name, which are scored on their own too. A source whose inputs are made from files of signals has
    `preprocessing`: how, in what JSON can hold, which a checkpoint keeps; and `reads`, arguments of a model that follow
    from its inputs, such as their channels. A split whose examples are pieces of something longer has `groups`, for
    each example the number of what it is a piece of, and `aggregate`, `mean` or `max`: what is judged is the whole.
    """

    classes: list[str]
    train: Split
    validation: Split
    test: Split

    def describe(self) -> dict[str, Any]:
        """Counts for the report: sizes, what was left out and why."""

    def export(self, model: Any, folder: Path) -> list[Picture]:
        """Write what a user of this data wants from a trained model into `folder`; return pictures for the report."""
