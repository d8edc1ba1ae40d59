"""Which parts of a genome are for training, for validation and for testing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from helixwave.errors import InputError

from helixwave_domains.genomics.bed import BedInterval, read_intervals
from helixwave_domains.genomics.sources import hint, hint_for_record

_SPLITS = {"train": "train", "valid": "validation", "validation": "validation", "test": "test"}
PARTS = ("train", "validation", "test")


@dataclass(frozen=True, order=True)
class Region:
    """A stretch of a record, from 0 and half-open."""

    contig: str
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def __str__(self) -> str:
        return f"{self.contig}:{self.start}-{self.end}"


def split_regions(
    where: str,
    lengths: Mapping[str, int],
    *,
    bed: str | None,
    excluded: Sequence[Region] = (),
    validation_contigs: Sequence[str] | None,
    test_contigs: Sequence[str] | None,
    validation: float,
    test: float,
) -> dict[str, list[Region]]:
    """Training, validation and test regions of a genome, in the order of its records; neighbours are joined.

    What a BED names `train`, `valid` and `test` in column 4 decides; else the contigs named; else the place: the last
    part of all regions together is for testing, what stands before it for validation.

    Args:
        where: the FASTA, for messages.
        lengths: letters of each of its records.
        bed: intervals to use; None: all records.
        excluded: stretches to leave out, without a BED.

    Raises:
        InputError: an unknown contig, an interval beyond its contig, intervals of two parts that overlap, or a part
            without a region.
    """
    intervals = list(read_intervals(bed)) if bed is not None else []
    for interval in intervals:
        expect_inside(where, lengths, interval)
    by_contig = validation_contigs is not None or test_contigs is not None
    if names := _split_names(intervals):
        if by_contig:
            raise InputError(f"data: {bed} says what is for what; leave out data.validation_contigs and test_contigs")
        parts = _by_name(bed or "", intervals, names, lengths)
    else:
        whole = [Region(name, 0, length) for name, length in lengths.items()]
        regions = _joined(intervals, lengths) if bed is not None else _without(whole, excluded)
        if by_contig:
            parts = _by_contig(where, lengths, regions, validation_contigs or [], test_contigs or [])
        else:
            parts = _by_place(regions, validation, test)
    for part, found in parts.items():
        if not found:
            raise InputError(f"data: no region of {where} is for {part}{f' in {bed}' if bed else ''}. {_ADVICE}")
    return parts


_ADVICE = "Name train, valid and test in column 4 of a BED, or give data.validation_contigs and data.test_contigs"


def expect_inside(where: str, lengths: Mapping[str, int], interval: BedInterval) -> None:
    if interval.contig not in lengths:
        raise InputError(
            f"{interval.place}: {interval.contig!r} is not in {where}. {hint_for_record(interval.contig, lengths)}"
        )
    if interval.end > lengths[interval.contig]:
        raise InputError(
            f"{interval.place}: ends at {interval.end}, beyond {interval.contig} of {lengths[interval.contig]} "
            "letters. Is this the right assembly?"
        )


def _split_names(intervals: list[BedInterval]) -> list[str]:
    """The part of each interval, if the BED names them; nothing if column 4 holds anything else."""
    if not any(interval.name.lower() in _SPLITS for interval in intervals):
        return []
    for interval in intervals:
        if interval.name.lower() not in _SPLITS:
            raise InputError(f"{interval.place}: {interval.name!r} is no part. {hint(interval.name.lower(), _SPLITS)}")
    return [_SPLITS[interval.name.lower()] for interval in intervals]


def _by_name(
    bed: str, intervals: list[BedInterval], names: list[str], lengths: Mapping[str, int]
) -> dict[str, list[Region]]:
    pairs = list(zip(intervals, names, strict=True))
    parts = {part: _joined((interval for interval, name in pairs if name == part), lengths) for part in PARTS}
    _refuse_overlap(bed, parts)
    return parts


def _joined(intervals: Iterable[BedInterval], lengths: Mapping[str, int]) -> list[Region]:
    """Intervals in the order of the records, those that touch or overlap as one."""
    order = {name: i for i, name in enumerate(lengths)}
    joined: list[Region] = []
    for interval in sorted(intervals, key=lambda i: (order[i.contig], i.start)):
        last = joined[-1] if joined else None
        if last is not None and last.contig == interval.contig and interval.start <= last.end:
            joined[-1] = Region(last.contig, last.start, max(last.end, interval.end))
        else:
            joined.append(Region(interval.contig, interval.start, interval.end))
    return joined


def _refuse_overlap(bed: str, parts: dict[str, list[Region]]) -> None:
    marked = sorted((region, part) for part, regions in parts.items() for region in regions)
    for (one, part), (other, other_part) in pairwise(marked):
        if one.contig == other.contig and other.start < one.end:
            raise InputError(
                f"{bed}: {other} for {other_part} overlaps {one} for {part}. "
                "No base may be in two parts: take one of them away"
            )


def _without(regions: list[Region], excluded: Sequence[Region]) -> list[Region]:
    """Regions less the stretches that are left out."""
    for hole in sorted(excluded):
        pieces = []
        for region in regions:
            if region.contig != hole.contig or hole.end <= region.start or region.end <= hole.start:
                pieces.append(region)
                continue
            pieces += [Region(region.contig, region.start, hole.start), Region(region.contig, hole.end, region.end)]
        regions = [piece for piece in pieces if len(piece) > 0]
    return regions


def _by_contig(
    where: str, lengths: Mapping[str, int], regions: list[Region], validation: Sequence[str], test: Sequence[str]
) -> dict[str, list[Region]]:
    for name in [*validation, *test]:
        if name not in lengths:
            raise InputError(f"data: {name!r} is not in {where}. {hint_for_record(name, lengths)}")
        if name in validation and name in test:
            raise InputError(f"data: {name!r} is both in data.validation_contigs and in data.test_contigs")
    part_of = {**dict.fromkeys(validation, "validation"), **dict.fromkeys(test, "test")}
    return {part: [r for r in regions if part_of.get(r.contig, "train") == part] for part in PARTS}


def _by_place(regions: list[Region], validation: float, test: float) -> dict[str, list[Region]]:
    if min(validation, test) <= 0 or validation + test >= 1:
        raise InputError(f"data: validation {validation} and test {test}, expected shares that leave some to train")
    total = sum(map(len, regions))
    borders = [0, round(total * (1 - validation - test)), round(total * (1 - test)), total]
    parts: dict[str, list[Region]] = {part: [] for part in PARTS}
    position = 0
    for region in regions:
        for part, low, high in zip(PARTS, borders[:-1], borders[1:], strict=True):
            start, end = max(low - position, 0), min(high - position, len(region))
            if start < end:
                parts[part].append(Region(region.contig, region.start + start, region.start + end))
        position += len(region)
    return parts
