"""The alleles of a VCF or BCF file, each with a status; nothing that stands in the file is left out.

VCF text (plain, gzip or BGZF) is read here: pysam and cyvcf2, over htslib, stop at a file without a complete header and
at a line without INFO. BCF is read by pysam. What became of an allele, and what can be done:

    ok                  REF is what the genome says
    swapped             the genome has ALT where the file says REF: both were exchanged
    kept                the genome says something else; REF of the file was put in: mind the assembly
    ref_mismatch        the genome says something else than REF: take the assembly of the calls, or another policy
    unknown_contig      the FASTA has no such contig: take the one that the calls were made with
    outside_contig      POS is 0, or REF reaches beyond the contig's end: take the assembly of the calls
    longer_than_window  REF or ALT does not fit behind the centre: enlarge the window, or move the centre to the left
    no_alt              ALT is `.`, the site does not vary: there is nothing to score
    alt_equals_ref      ALT has the letters of REF: there is nothing to score
    spanning_deletion   ALT is `*`, deleted by a record further up: that record has the score
    symbolic            ALT is `<DEL>`, `<NON_REF>` and the like: write out the letters where they are known
    breakend            ALT joins two places, `G]17:198982]`: write the joined sequence to a FASTA and embed that
    ambiguous_allele    REF or ALT has an IUPAC code other than N: write the base that is meant
    malformed           CHROM, POS, REF or ALT cannot be read: put the line right (tabs, 5 columns, POS a whole number)

A second record of the same allele is no failure: each has its row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from helixwave.errors import InputError

from helixwave_domains.genomics.alphabet import IUPAC
from helixwave_domains.genomics.sources import BYTE_ORDER_MARK, existing_file, open_binary, text

if TYPE_CHECKING:
    import pysam

_BASES = frozenset("ACGTN")
_LETTERS = _BASES | IUPAC.keys()
# more digits than any genome has, and few enough for 64 bits
_MOST_DIGITS = 18
_SHOWN = 12


class Status(StrEnum):
    """What became of an allele or interval; the top of this module says what each means and what can be done."""

    OK = "ok"
    SWAPPED = "swapped"
    KEPT = "kept"
    REF_MISMATCH = "ref_mismatch"
    UNKNOWN_CONTIG = "unknown_contig"
    OUTSIDE_CONTIG = "outside_contig"
    LONGER_THAN_WINDOW = "longer_than_window"
    NO_ALT = "no_alt"
    ALT_EQUALS_REF = "alt_equals_ref"
    SPANNING_DELETION = "spanning_deletion"
    SYMBOLIC = "symbolic"
    BREAKEND = "breakend"
    AMBIGUOUS_ALLELE = "ambiguous_allele"
    MALFORMED = "malformed"

    @property
    def usable(self) -> bool:
        """Whether there are windows, and so a score."""
        return self in (Status.OK, Status.SWAPPED, Status.KEPT)


@dataclass(frozen=True, slots=True)
class Allele:
    """One ALT of one record.

    Args:
        row: the number of this allele in the file, from 0.
        record: the number of its record in the file, from 0.
        contig: CHROM as the file says it.
        position: POS, counted from 1; 0 where the file has no number.
        id: the ID column.
        ref: REF in upper case.
        alt: this ALT in upper case.
        number: which ALT of its record, from 1; 0 if the record has none.
        status: what can be said without the genome: `ok`, or why this allele has no letters to put into it.
    """

    row: int
    record: int
    contig: str
    position: int
    id: str
    ref: str
    alt: str
    number: int
    status: Status

    def __str__(self) -> str:
        return f"{self.contig}:{self.position} {_shortened(self.ref)}>{_shortened(self.alt)}"


def read_alleles(path: Path | str) -> Iterator[Allele]:
    """Every allele of a VCF (plain, gzip or BGZF) or BCF in the order of the file, read as they are asked for.

    Raises:
        InputError: the file is missing, damaged or no VCF; a single bad record is an allele with a status instead.
    """
    return _numbered(_records(path))


def count_alleles(path: Path | str) -> int:
    """How many alleles `read_alleles` gives, several times quicker."""
    return sum(map(alleles_in, _records(path)))


def alleles_in(line: bytes) -> int:
    """How many alleles a record's line has: one for each ALT, one if there is none."""
    columns = line.split(b"\t", 5)
    return columns[4].count(b",") + 1 if len(columns) > 4 else 1


def vcf_lines(path: Path | str) -> Iterator[bytes]:
    """The lines of a VCF as they are, header and line ends included; of a BCF, the lines that it stands for.

    Raises:
        InputError: the file is missing, damaged or no VCF.
    """
    path = existing_file(path, "VCF or BCF file")
    return _bcf_lines(path, whole=True) if _is_bcf(path) else _text_lines(path)


