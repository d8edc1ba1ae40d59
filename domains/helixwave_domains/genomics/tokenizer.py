"""From letters to a model's token ids, as its authors did it or as we do."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.genomics.alphabet import IUPAC, check_letters, count_iupac

Style = Literal["helixwave", "hyenadna", "hyenadna_hf", "caduceus", "plantcaduceus"]

# what stands around a sequence where special tokens are asked for, and whether the two cases of a letter are one token
_STYLES: dict[str, tuple[tuple[str, ...], tuple[str, ...], bool]] = {
    "helixwave": ((), (), True),
    # standalone_hyenadna.py: lower case is unknown
    "hyenadna": (("[CLS]",), ("[SEP]",), False),
    # tokenization_hyena.py of the hub's "-hf" checkpoints
    "hyenadna_hf": ((), ("[SEP]",), False),
    "caduceus": ((), ("[SEP]",), True),
    "plantcaduceus": ((), (), True),
}
_COMPLEMENTS = dict(zip("ACGTacgt", "TGCAtgca", strict=True))


class Tokenizer:
    """Letters of DNA as ids, one token a letter.

    Args:
        tokens: the vocabulary; a token's id is its place in it.
        style: whose behaviour: `helixwave` takes both cases of a letter for one, U for T, the IUPAC codes other than N
            for [UNK], and refuses what is no letter of DNA; the published ones take everything unknown for [UNK].
    """

    def __init__(self, tokens: Sequence[str], style: Style = "helixwave"):
        if style not in _STYLES:
            raise InputError(f"tokenizer: style is {style!r}, expected one of {', '.join(_STYLES)}")
        for token in ("[PAD]", "[MASK]", "[UNK]"):
            if token not in tokens:
                raise InputError(f"tokenizer: the vocabulary {list(tokens)} lacks {token}")
        before, after, fold = _STYLES[style]
        self.tokens, self.style = list(tokens), style
        self.pad, self.mask, self.unknown = (self.tokens.index(t) for t in ("[PAD]", "[MASK]", "[UNK]"))
        self.before, self.after = ([self.tokens.index(t) for t in group] for group in (before, after))
        self.ids = {token.upper(): i for i, token in enumerate(self.tokens) if len(token) == 1}
        """The id of each letter, in upper case."""
        self._table = self._byte_table(fold)

    @property
    def bases(self) -> NDArray[np.int64]:
        """The ids of A, C, G and T."""
        return np.array([self.ids[base] for base in "ACGT"])

    @property
    def n(self) -> int:
        """The id of N, which a vocabulary without it has as [UNK]."""
        return self.ids.get("N", self.unknown)

    @property
    def complement(self) -> list[int]:
        """For each id, that of the complementary base; its own if it is no base."""
        places = {token: i for i, token in enumerate(self.tokens)}
        return [places[_COMPLEMENTS.get(token, token)] for token in self.tokens]

    def encode(self, sequence: str | bytes, where: str = "sequence", *, special: bool = False) -> NDArray[np.int64]:
        """Ids of a sequence `[T]`, one a letter, and the style's special tokens around them if `special`.

        Raises:
            InputError: with style `helixwave`, something that is no letter of DNA.
        """
        if self.style == "helixwave":
            check_letters(sequence, where)
        letters = sequence.encode("ascii", "replace") if isinstance(sequence, str) else sequence
        ids = self._table[np.frombuffer(letters, dtype=np.uint8)]
        return np.concatenate([self.before, ids, self.after]).astype(np.int64) if special else ids

    def decode(self, ids: Sequence[int] | NDArray[np.integer]) -> str:
        """The tokens of ids, one after another."""
        return "".join(self.tokens[i] for i in ids)

    def count_unknown(self, sequence: str | bytes) -> int:
        """How many letters are IUPAC codes other than N, which no published vocabulary has."""
        return count_iupac(sequence)

    def _byte_table(self, fold: bool) -> NDArray[np.int64]:
        table = np.full(256, self.unknown, dtype=np.int64)
        for i, token in enumerate(self.tokens):
            if len(token) == 1:
                for letter in {token.upper(), token.lower()} if fold else {token}:
                    table[ord(letter)] = i
        if self.style == "helixwave":
            table[list(b"Uu")] = self.ids["T"]
        assert not set(self.ids) & set(IUPAC), "an ambiguity code has a token of its own"
        return table
