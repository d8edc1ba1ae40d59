"""Reading GenBank files with Biopython, which is imported here only."""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from helixwave.errors import InputError

from helixwave_domains.genomics.alphabet import check_letters
from helixwave_domains.genomics.genome import Genome, Strand
from helixwave_domains.genomics.genome_builder import GenomeBuilder, in_phase, is_ignored_kind
from helixwave_domains.genomics.sources import text_lines

if TYPE_CHECKING:
    from Bio.SeqFeature import SeqFeature
    from Bio.SeqRecord import SeqRecord


def read_genbank(path: Path) -> list[Genome]:
    """The records of a GenBank file, plain or gzip."""
    return [_genome(path, record) for record in _records(path)]


def _records(path: Path) -> list["SeqRecord"]:
    try:
        from Bio import BiopythonParserWarning, SeqIO
    except ImportError as error:
        raise InputError(f"{path}: reading GenBank needs Biopython: pip install 'helixwave[genomics]'.") from error
    stream = io.StringIO("\n".join(text_lines(path)) + "\n")
    with warnings.catch_warnings():
        # a record shorter than it says is an error; a location that cannot be read is found where it matters
        warnings.simplefilter("ignore", BiopythonParserWarning)
        warnings.filterwarnings("error", "Expected sequence length", BiopythonParserWarning)
        try:
            return list(SeqIO.parse(stream, "genbank"))
        except (ValueError, LookupError, AssertionError, TypeError, AttributeError, Warning) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: malformed GenBank file: {reason}. Download it again.") from error


def _genome(path: Path, record: "SeqRecord") -> Genome:
    if record.seq is None or not record.seq.defined or len(record.seq) == 0:
        raise InputError(f"{path}: record {record.id} has no sequence. Download the full record, 'gbwithparts'.")
    builder = GenomeBuilder(str(record.id), str(record.seq).upper())
    check_letters(builder.sequence, f"{path}: {record.id}")
    for feature in record.features:
        pseudo = "pseudo" in feature.qualifiers or "pseudogene" in feature.qualifiers
        if feature.type == "CDS" or pseudo or is_ignored_kind(feature.type):
            _add_feature(path, builder, feature, coding=feature.type == "CDS" and not pseudo)
    return builder.genome()


def _add_feature(path: Path, builder: GenomeBuilder, feature: "SeqFeature", *, coding: bool) -> None:
    names = (feature.qualifiers[key][0] for key in ("locus_tag", "gene", "protein_id") if key in feature.qualifiers)
    place = f"{path}: {builder.name}: {feature.type} {feature.location or next(names, 'without a name')}"
    skipped = _codon_start(place, feature) - 1 if coding else 0
    try:
        # Biopython gives the parts in the order of transcription
        parts = feature.location.parts
        pieces: list[tuple[int, int, Strand]] = [
            (int(part.start), int(part.end), "-" if part.strand == -1 else "+") for part in parts
        ]
    except (AttributeError, TypeError) as error:
        raise InputError(f"{place}: its place is not known. Correct the location or remove the feature.") from error
    # a part in another record counts for the phase of the next one only
    segments = [segment for segment, part in zip(in_phase(pieces, skipped), parts, strict=True) if part.ref is None]
    for segment in segments:
        if not 0 <= segment.start < segment.end <= len(builder.sequence):
            raise InputError(f"{place}: outside the record of {len(builder.sequence)} letters.")
    if coding:
        builder.add_coding(segments, skipped)
    else:
        builder.add_ignored(segments)


def _codon_start(place: str, feature: "SeqFeature") -> int:
    text = feature.qualifiers.get("codon_start", ["1"])[0]
    if text not in ("1", "2", "3"):
        raise InputError(f"{place}: codon_start {text!r}, expected 1, 2 or 3.")
    return int(text)
