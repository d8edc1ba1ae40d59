"""A data set seen otherwise: each example goes through a function before it is put into a batch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from helixwave.data.source import Example, Picture, Source, Split
from helixwave.data.vocabulary import Vocabulary
from helixwave.errors import InputError

# what a source may say of how its inputs are made, which a change of examples leaves as it is
_KEPT = ("preprocessing", "reads")

Change = Callable[[Example, int, np.random.Generator | None], Example]
"""From an example, its number and what it may draw from (None: for evaluation) to another of the same length."""


class SplitView:
    """A split whose examples are changed."""

    def __init__(self, split: Split, change: Change, padding: int | float):
        self.split, self.change, self.padding = split, change, padding

    def __len__(self) -> int:
        return len(self.split)

    def length(self, index: int) -> int:
        return self.split.length(index)

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        return self.change(self.split.example(index, rng), index, rng)


class SourceView:
    """A source whose splits are changed.

    Args:
        padding: of the changed inputs, from that of the source's.
        vocabulary: of the changed inputs, if they are tokens.
    """

    def __init__(
        self,
        source: Source,
        change: Change,
        *,
        vocabulary: Vocabulary | None = None,
        padding: Callable[[int | float], int | float] = lambda padding: padding,
    ):
        def view(split: Split) -> SplitView:
            return SplitView(split, change, padding(split.padding))

        self.source, self.classes = source, source.classes
        if vocabulary is not None:
            self.vocabulary = vocabulary
        self.train: Split = view(source.train)
        self.validation: Split = view(source.validation)
        self.test: Split = view(source.test)
        for name in _KEPT:
            if hasattr(source, name):
                setattr(self, name, getattr(source, name))
        self.test_parts = {name: view(part) for name, part in parts_of_test(source).items()}

    def describe(self) -> dict[str, Any]:
        return self.source.describe()

    def export(self, model: Any, folder: Path) -> list[Picture]:
        return self.source.export(model, folder)


class Unlabelled(SourceView):
    """A source whose labels are not looked at."""

    def export(self, model: Any, folder: Path) -> list[Picture]:
        return []


def respelt(source: Source, tokens: list[str]) -> Source:
    """The source with inputs that are written with the tokens of another vocabulary."""
    own = vocabulary_of(source)
    if list(own.tokens) == tokens:
        return source
    table = own.ids_among(tokens)

    def change(example: Example, index: int, rng: np.random.Generator | None) -> Example:
        return {**example, "inputs": table[example["inputs"]]}

    return SourceView(source, change, vocabulary=own.among(tokens), padding=lambda padding: int(table[int(padding)]))


def vocabulary_of(source: Source) -> Vocabulary:
    """The tokens of a source's inputs.

    Raises:
        InputError: its inputs are no tokens.
    """
    found = getattr(source, "vocabulary", None)
    if found is None:
        raise InputError(
            f"data: the inputs of {type(source).__name__} are no tokens of a vocabulary, which this objective or start "
            "needs. Choose another data.name"
        )
    return found


def parts_of_test(source: Source) -> Mapping[str, Split]:
    """Parts of the test split that are scored on their own too, such as chromosomes; none where there is one alone."""
    return getattr(source, "test_parts", {})
