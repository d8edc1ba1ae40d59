"""Reading genomes: a GenBank file, or a FASTA and its annotation as GFF3 or in our own table.

The table has a line of tab-separated cells for each feature, and column names on its first line:

    contig    the record's name in the FASTA
    kind      cds, ignored or excluded, as in `Genome`
    start     the first position, counted from 0
    end       one past the last position
    strand    + or - for cds, else a dot
    phase     0, 1 or 2 for cds, as in `CodingSegment`, else a dot
"""

from pathlib import Path

from helixwave.errors import InputError
from helixwave.files import atomic_write

from helixwave_domains.genomics.fasta import read_fasta
from helixwave_domains.genomics.genbank import read_genbank
from helixwave_domains.genomics.genome import CodingSegment, Genome
from helixwave_domains.genomics.genome_builder import GenomeBuilder, builder_for, position
from helixwave_domains.genomics.gff3 import add_gff3
from helixwave_domains.genomics.sources import existing_file, text_lines

_TABLE_COLUMNS = ["contig", "kind", "start", "end", "strand", "phase"]


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
        genomes = read_genbank(path)
    else:
        genomes = _read_fasta_with(path, annotation)
    if not any(genome.cds for genome in genomes):
        raise InputError(f"{annotation or path}: no coding sequence (CDS) is annotated. Is this the right file?")
    return genomes


def write_coding_table(genome: Genome, path: Path | str) -> None:
    """Write where a genome codes, and nothing else of its annotation; `read_genome` reads it with the FASTA."""
    rows = [f"cds\t{s.start}\t{s.end}\t{s.strand}\t{s.phase}" for s in genome.cds]
    rows += [f"ignored\t{start}\t{end}\t.\t." for start, end in genome.ignored]
    rows += [f"excluded\t{start}\t{end}\t.\t." for start, end in genome.excluded]
    with atomic_write(path) as stream:
        stream.write("\t".join(_TABLE_COLUMNS) + "\n")
        stream.writelines(f"{genome.name}\t{row}\n" for row in rows)


def _read_fasta_with(path: Path, annotation: Path | str | None) -> list[Genome]:
    fasta = read_fasta(path)
    if annotation is None:
        raise InputError(f"{path}: a FASTA needs an annotation: name a GFF3 file, or use a GenBank file instead.")
    annotation = existing_file(annotation, "annotation")
    builders = {record.name: GenomeBuilder(record.name, record.sequence) for record in fasta}
    first = next((line for line in text_lines(annotation) if line.strip() and not line.startswith("# ")), "")
    if first.split("\t") == _TABLE_COLUMNS:
        _add_table(annotation, builders)
    else:
        add_gff3(annotation, builders)
    return [builder.genome() for builder in builders.values()]


def _add_table(path: Path, builders: dict[str, GenomeBuilder]) -> None:
    for number, line in enumerate(text_lines(path), start=1):
        cells = line.split("\t")
        if not line.strip() or line.startswith("# ") or cells == _TABLE_COLUMNS:
            continue
        _add_table_row(f"{path}: line {number}", cells, builders)


def _add_table_row(place: str, cells: list[str], builders: dict[str, GenomeBuilder]) -> None:
    if len(cells) != len(_TABLE_COLUMNS):
        raise InputError(f"{place}: {len(cells)} columns, expected {', '.join(_TABLE_COLUMNS)}.")
    contig, kind, first, last, strand, phase = cells
    builder = builder_for(place, contig, builders)
    start, end = position(place, first), position(place, last)
    if not 0 <= start < end <= len(builder.sequence):
        raise InputError(f"{place}: {start}-{end}, expected 0 <= start < end <= {len(builder.sequence)}, its length.")
    if kind == "cds" and strand in ("+", "-") and phase in ("0", "1", "2"):
        builder.cds.add(CodingSegment(start, end, "+" if strand == "+" else "-", int(phase)))
    elif kind == "ignored":
        builder.ignored.append((start, end))
    elif kind == "excluded":
        builder.excluded.append((start, end))
    else:
        raise InputError(
            f"{place}: kind {kind!r}, strand {strand!r}, phase {phase!r}; expected cds with '+' or '-' and 0, 1 or 2, "
            "or ignored, or excluded."
        )
