"""Which bases of a genome code for protein, and in which reading frame, from GenBank, GFF3 or our own table.

Each base gets one of seven classes: 0 where nothing is coded, 1..3 where it is the first, second or third base of a
codon of the strand as it is written, 4..6 where it is the first, second or third base of a codon of the other strand.
So on the forward strand a codon at positions 10, 11, 12 is labelled 1, 2, 3, and on the reverse strand 6, 5, 4. The
reading frame of a gene, in positions modulo 3, follows from class and position:

    forward, class 1 + k    frame = (position - k) mod 3
    reverse, class 4 + k    frame = (position + k) mod 3

Some bases are left out, with the label `IGNORED`. What is stronger comes first:

    excluded        always ignored, such as the second copy of a repeat
    coding twice    in two frames, as where genes overlap: ignored
    coding          also inside the intron of another gene, or inside an RNA gene
    ignored         introns of up to 10 kb, RNA genes, pseudogenes
    intergenic      all the rest, untranslated regions included

Positions count from 0, ends are exclusive.
"""

import io
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

import numpy as np
from helixwave.errors import InputError
from helixwave.files import atomic_write
from numpy.typing import NDArray

from helixwave_domains.genomics.alphabet import AnyInteger, check_letters, reverse_complement_string
from helixwave_domains.genomics.fasta import existing_file, hint_for_record, read_fasta, text_lines

if TYPE_CHECKING:
    from Bio.SeqFeature import SeqFeature
    from Bio.SeqRecord import SeqRecord

FRAME_CLASSES = ["intergenic", "+1", "+2", "+3", "-1", "-2", "-3"]
IGNORED = -100
# a longer gap is no intron but trans-splicing, whose parts can lie half a genome apart
MAX_INTRON = 10_000

Strand = Literal["+", "-"]
Interval = tuple[int, int]

_OTHER_STRAND: dict[str, Strand] = {"+": "-", "-": "+"}
_OTHER_CLASS = np.array([0, 4, 5, 6, 1, 2, 3], dtype=np.int8)
_CLASH = -1
_TABLE_COLUMNS = ["contig", "kind", "start", "end", "strand", "phase"]
_MIN_REPEAT = 1000
_SEED = 32


@dataclass(frozen=True, order=True)
class CodingSegment:
    """An uninterrupted piece of a coding sequence.

    Args:
        start: its first position, counted from 0.
        end: one past its last position.
        strand: `+` or `-`.
        phase: how many bases at its beginning (on the strand `-` the high end) belong to a codon begun before, 0..2.
    """

    start: int
    end: int
    strand: Strand
    phase: int


@dataclass(frozen=True)
class Genome:
    """A sequence and what is known of its coding regions.

    Args:
        name: the contig's name.
        sequence: letters in upper case.
        cds: the coding pieces, sorted.
        ignored: introns, RNA genes and pseudogenes, sorted and merged.
        excluded: what must not be used at all.
        odd_lengths: how many coding sequences are no whole number of codons long; they are kept.
    """

    name: str
    sequence: str
    cds: list[CodingSegment]
    ignored: list[Interval] = field(default_factory=list)
    excluded: list[Interval] = field(default_factory=list)
    odd_lengths: int = field(default=0, compare=False)


def read_genome(path: Path | str, annotation: Path | str | None = None) -> list[Genome]:
    """Read the contigs of a GenBank file, or of a FASTA and its annotation.

    Args:
        path: GenBank or FASTA, plain or gzip.
        annotation: for a FASTA, a GFF3 file or a table as `write_coding_table` writes it.
    """
    path = existing_file(path, "genome")
    if next((line for line in text_lines(path) if line.strip()), "").startswith("LOCUS"):
        if annotation is not None:
            raise InputError(f"{path}: a GenBank file brings its own annotation; leave out {annotation}.")
        genomes = _read_genbank(path)
    else:
        genomes = _read_fasta_with(path, annotation)
    if not any(genome.cds for genome in genomes):
        raise InputError(f"{annotation or path}: no coding sequence (CDS) is annotated. Is this the right file?")
    return genomes


