import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.genomics import alphabet
from helixwave_domains.genomics.alphabet import (
    IUPAC,
    VOCABULARY,
    check_letters,
    count_iupac,
    count_unknown,
    decode,
    encode,
    reverse_complement,
    reverse_complement_string,
)
from hypothesis import given
from hypothesis import strategies as st

DNA = st.text("ACGTNacgtn", max_size=80)
ANY_CODE = st.text("ACGTN" + "".join(IUPAC), max_size=80)


def test_ids_are_the_published_ones():
    assert dict(zip(VOCABULARY, range(12), strict=True))["[PAD]"] == alphabet.PAD == 4
    assert encode("ACGTN").tolist() == [7, 8, 9, 10, 11]


def test_lower_case_and_bytes_read_the_same():
    assert encode("acgtn").tolist() == encode(b"ACGTN").tolist()


def test_rna_reads_as_dna():
    assert encode("ACGU").tolist() == encode("ACGT").tolist()


def test_empty_sequence_has_no_tokens():
    assert encode("").shape == (0,)


def test_ambiguity_codes_are_unknown_and_counted():
    ids = encode("ANRYryT")
    assert ids.tolist() == [7, 11, 6, 6, 6, 6, 10]
    assert count_unknown(ids) == count_iupac("ANRYryT") == 4


@pytest.mark.parametrize(("sequence", "letter"), [("AC-T", "-"), ("ACéT", "é"), ("AC T", " "), (b"AC\xe9T", "é")])
def test_unknown_letter_is_named_with_its_position(sequence, letter):
    with pytest.raises(InputError, match=f"chr7: unknown letter '{letter}' at position 3. Expected A, C, G, T"):
        encode(sequence, where="chr7")


def test_letters_of_a_piece_are_counted_from_the_record():
    check_letters("ACGTUNRYSWKMBDHVacgtunryswkmbdhv", "chr7")
    with pytest.raises(InputError, match="chr7: unknown letter '!' at position 103"):
        check_letters("AC!T", "chr7", offset=100)


@given(DNA)
def test_decode_inverts_encode(sequence):
    assert decode(encode(sequence)) == sequence.upper()


@given(ANY_CODE)
def test_strand_of_ids_is_strand_of_letters(sequence):
    np.testing.assert_array_equal(reverse_complement(encode(sequence)), encode(reverse_complement_string(sequence)))


@given(ANY_CODE)
def test_other_strand_twice_is_the_same_strand(sequence):
    assert reverse_complement_string(reverse_complement_string(sequence)) == sequence
    assert reverse_complement(reverse_complement(encode(sequence))).tolist() == encode(sequence).tolist()


def test_reverse_complement_keeps_special_tokens_and_dtype():
    ids = np.array([alphabet.CLS, 7, 8, 8, alphabet.SEP, alphabet.PAD])
    assert reverse_complement(ids).tolist() == [4, 1, 9, 9, 10, 0]
    assert reverse_complement(ids).dtype == ids.dtype


@pytest.mark.parametrize("code", IUPAC)
def test_complement_of_a_code_stands_for_the_complements(code):
    complement = reverse_complement_string(code)
    assert set(IUPAC[complement]) == set(reverse_complement_string(IUPAC[code]))
