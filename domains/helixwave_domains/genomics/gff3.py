"""Reading GFF3, the annotation that goes with a FASTA."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from helixwave.errors import InputError

from helixwave_domains.genomics.genome import CodingSegment, Interval, Strand
from helixwave_domains.genomics.genome_builder import GenomeBuilder, builder_for, in_phase, is_ignored_kind, position
from helixwave_domains.genomics.sources import text_lines


@dataclass(frozen=True)
class _Feature:
    """A line of GFF3 that matters here."""

    place: str
    contig: str
    kind: str
    start: int
    end: int
    strand: str
    phase: str
    attributes: dict[str, str]


def add_gff3(path: Path, builders: dict[str, GenomeBuilder]) -> None:
    """Add what a GFF3 file, plain or gzip, says of the contigs in `builders`."""
    coding: dict[str, list[_Feature]] = {}
    circular: set[str] = set()
    for number, line in enumerate(text_lines(path), start=1):
        if line.startswith(("##FASTA", ">")):
            break
        if not line.strip() or line.startswith("#"):
            _refuse_old_gff(path, line)
            continue
        feature = _feature(f"{path}: line {number}", line)
        if feature.attributes.get("Is_circular") == "true":
            circular.add(feature.contig)
        pseudo = feature.attributes.get("pseudo") == "true"
        if feature.kind != "CDS" and not pseudo and not is_ignored_kind(feature.kind):
            continue
        builder = builder_for(feature.place, feature.contig, builders)
        _refuse_beyond(feature, builder, circular=feature.contig in circular)
        if feature.kind == "CDS" and not pseudo:
            coding.setdefault(feature.contig, []).append(feature)
        else:
            builder.ignored += _around_origin(feature.start, feature.end, len(builder.sequence))
    for contig, features in coding.items():
        for transcript in _transcripts(features):
            _add_transcript(builders[contig], transcript)


def _feature(place: str, line: str) -> _Feature:
    cells = line.split("\t")
    if len(cells) != 9:
        raise InputError(f"{place}: {len(cells)} columns, expected the 9 of GFF3, separated by tabs.")
    contig, _, kind, first, last, _, strand, phase, text = cells
    start, end = position(place, first) - 1, position(place, last)
    if not 0 <= start < end:
        raise InputError(f"{place}: start {first} and end {last}, expected 1 <= start <= end.")
    attributes = _attributes(place, text)
    if kind == "CDS" and (strand not in ("+", "-") or phase not in ("0", "1", "2")):
        raise InputError(f"{place}: CDS with strand {strand!r} and phase {phase!r}, expected '+' or '-' and 0, 1 or 2.")
    return _Feature(place, unquote(contig), kind, start, end, strand, phase, attributes)


def _attributes(place: str, text: str) -> dict[str, str]:
    pairs = [pair.strip() for pair in text.split(";") if pair.strip() not in ("", ".")]
    if any("=" not in pair for pair in pairs):
        raise InputError(f"{place}: attributes {text[:40]!r} are not GFF3's 'key=value;'. A GTF? Convert it to GFF3.")
    return {unquote(key): unquote(value) for key, value in (pair.split("=", 1) for pair in pairs)}


def _refuse_old_gff(path: Path, line: str) -> None:
    words = line.split()
    if words[:1] == ["##gff-version"] and not "".join(words[1:2]).startswith("3"):
        raise InputError(f"{path}: GFF version {' '.join(words[1:])}, expected 3. Convert it to GFF3.")


def _refuse_beyond(feature: _Feature, builder: GenomeBuilder, *, circular: bool) -> None:
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


def _add_transcript(builder: GenomeBuilder, features: list[_Feature]) -> None:
    length = len(builder.sequence)
    pieces: list[CodingSegment] = []
    for feature in sorted(features, key=lambda f: f.start if f.strand == "+" else -f.end):
        strand: Strand = "+" if feature.strand == "+" else "-"
        parts = [(start, end, strand) for start, end in _around_origin(feature.start, feature.end, length)]
        pieces += in_phase(parts if strand == "+" else parts[::-1], int(feature.phase))
    builder.add_coding(pieces, pieces[0].phase)