def labels(genome: Genome) -> NDArray[np.int8]:
    """The class of each base, `IGNORED` where it is not to be learnt, int8 `[T]`; see the top of this module."""
    result = np.zeros(len(genome.sequence), dtype=np.int8)
    for start, end in genome.ignored:
        result[start:end] = IGNORED
    coding = coding_classes(genome.cds, len(genome.sequence))
    result[coding > 0] = coding[coding > 0]
    result[coding == _CLASH] = IGNORED
    for start, end in genome.excluded:
        result[start:end] = IGNORED
    return result


def coding_classes(segments: Iterable[CodingSegment], length: int) -> NDArray[np.int8]:
    """The coding class of each base, 0 where there is none and -1 where segments disagree, int8 `[T]`."""
    result = np.zeros(length, dtype=np.int8)
    for segment in segments:
        here = result[segment.start : segment.end]
        classes = _classes_of(segment)
        here[:] = np.where((here == 0) | (here == classes), classes, _CLASH)
    return result


def _classes_of(segment: CodingSegment) -> NDArray[np.int8]:
    codon_position = (np.arange(segment.end - segment.start) - segment.phase) % 3
    return (1 + codon_position if segment.strand == "+" else 4 + codon_position[::-1]).astype(np.int8)


def reverse_complement_labels(labels: NDArray[AnyInteger]) -> NDArray[AnyInteger]:
    """The labels of the other strand: `labels` of the reverse complemented genome."""
    flipped = labels[::-1]
    return np.where(flipped > 0, _OTHER_CLASS[np.maximum(flipped, 0)], flipped).astype(labels.dtype)


def reverse_complement(genome: Genome) -> Genome:
    """The genome as written from the other strand."""
    length = len(genome.sequence)
    cds = [CodingSegment(length - s.end, length - s.start, _OTHER_STRAND[s.strand], s.phase) for s in genome.cds]
    return replace(
        genome,
        sequence=reverse_complement_string(genome.sequence),
        cds=sorted(cds),
        ignored=sorted((length - end, length - start) for start, end in genome.ignored),
        excluded=sorted((length - end, length - start) for start, end in genome.excluded),
    )


def exclude_inverted_repeat(genome: Genome) -> Genome:
    """Exclude the second copy of the longest exact inverted repeat, as a chloroplast has one of some 25 kb.

    A model tested on the second copy of what it was trained on is not tested at all.
    """
    repeat = _second_inverted_repeat(genome.sequence)
    if repeat is None:
        raise InputError(f"{genome.name}: no exact inverted repeat of {_MIN_REPEAT} letters or more was found.")
    return replace(genome, excluded=sorted({*genome.excluded, repeat}))


