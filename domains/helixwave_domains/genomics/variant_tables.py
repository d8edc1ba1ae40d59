"""Variants with a label each, from a table or from the INFO column of a VCF.

A table's columns are found by their names, in any order and either case; positions count from 1, as in a VCF:

    chrom       chrom, chromosome, contig, #chrom
    pos         pos, position
    ref, alt    ref, alt
    label       label, class, y                                  in a VCF: LABEL
    tissue      tissue                                           TISSUE; not needed
    distance    distance_to_nearest_tss, tss_distance, distance  TSS_DISTANCE; not needed
    split       split: train or test                             SPLIT; not needed
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helixwave.errors import InputError

from helixwave_domains.genomics.sources import existing_file, hint, text, text_lines
from helixwave_domains.genomics.variants import Allele, Status, is_record, read_alleles, vcf_lines

_COLUMNS = {
    "chrom": ("chrom", "chromosome", "contig", "#chrom"),
    "pos": ("pos", "position"),
    "ref": ("ref",),
    "alt": ("alt",),
    "label": ("label", "class", "y"),
    "tissue": ("tissue",),
    "distance": ("distance_to_nearest_tss", "tss_distance", "distance"),
    "split": ("split",),
}
_NEEDED = ("chrom", "pos", "ref", "alt", "label")
_INFO = {"label": "LABEL", "tissue": "TISSUE", "distance": "TSS_DISTANCE", "split": "SPLIT"}
_BASES = frozenset("ACGTN")


@dataclass(frozen=True, slots=True)
class LabelledVariant:
    """One row: an allele and what is known of it.

    Args:
        allele: what changes where; its status tells if it cannot be used.
        label: its class.
        tissue: where the effect was measured; empty if that is not said.
        distance: bases to the nearest transcription start; None if that is not said.
        split: `train` or `test`; empty if that is not said.
    """

    allele: Allele
    label: str
    tissue: str = ""
    distance: float | None = None
    split: str = ""


def read_variants(path: Path | str) -> list[LabelledVariant]:
    """The rows of a table (TSV or CSV, plain or gzip) or the alleles of a VCF or BCF.

    Raises:
        InputError: the file is missing or damaged, a column or a label is missing, or a number is none.
    """
    path = existing_file(path, "file of variants")
    is_vcf = path.name.lower().endswith((".vcf", ".vcf.gz", ".vcf.bgz", ".bcf"))
    rows = list(_from_vcf(path) if is_vcf else _from_table(path))
    if not rows:
        raise InputError(f"{path}: the file holds no variant.")
    return rows


def _from_table(path: Path) -> Iterator[LabelledVariant]:
    lines = text_lines(path)
    first = next(lines)
    separator = "\t" if "\t" in first else ","
    header = [cell.strip().lower() for cell in first.split(separator)]
    places = {role: _place(header, names) for role, names in _COLUMNS.items()}
    for role in _NEEDED:
        if places[role] is None:
            raise InputError(f"{path}: no column {role!r}, found {', '.join(header)}. {hint(role, header)}")
    for number, row in enumerate(csv.reader(lines, delimiter=separator)):
        if not row:
            continue
        if len(row) < len(header):
            raise InputError(f"{path}: line {number + 2}: {len(row)} columns, expected {len(header)}.")
        cells = {role: "" if place is None else row[place].strip() for role, place in places.items()}
        place = f"{path}: line {number + 2}"
        yield _labelled(place, _allele(place, number, cells), cells)


def _allele(place: str, number: int, cells: dict[str, str]) -> Allele:
    contig, position, ref, alt = cells["chrom"], cells["pos"], cells["ref"].upper(), cells["alt"].upper()
    if not contig or not position.isdecimal():
        raise InputError(f"{place}: chrom {contig!r} and pos {position!r}, expected a name and a whole number.")
    if not ref or not alt or not _BASES.issuperset(ref + alt):
        raise InputError(f"{place}: ref {ref!r} and alt {alt!r}, expected letters A, C, G, T or N, one alt a row.")
    status = Status.ALT_EQUALS_REF if ref == alt else Status.OK
    return Allele(number, number, contig, int(position), "", ref, alt, 1, status)


def _from_vcf(path: Path) -> Iterator[LabelledVariant]:
    entries = [_info(line) for line in filter(is_record, vcf_lines(path))]
    for allele in read_alleles(path):
        if allele.status is Status.MALFORMED:
            raise InputError(
                f"{path}: record {allele.record + 1} cannot be read. Expected CHROM, POS, ID, REF and ALT."
            )
        yield _labelled(f"{path}: {allele}", allele, entries[allele.record])


def _info(line: bytes) -> dict[str, str]:
    columns = text(line).rstrip("\r\n").split("\t", 8)
    entries = (entry.partition("=") for entry in (columns[7] if len(columns) > 7 else "").split(";"))
    values = {key: value for key, _, value in entries}
    return {role: values.get(name, "") for role, name in _INFO.items()}


def _labelled(place: str, allele: Allele, cells: dict[str, str]) -> LabelledVariant:
    if not cells["label"]:
        raise InputError(f"{place}: the label is empty.")
    split = cells["split"].lower()
    if split not in ("train", "test", ""):
        raise InputError(f"{place}: split is {cells['split']!r}, expected train or test.")
    return LabelledVariant(allele, cells["label"], cells["tissue"], _distance(place, cells["distance"]), split)


def _distance(place: str, cell: str) -> float | None:
    if cell.lower() in ("", ".", "nan"):
        return None
    try:
        return abs(float(cell))
    except ValueError as error:
        raise InputError(f"{place}: {cell!r} is no distance, expected a number of bases.") from error


def _place(header: list[str], names: tuple[str, ...]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)
