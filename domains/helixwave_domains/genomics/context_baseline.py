"""What a language model of DNA has to beat: how often each base stands between the bases around it."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from helixwave.data import Split
from helixwave.data.batches import IGNORED
from helixwave.data.views import SourceView
from helixwave.data.vocabulary import Vocabulary
from helixwave.errors import InputError
from numpy.typing import NDArray
from torch import Tensor

_BASES = 4
_UNSEEN = 1e-12


class BaseContext:
    """Counts of each base by the bases around it, or before it, in the training part, on both strands.

    The counts of a context are joined with the estimate from the context that is one base shorter (on each side), which
    counts as much as `strength` observations of its own. The size of the largest context and the strength are those
    that do best on the validation part.

    Args:
        sides: `both` for the objective `masked`, `left` for `causal`.
        sizes: bases on each side to choose from.
        strengths: to choose from.
    """

    def __init__(
        self,
        *,
        sides: Literal["both", "left"] = "both",
        sizes: Sequence[int] = (1, 2, 3, 4, 5),
        strengths: Sequence[float] = (1.0, 10.0, 100.0),
    ):
        self.sides, self.sizes, self.strengths, self.description = sides, sizes, strengths, ""

    def predict(self, data: SourceView) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[M, n_token]` and targets `[M]` of the scored positions of the test part."""
        if not isinstance(data, SourceView):
            raise InputError("baseline: base_context is for objective.name=masked and causal. Choose another, or null")
        counts = self._count(data)
        losses = {
            (size, strength): -np.log(probabilities[np.arange(len(truth)), truth]).mean()
            for strength in self.strengths
            for size, probabilities, truth in self._estimates(data.validation, data.vocabulary, counts, strength)
        }
        size, strength = min(losses, key=lambda pair: losses[pair])
        around = "on each side" if self.sides == "both" else "before it"
        self.description = (
            f"how often each base stands among the {size} bases {around}; the number and the smoothing, {strength:g}, "
            "chosen on the validation part"
        )
        estimates = self._estimates(data.test, data.vocabulary, counts, strength)
        probabilities, truth = next((p, t) for s, p, t in estimates if s == size)
        letters = data.vocabulary.letter_ids
        outputs = np.full((len(truth), len(data.vocabulary.tokens)), _UNSEEN)
        outputs[:, letters] = probabilities
        return torch.from_numpy(np.log(outputs)), torch.from_numpy(letters[truth])

    def _count(self, data: SourceView) -> list[NDArray[np.float64]]:
        """For each size from 0 how often each base has each context, `[n_context, 4]`."""
        split, vocabulary = data.source.train, data.vocabulary
        letters = _letters(_joined(split.example(i, None)["inputs"] for i in range(len(split))), vocabulary)
        counts = []
        for size in range(max(self.sizes) + 1):
            table = np.zeros((_BASES ** (size * (2 if self.sides == "both" else 1)), _BASES))
            for strand in (letters, np.where(letters < 0, -1, _BASES - 1 - letters)[::-1]):
                context = self._contexts(strand, size)
                known = (context >= 0) & (strand >= 0)
                np.add.at(table, (context[known], strand[known]), 1)
            counts.append(table)
        return counts

    def _estimates(
        self, split: Split, vocabulary: Vocabulary, counts: list[NDArray[np.float64]], strength: float
    ) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.int64]]]:
        """For each size the probabilities `[M, 4]` of the scored positions and what stands there `[M]`."""
        letters, truth = self._questions(split, vocabulary)
        scored = truth >= 0
        estimate = np.full((int(scored.sum()), _BASES), 1 / _BASES)
        for size, table in enumerate(counts):
            context = self._contexts(letters, size)[scored]
            # where a base of the context is hidden or beyond the window, a shorter one has to do
            seen = table[context] * (context >= 0)[:, None]
            estimate = (seen + strength * estimate) / (seen.sum(1, keepdims=True) + strength)
            if size in self.sizes:
                yield size, estimate, truth[scored]

    def _questions(self, split: Split, vocabulary: Vocabulary) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What is shown of all examples, and what is asked for at each of its positions, -1 for nothing."""
        examples = [split.example(i, None) for i in range(len(split))]
        inputs = _letters(_joined(example["inputs"] for example in examples), vocabulary)
        truth = _letters(_joined(np.asarray(example["target"]) for example in examples), vocabulary)
        # the next base is asked for one position before it
        return inputs, truth if self.sides == "both" else np.append(-1, truth[:-1])

    def _contexts(self, letters: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """The number of the bases around, or before, each position; -1 where one of them is unknown."""
        steps = [*range(-size, 0), *(range(1, size + 1) if self.sides == "both" else [])]
        padded = np.pad(letters, size, constant_values=-1)
        number, known = np.zeros(len(letters), dtype=np.int64), np.ones(len(letters), dtype=bool)
        for step in steps:
            neighbour = padded[size + step : size + step + len(letters)]
            number, known = number * _BASES + neighbour, known & (neighbour >= 0)
        return np.where(known, number, -1)


def _joined(pieces: Iterator[np.ndarray]) -> NDArray[np.int64]:
    """Token ids of windows with something that is no token between them."""
    return np.concatenate([part for piece in pieces for part in (piece, [IGNORED])])


def _letters(ids: NDArray[np.int64], vocabulary: Vocabulary) -> NDArray[np.int64]:
    """The numbers of the letters that ids stand for, -1 for everything else."""
    number = np.full(len(vocabulary.tokens) + 1, -1)
    number[vocabulary.letter_ids] = np.arange(_BASES)
    return number[np.where(ids < 0, len(number) - 1, ids)]