def _second_inverted_repeat(sequence: str) -> Interval | None:
    other = reverse_complement_string(sequence)
    forward, reverse = (np.frombuffer(text.encode("ascii"), dtype=np.uint8) for text in (sequence, other))
    longest: Interval | None = None
    # each repeat of the least length holds a whole seed, as they lie half that length apart
    for i in range(0, len(sequence) - _SEED + 1, _MIN_REPEAT // 2):
        for match in re.finditer(re.escape(sequence[i : i + _SEED]), other):
            j = match.start()
            end = i + _matching(forward[i:], reverse[j:])
            start = i - _matching(forward[:i][::-1], reverse[:j][::-1])
            last = len(sequence) - (j + start - i)
            # two copies end to end are one palindrome, of which the second half counts
            first = max(len(sequence) - (j + end - i), (start + last + 1) // 2)
            if last - first >= max(_MIN_REPEAT, longest[1] - longest[0] + 1 if longest else 0):
                longest = (first, last)
    return longest


def _matching(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    """How many letters agree before the first that does not."""
    size = min(len(a), len(b))
    differs = a[:size] != b[:size]
    return int(differs.argmax()) if differs.any() else size


class _Builder:
    """Collects the features of one contig."""

    def __init__(self, name: str, sequence: str):
        self.name = name
        self.sequence = sequence
        self.cds: set[CodingSegment] = set()
        self.ignored: list[Interval] = []
        self.excluded: list[Interval] = []
        self.odd_lengths = 0

    def add_coding(self, pieces: Sequence[CodingSegment], skipped: int) -> None:
        """Add a coding sequence, its pieces in the order of transcription; `skipped` bases precede its first codon."""
        self.cds.update(pieces)
        self.ignored += _introns(pieces)
        self.odd_lengths += (sum(piece.end - piece.start for piece in pieces) - skipped) % 3 != 0

    def genome(self) -> Genome:
        return Genome(
            self.name,
            self.sequence,
            sorted(self.cds),
            _merged(self.ignored),
            _merged(self.excluded),
            self.odd_lengths,
        )


def _introns(pieces: Sequence[CodingSegment]) -> Iterator[Interval]:
    """The gaps between pieces that follow each other on one strand."""
    for before, after in pairwise(pieces):
        gap = (before.end, after.start) if before.strand == "+" else (after.end, before.start)
        if before.strand == after.strand and 0 < gap[1] - gap[0] <= MAX_INTRON:
            yield gap


def _merged(intervals: Iterable[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _in_phase(pieces: Iterable[tuple[int, int, Strand]], phase: int) -> list[CodingSegment]:
    """Pieces in the order of transcription, each with what is left of the codon before."""
    segments = []
    for start, end, strand in pieces:
        segments.append(CodingSegment(start, end, strand, phase))
        phase = (phase - (end - start)) % 3
    return segments


def _is_ignored_kind(kind: str) -> bool:
    """Whether a feature is an RNA gene or a pseudogene, as GenBank and the sequence ontology call them."""
    return (kind.endswith("RNA") and kind != "mRNA") or "pseudogen" in kind


def _read_genbank(path: Path) -> list[Genome]:
    return [_genome_of_record(path, record) for record in _genbank_records(path)]


def _genbank_records(path: Path) -> list["SeqRecord"]:
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


def _genome_of_record(path: Path, record: "SeqRecord") -> Genome:
    if record.seq is None or not record.seq.defined or len(record.seq) == 0:
        raise InputError(f"{path}: record {record.id} has no sequence. Download the full record, 'gbwithparts'.")
    builder = _Builder(str(record.id), str(record.seq).upper())
    check_letters(builder.sequence, f"{path}: {record.id}")
    for feature in record.features:
        pseudo = "pseudo" in feature.qualifiers or "pseudogene" in feature.qualifiers
        if feature.type == "CDS" or pseudo or _is_ignored_kind(feature.type):
            _add_genbank_feature(path, builder, feature, coding=feature.type == "CDS" and not pseudo)
    return builder.genome()


def _add_genbank_feature(path: Path, builder: _Builder, feature: "SeqFeature", *, coding: bool) -> None:
    names = (feature.qualifiers[key][0] for key in ("locus_tag", "gene", "protein_id") if key in feature.qualifiers)
    place = f"{path}: {builder.name}: {feature.type} {feature.location or next(names, 'without a name')}"
    skipped = _codon_start(place, feature) - 1 if coding else 0
    try:
        # Biopython gives the parts in the order of transcription
        local = [part.ref is None for part in feature.location.parts]
        pieces: list[tuple[int, int, Strand]] = [
            (int(part.start), int(part.end), "-" if part.strand == -1 else "+") for part in feature.location.parts
        ]
    except (AttributeError, TypeError) as error:
        raise InputError(f"{place}: its place is not known. Correct the location or remove the feature.") from error
    segments = [segment for segment, here in zip(_in_phase(pieces, skipped), local, strict=True) if here]
    for segment in segments:
        if not 0 <= segment.start < segment.end <= len(builder.sequence):
            raise InputError(f"{place}: outside the record of {len(builder.sequence)} letters.")
    if coding:
        builder.add_coding(segments, skipped)
    else:
        builder.ignored += [(segment.start, segment.end) for segment in segments]
        builder.ignored += _introns(segments)


def _codon_start(place: str, feature: "SeqFeature") -> int:
    text = feature.qualifiers.get("codon_start", ["1"])[0]
    if text not in ("1", "2", "3"):
        raise InputError(f"{place}: codon_start {text!r}, expected 1, 2 or 3.")
    return int(text)


def _read_fasta_with(path: Path, annotation: Path | str | None) -> list[Genome]:
    fasta = read_fasta(path)
    if annotation is None:
        raise InputError(f"{path}: a FASTA needs an annotation: name a GFF3 file, or use a GenBank file instead.")
    annotation = existing_file(annotation, "annotation")
    builders = {record.name: _Builder(record.name, record.sequence) for record in fasta}
    first = next((line for line in text_lines(annotation) if line.strip() and not line.startswith("# ")), "")
    if first.split("\t") == _TABLE_COLUMNS:
        _add_table(annotation, builders)
    else:
        _add_gff3(annotation, builders)
    return [builder.genome() for builder in builders.values()]


@dataclass(frozen=True)
class _Feature:
    """A line of GFF3 that matters here."""

    place: str
    kind: str
    start: int
    end: int
    strand: str
    phase: str
    attributes: dict[str, str]


def _add_gff3(path: Path, builders: dict[str, _Builder]) -> None:
    coding: dict[str, list[_Feature]] = {}
    circular: set[str] = set()
    for number, line in enumerate(text_lines(path), start=1):
        if line.startswith(("##FASTA", ">")):
            break
        if not line.strip() or line.startswith("#"):
            _refuse_old_gff(path, line)
            continue
        contig, feature = _gff3_line(f"{path}: line {number}", line)
        if feature.attributes.get("Is_circular") == "true":
            circular.add(contig)
        pseudo = feature.attributes.get("pseudo") == "true"
        if feature.kind != "CDS" and not pseudo and not _is_ignored_kind(feature.kind):
            continue
        builder = _builder_for(feature.place, contig, builders)
        _refuse_beyond(feature, builder, circular=contig in circular)
        if feature.kind == "CDS" and not pseudo:
            coding.setdefault(contig, []).append(feature)
        else:
            builder.ignored += _around_origin(feature.start, feature.end, len(builder.sequence))
    for contig, features in coding.items():
        for transcript in _transcripts(features):
            _add_transcript(builders[contig], transcript)


def _gff3_line(place: str, line: str) -> tuple[str, _Feature]:
    cells = line.split("\t")
    if len(cells) != 9:
        raise InputError(f"{place}: {len(cells)} columns, expected the 9 of GFF3, separated by tabs.")
    contig, _, kind, first, last, _, strand, phase, text = cells
    start, end = _position(place, first) - 1, _position(place, last)
    if not 0 <= start < end:
        raise InputError(f"{place}: start {first} and end {last}, expected 1 <= start <= end.")
    feature = _Feature(place, kind, start, end, strand, phase, _attributes(place, text))
    if kind == "CDS" and (strand not in ("+", "-") or phase not in ("0", "1", "2")):
        raise InputError(f"{place}: CDS with strand {strand!r} and phase {phase!r}, expected '+' or '-' and 0, 1 or 2.")
    return unquote(contig), feature


def _position(place: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"{place}: {text!r} is no position, expected a whole number.") from error


def _attributes(place: str, text: str) -> dict[str, str]:
    pairs = [pair.strip() for pair in text.split(";") if pair.strip() not in ("", ".")]
    if any("=" not in pair for pair in pairs):
        raise InputError(f"{place}: attributes {text[:40]!r} are not GFF3's 'key=value;'. A GTF? Convert it to GFF3.")
    return {unquote(key): unquote(value) for key, value in (pair.split("=", 1) for pair in pairs)}


def _refuse_old_gff(path: Path, line: str) -> None:
    words = line.split()
    if words[:1] == ["##gff-version"] and not "".join(words[1:2]).startswith("3"):
        raise InputError(f"{path}: GFF version {' '.join(words[1:])}, expected 3. Convert it to GFF3.")


def _builder_for(place: str, contig: str, builders: dict[str, _Builder]) -> _Builder:
    if contig not in builders:
        raise InputError(f"{place}: {contig!r} is not in the FASTA. {hint_for_record(contig, builders)}")
    return builders[contig]


def _refuse_beyond(feature: _Feature, builder: _Builder, *, circular: bool) -> None:
    length = len(builder.sequence)
    if feature.end > length and not (circular and feature.start < length and feature.end - feature.start <= length):
        raise InputError(
            f"{feature.place}: ends at {feature.end}, beyond {builder.name} of {length} letters. "
            "Do the FASTA and the annotation belong together?"
        )


def _around_origin(start: int, end: int, length: int) -> list[Interval]:
    """A range that runs on over the origin of a circular contig, cut in two there."""
    return [(start, end)] if end <= length else [(start, length), (0, end - length)]


def _transcripts(features: list[_Feature]) -> list[list[_Feature]]:
    """CDS lines that make one coding sequence: those that share an ID, else those that share a parent."""
    uses = Counter(feature.attributes.get("ID", "") for feature in features)
    groups: dict[tuple[str, str], list[_Feature]] = {}
    for feature in features:
        key, parents = feature.attributes.get("ID", ""), feature.attributes.get("Parent", "")
        if key and uses[key] > 1:
            names = [("ID", key)]
        elif parents:
            names = [("Parent", parent) for parent in parents.split(",")]
        else:
            names = [("line", feature.place)]
        for name in names:
            groups.setdefault(name, []).append(feature)
    return list(groups.values())


def _add_transcript(builder: _Builder, features: list[_Feature]) -> None:
    length = len(builder.sequence)
    pieces: list[CodingSegment] = []
    for feature in sorted(features, key=lambda f: f.start if f.strand == "+" else -f.end):
        strand: Strand = "+" if feature.strand == "+" else "-"
        parts = _around_origin(feature.start, feature.end, length)
        parts = parts if strand == "+" else parts[::-1]
        pieces += _in_phase([(start, end, strand) for start, end in parts], int(feature.phase))
    builder.add_coding(pieces, pieces[0].phase)


def _add_table(path: Path, builders: dict[str, _Builder]) -> None:
    for number, line in enumerate(text_lines(path), start=1):
        cells = line.split("\t")
        if not line.strip() or line.startswith("# ") or cells == _TABLE_COLUMNS:
            continue
        _add_table_row(f"{path}: line {number}", cells, builders)


def _add_table_row(place: str, cells: list[str], builders: dict[str, _Builder]) -> None:
    if len(cells) != len(_TABLE_COLUMNS):
        raise InputError(f"{place}: {len(cells)} columns, expected {', '.join(_TABLE_COLUMNS)}.")
    contig, kind, first, last, strand, phase = cells
    builder = _builder_for(place, contig, builders)
    start, end = _position(place, first), _position(place, last)
    if not 0 <= start < end <= len(builder.sequence):
        raise InputError(f"{place}: {start}-{end}, expected 0 <= start < end <= {len(builder.sequence)}, its length.")
    if kind == "cds" and strand in ("+", "-") and phase in ("0", "1", "2"):
        builder.cds.add(CodingSegment(start, end, "+" if strand == "+" else "-", int(phase)))
    elif kind in ("ignored", "excluded"):
        (builder.ignored if kind == "ignored" else builder.excluded).append((start, end))
    else:
        raise InputError(
            f"{place}: kind {kind!r}, strand {strand!r}, phase {phase!r}; expected cds with '+' or '-' and 0, 1 or 2, "
            "or ignored, or excluded."
        )


def write_coding_table(genome: Genome, path: Path | str) -> None:
    """Write where a genome codes, and nothing else of its annotation; `read_genome` reads it with the FASTA."""
    rows = [f"cds\t{s.start}\t{s.end}\t{s.strand}\t{s.phase}" for s in genome.cds]
    rows += [f"ignored\t{start}\t{end}\t.\t." for start, end in genome.ignored]
    rows += [f"excluded\t{start}\t{end}\t.\t." for start, end in genome.excluded]
    with atomic_write(path) as stream:
        stream.write("\t".join(_TABLE_COLUMNS) + "\n")
        stream.writelines(f"{genome.name}\t{row}\n" for row in rows)