def is_record(line: bytes) -> bool:
    """Whether a line of a VCF is neither header nor blank."""
    return not line.startswith(b"#") and bool(line.strip(b" \r\n"))


def _records(path: Path | str) -> Iterator[bytes]:
    path = existing_file(path, "VCF or BCF file")
    return filter(is_record, _bcf_lines(path, whole=False) if _is_bcf(path) else _text_lines(path))


def _is_bcf(path: Path) -> bool:
    with open_binary(path) as stream:
        return stream.read(3) == b"BCF"


def _bcf_lines(path: Path, *, whole: bool) -> Iterator[bytes]:
    """Header and records as text, or only the first five columns of the records."""
    try:
        import pysam
    except ImportError as error:
        raise InputError(f"{path}: reading BCF needs pysam: pip install 'helixwave[genomics]'.") from error
    verbosity = pysam.set_verbosity(0)
    try:
        with pysam.VariantFile(str(path), drop_samples=not whole) as file:
            if whole:
                yield from str(file.header).encode().splitlines(keepends=True)
            for record in file:
                yield (str(record) if whole else _first_columns(record)).encode()
    except (OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{path}: damaged BCF ({error}). Copy or download it again.") from error
    finally:
        pysam.set_verbosity(verbosity)


def _first_columns(record: "pysam.VariantRecord") -> str:
    return f"{record.chrom}\t{record.pos}\t{record.id or '.'}\t{record.ref}\t{','.join(record.alts or '.')}\n"


def _text_lines(path: Path) -> Iterator[bytes]:
    with open_binary(path) as stream:
        first = stream.readline().removeprefix(BYTE_ORDER_MARK)
        if b"\r" in first.rstrip(b"\r\n"):
            raise InputError(f"{path}: line 1 has old Macintosh line ends. Convert them: `tr '\\r' '\\n'`.")
        certain = False
        for line in chain([first], stream):
            certain = certain or _is_vcf(path, line)
            yield line
        if not certain:
            raise InputError(f"{path}: no VCF: it holds neither '##fileformat=VCF...' nor a record.")


def _is_vcf(path: Path, line: bytes) -> bool:
    """Whether a line shows that this is a VCF; the first record must where there is no header."""
    if line.startswith((b"##fileformat=VCF", b"#CHROM\t")):
        return True
    if is_record(line) and next(_alleles(0, 0, line)).status is Status.MALFORMED:
        raise InputError(
            f"{path}: no VCF: there is no header '##fileformat=VCF...', and the first record, "
            f"{text(line[:40].rstrip())!r}, is not CHROM, POS, ID, REF and ALT with tabs between them."
        )
    return is_record(line)


def _numbered(records: Iterator[bytes]) -> Iterator[Allele]:
    row = 0
    for record, line in enumerate(records):
        for allele in _alleles(row, record, line):
            yield allele
            row += 1


def _alleles(row: int, record: int, line: bytes) -> Iterator[Allele]:
    columns = [text(column) for column in line.rstrip(b"\r\n").split(b"\t", 5)[:5]]
    contig, digits, name, ref, alts = columns + [""] * (5 - len(columns))
    is_number = digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS
    position, ref = int(digits) if is_number else 0, ref.upper()
    for i, alt in enumerate(alts.split(",")):
        alt = alt.upper() if alt.isalpha() else alt
        status = _status(ref, alt) if contig and is_number else Status.MALFORMED
        number = 0 if alts in ("", ".") else i + 1
        yield Allele(row + i, record, contig, position, name, ref, alt, number, status)


def _status(ref: str, alt: str) -> Status:
    if not ref or not _LETTERS.issuperset(ref):
        return Status.MALFORMED
    if alt in _ONE_SIGN:
        return _ONE_SIGN[alt]
    if alt.startswith("<") and alt.endswith(">"):
        return Status.SYMBOLIC
    if "[" in alt or "]" in alt or alt.startswith(".") or alt.endswith("."):
        return Status.BREAKEND
    if not alt or not _LETTERS.issuperset(alt):
        return Status.MALFORMED
    if not _BASES.issuperset(ref + alt):
        return Status.AMBIGUOUS_ALLELE
    return Status.ALT_EQUALS_REF if ref == alt else Status.OK


def _shortened(letters: str) -> str:
    return letters if len(letters) <= _SHOWN else f"{letters[:_SHOWN]}... ({len(letters)})"


_ONE_SIGN = {".": Status.NO_ALT, "*": Status.SPANNING_DELETION}
