"""Published vocabularies and special tokens; values from the authors' tokenizers."""

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.genomics.alphabet import COMPLEMENT, VOCABULARY, encode
from helixwave_domains.genomics.tokenizer import Tokenizer

PLANT = ["[PAD]", "[MASK]", "[UNK]", "a", "c", "g", "t", "[unused]"]


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        # hyena-dna's CharacterTokenizer: lower case is unknown
        ("hyenadna", [0, 7, 6, 9, 10, 11, 6, 1]),
        ("hyenadna_hf", [7, 6, 9, 10, 11, 6, 1]),
        ("caduceus", [7, 8, 9, 10, 11, 6, 1]),
        ("helixwave", [7, 8, 9, 10, 11, 6]),
    ],
)
def test_published_special_tokens_and_case(style, expected):
    assert Tokenizer(VOCABULARY, style).encode("AcGTNR", special=True).tolist() == expected


def test_plant_caduceus_has_lower_case_letters_and_no_n():
    tokenizer = Tokenizer(PLANT, "plantcaduceus")
    assert tokenizer.encode("AcGTN", special=True).tolist() == [3, 4, 5, 6, 2]
    assert tokenizer.complement == [0, 1, 2, 6, 5, 4, 3, 7]
    assert (tokenizer.n, tokenizer.pad, tokenizer.mask) == (2, 0, 1)
    assert tokenizer.bases.tolist() == [3, 4, 5, 6]


def test_ours_is_the_alphabet_of_the_domain():
    tokenizer = Tokenizer(VOCABULARY)
    text = "ACGTUNRYKMacgtunSWBDHV"
    np.testing.assert_array_equal(tokenizer.encode(text), encode(text))
    assert tokenizer.complement == COMPLEMENT.tolist()
    assert tokenizer.count_unknown(text) == 10
    assert tokenizer.decode(tokenizer.encode("ACGTN")) == "ACGTN"


def test_what_is_no_dna_is_refused_by_ours_and_unknown_to_the_published():
    with pytest.raises(InputError, match="unknown letter 'E'"):
        Tokenizer(VOCABULARY).encode("ACEG")
    assert Tokenizer(VOCABULARY, "caduceus").encode("ACEG").tolist() == [7, 8, 6, 9]


def test_a_vocabulary_needs_its_special_tokens():
    with pytest.raises(InputError, match=r"lacks \[MASK\]"):
        Tokenizer(["[PAD]", "[UNK]", "A", "C", "G", "T"])
