"""The published single-nucleotide vocabulary of HyenaDNA and Caduceus, and the other strand.

Only letters are translated here: which special tokens go around a sequence is the model's business.
Lower case (soft-masked) reads as upper case, U as T, the IUPAC ambiguity codes other than N as [UNK].
"""

from typing import TypeVar

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

VOCABULARY = ("[CLS]", "[SEP]", "[BOS]", "[MASK]", "[PAD]", "[RESERVED]", "[UNK]", "A", "C", "G", "T", "N")
CLS, SEP, BOS, MASK, PAD, RESERVED, UNK, A, C, G, T, N = range(12)

BASES = "ACGT"
# the bases that each IUPAC code stands for; the codes and their complements are those of NC-IUB (1984)
IUPAC = {
    "R": "AG",
    "Y": "CT",
    "S": "CG",
    "W": "AT",
    "K": "GT",
    "M": "AC",
    "B": "CGT",
    "D": "AGT",
    "H": "ACT",
    "V": "ACG",
}
# the complement of each token id: A<->T, C<->G, everything else stays
COMPLEMENT = np.array([CLS, SEP, BOS, MASK, PAD, RESERVED, UNK, T, G, C, A, N], dtype=np.uint8)

_INVALID = 255

AnyInteger = TypeVar("AnyInteger", bound=np.integer)


def encode(sequence: str | bytes, where: str = "sequence") -> NDArray[np.uint8]:
    """Token ids of a sequence, one per letter, without special tokens.

    Args:
        sequence: letters ACGTUN and the IUPAC codes RYSWKMBDHV, in either case.
        where: what to call the sequence in an error message, such as a record's name.

    Returns:
        ids `[T]`; `count_unknown` tells how many letters were ambiguity codes.
    """
    # a letter outside ASCII becomes "?", which is as unknown and keeps the positions
    letters = sequence.encode("ascii", "replace") if isinstance(sequence, str) else sequence
    ids = _ID_OF_BYTE[np.frombuffer(letters, dtype=np.uint8)]
    invalid = ids == _INVALID
    if invalid.any():
        position = int(invalid.argmax())
        raise _unknown_letter(sequence[position : position + 1], position, where)
    return ids


def check_letters(sequence: str | bytes, where: str, offset: int = 0) -> None:
    """Refuse a sequence with a letter outside the alphabet; `offset` is where the piece begins in its record."""
    letters = sequence.encode("ascii", "replace") if isinstance(sequence, str) else sequence
    # deleting all good letters in C is several times quicker than encoding
    if letters.translate(None, _LETTERS):
        position = next(i for i, letter in enumerate(letters) if letter not in _LETTERS)
        raise _unknown_letter(sequence[position : position + 1], position + offset, where)


def _unknown_letter(letter: str | bytes, position: int, where: str) -> InputError:
    shown = letter if isinstance(letter, str) else letter.decode("latin-1")
    return InputError(
        f"{where}: unknown letter {shown!r} at position {position + 1}. "
        f"Expected A, C, G, T, U, N or an IUPAC code ({', '.join(IUPAC)})."
    )


def decode(ids: NDArray[np.integer]) -> str:
    """The letters of token ids; special tokens appear as in `VOCABULARY`, so [UNK] for every ambiguity code."""
    return "".join(VOCABULARY[i] for i in ids)


def count_unknown(ids: NDArray[np.integer]) -> int:
    """How many letters `encode` could only give as [UNK]: the IUPAC ambiguity codes other than N."""
    return int((ids == UNK).sum())


def count_iupac(sequence: str | bytes) -> int:
    """How many letters are IUPAC ambiguity codes other than N, without encoding."""
    letters = sequence.encode("ascii", "replace") if isinstance(sequence, str) else sequence
    return len(letters) - len(letters.translate(None, _AMBIGUOUS))


def reverse_complement(ids: NDArray[AnyInteger]) -> NDArray[AnyInteger]:
    """Token ids of the other strand, read in its own direction."""
    return COMPLEMENT.astype(ids.dtype)[ids[::-1]]


def reverse_complement_string(sequence: str) -> str:
    """The other strand as letters; case is kept, ambiguity codes are complemented (R<->Y), U becomes A."""
    return sequence.translate(_COMPLEMENT_LETTERS)[::-1]


def _both_cases(letters: str) -> bytes:
    return (letters.upper() + letters.lower()).encode("ascii")


def _byte_table() -> NDArray[np.uint8]:
    table = np.full(256, _INVALID, dtype=np.uint8)
    for letter, token in [("A", A), ("C", C), ("G", G), ("T", T), ("U", T), ("N", N)]:
        table[list(_both_cases(letter))] = token
    table[list(_AMBIGUOUS)] = UNK
    return table


_AMBIGUOUS = _both_cases("".join(IUPAC))
_LETTERS = _both_cases("ACGTUN") + _AMBIGUOUS
_ID_OF_BYTE = _byte_table()
_COMPLEMENT_LETTERS = str.maketrans("ACGTURYKMBVDHacgturykmbvdh", "TGCAAYRMKVBHDtgcaayrmkvbhd")
