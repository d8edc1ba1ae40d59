"""Tokens by id."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helixwave.errors import InputError


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that a source's inputs are written with.

    Args:
        tokens: a token's id is its place among them.
        letters: those that carry what is to be learnt, such as the four bases. A language model is asked for these
            alone: what stands for padding, for a mask or for something unknown is never a target.
    """

    tokens: tuple[str, ...]
    letters: tuple[str, ...]

    @property
    def letter_ids(self) -> np.ndarray:
        """The ids of the letters, in their order `[n_letter]`."""
        return np.array([self.tokens.index(letter) for letter in self.letters])

    @property
    def mask(self) -> int:
        """The id of what hides a token.

        Raises:
            InputError: there is none.
        """
        if "[MASK]" not in self.tokens:
            raise InputError(
                f"objective: the vocabulary {list(self.tokens)} lacks [MASK]. Choose objective.name=causal"
            )
        return self.tokens.index("[MASK]")

    def among(self, tokens: Sequence[str]) -> "Vocabulary":
        """The same letters in a vocabulary of other tokens, which may have them in the other case.

        Raises:
            InputError: a letter is missing there.
        """
        places = [_place(letter, tokens) for letter in self.letters]
        for letter, place in zip(self.letters, places, strict=True):
            if place is None:
                raise InputError(
                    f"start: the checkpoint's vocabulary {list(tokens)} lacks {letter!r}, which the data have"
                )
        return Vocabulary(tuple(tokens), tuple(tokens[place] for place in places if place is not None))

    def ids_among(self, tokens: Sequence[str]) -> np.ndarray:
        """For each id the one that the token has among other tokens, that of [UNK] where they lack it."""
        unknown = _place("[UNK]", tokens)
        places = [_place(token, tokens) for token in self.tokens]
        return np.array([unknown if place is None else place for place in places], dtype=np.int64)


def _place(token: str, tokens: Sequence[str]) -> int | None:
    for spelling in (token, token.lower(), token.upper()):
        if spelling in tokens:
            return list(tokens).index(spelling)
    return None
