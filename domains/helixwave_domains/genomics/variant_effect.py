"""Variants with a label each: do they change what was measured?"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from helixwave.data import Example, Picture
from helixwave.errors import InputError
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from helixwave_domains.genomics.alphabet import PAD
from helixwave_domains.genomics.fasta import FastaFile, read_fasta
from helixwave_domains.genomics.sources import other_spellings
from helixwave_domains.genomics.variant_tables import LabelledVariant, read_variants
from helixwave_domains.genomics.variants import Allele
from helixwave_domains.genomics.windows import AlleleWindows, allele_windows

Mismatch = Literal["error", "skip", "swap", "keep"]

# bases to the nearest transcription start, as Schiff et al., "Caduceus", 2024, figure 4 has them
_BINS = {"0 to 30 kb": (0, 30_000), "30 to 100 kb": (30_000, 100_000), "beyond 100 kb": (100_000, np.inf)}
_EVERYWHERE = "all"


@dataclass(frozen=True)
class VariantPart:
    """The rows of one part.

    Args:
        alleles: which allele of the data set each row is about `[M]`.
        labels: classes `[M]`.
        tissues: numbers of the tissues `[M]`.
        bins: numbers of the bins of distance `[M]`.
    """

    alleles: NDArray[np.int64]
    labels: NDArray[np.int64]
    tissues: NDArray[np.int64]
    bins: NDArray[np.int64]
    padding = PAD

    def __len__(self) -> int:
        return len(self.labels)

    def length(self, index: int) -> int:
        return 1

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        raise InputError(
            "data: variant_effect is for an estimator, not for training step by step. Leave out model and backbone and "
            "give estimator.name=embedding_svm, as in genomics/variant_effect"
        )

    def joined(self, other: "VariantPart") -> "VariantPart":
        """The rows of both."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return VariantPart(*map(np.concatenate, pairs))

    def subset(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "VariantPart":
        """Some of the rows."""
        return VariantPart(self.alleles[rows], self.labels[rows], self.tissues[rows], self.bins[rows])


class VariantEffect:
    """Variants with and without an effect, on a genome, in bins of the distance to the nearest transcription start.

    Source of protocol: Schiff et al., "Caduceus", 2024, section 5.3.

    Args:
        variants: TSV, CSV, VCF or BCF; see `variant_tables`.
        genome: FASTA of the assembly of the variants.
        window: bases that a model reads around a variant.
        on_mismatch: what to do where the reference allele is not what the genome says; see `allele_windows`.
        most_unknown: windows with this part of unknown bases or more are left out.
        test_contigs: chromosomes for testing, with or without `chr`, where the file has no column `split`.
        validation: part of the training rows for validation.
        split_seed: draws the stratified validation part, apart from the run's seed.
    """

    metric = "auroc"

    def __init__(
        self,
        *,
        variants: str,
        genome: str,
        window: int = 2048,
        on_mismatch: Mismatch = "skip",
        most_unknown: float = 0.005,
        test_contigs: Sequence[str] = ("9", "10"),
        validation: float = 0.1,
        split_seed: int = 0,
    ):
        rows = read_variants(variants)
        self.genome, self.window, self.on_mismatch = read_fasta(genome), window, on_mismatch
        self.classes = sorted({row.label for row in rows})
        if len(self.classes) != 2:
            raise InputError(f"{variants}: labels are {', '.join(self.classes)}, expected two of them")
        self.alleles, usable, self.dropped = self._usable(rows, most_unknown)
        rows = [row for row, number in zip(rows, usable, strict=True) if number >= 0]
        self.tissues = sorted({row.tissue for row in rows})
        self.bins = list(_BINS) if any(row.distance is not None for row in rows) else [_EVERYWHERE]
        tested = np.array([_is_test(row, test_contigs) for row in rows], dtype=bool)
        whole = self._part(rows, usable[usable >= 0])
        self.test = whole.subset(tested)
        self.train, self.validation = _split(variants, whole.subset(~tested), validation, split_seed)
        if not len(self.test):
            raise InputError(f"{variants}: no variant to test on, expected some on {' or '.join(test_contigs)}")

    def windows(self, number: int) -> AlleleWindows:
        """The window of an allele with either of its letters."""
        return _windows(self.alleles[number], self.genome, self.window, self.on_mismatch)

    @property
    def test_groups(self) -> dict[str, NDArray[np.bool_]]:
        """Rows of the test part by distance, which are scored on their own too."""
        return {name: self.test.bins == i for i, name in enumerate(self.bins)}

    def describe(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"alleles": len(self.alleles), "tissues": len(self.tissues), "window": self.window}
        for name in ("train", "validation", "test"):
            part: VariantPart = getattr(self, name)
            counts = np.bincount(part.labels, minlength=2)
            listed = ", ".join(f"{count} {label}" for label, count in zip(self.classes, counts, strict=True))
            facts[name] = f"{len(part)} variants ({listed})"
        left = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        return {**facts, "variants left out": left or "none"}

    def export(self, model: Any, folder: Path) -> list[Picture]:
        return []

    def _usable(
        self, rows: Sequence[LabelledVariant], most_unknown: float
    ) -> tuple[list[Allele], NDArray[np.int64], Counter[str]]:
        """Alleles that have windows, once each; which one a row is about, -1 if none; why rows have none."""
        alleles: list[Allele] = []
        number: dict[tuple[str, int, str, str], int] = {}
        reasons: dict[tuple[str, int, str, str], str] = {}
        dropped: Counter[str] = Counter()
        found = np.full(len(rows), -1, dtype=np.int64)
        for i, row in enumerate(rows):
            key = (row.allele.contig, row.allele.position, row.allele.ref, row.allele.alt)
            if key not in number and key not in reasons:
                reason = _reason(row.allele, self.genome, self.window, self.on_mismatch, most_unknown)
                if reason:
                    reasons[key] = reason
                else:
                    number[key] = len(alleles)
                    alleles.append(row.allele)
            if key in number:
                found[i] = number[key]
            else:
                dropped[reasons[key]] += 1
        return alleles, found, dropped

    def _part(self, rows: Sequence[LabelledVariant], alleles: NDArray[np.int64]) -> VariantPart:
        labels = np.array([self.classes.index(row.label) for row in rows], dtype=np.int64)
        tissues = np.array([self.tissues.index(row.tissue) for row in rows], dtype=np.int64)
        bins = np.array([self._bin(row) for row in rows], dtype=np.int64)
        return VariantPart(alleles, labels, tissues, bins)

    def _bin(self, row: LabelledVariant) -> int:
        if self.bins == [_EVERYWHERE]:
            return 0
        if row.distance is None:
            raise InputError(f"{row.allele}: no distance to a transcription start, which other variants have. Add it")
        return next(i for i, (_, end) in enumerate(_BINS.values()) if row.distance < end or end == np.inf)


def _windows(allele: Allele, genome: FastaFile, window: int, on_mismatch: Mismatch) -> AlleleWindows:
    return allele_windows(allele, genome, window=window, on_mismatch=on_mismatch)


def _reason(allele: Allele, genome: FastaFile, window: int, on_mismatch: Mismatch, most_unknown: float) -> str:
    """Why an allele is left out; empty if it is not."""
    found = _windows(allele, genome, window, on_mismatch)
    if not found.status.usable:
        return str(found.status)
    return "too_many_unknown_bases" if found.ref.count("N") >= most_unknown * window else ""


def _is_test(row: LabelledVariant, contigs: Sequence[str]) -> bool:
    if row.split:
        return row.split == "test"
    names = {row.allele.contig, *other_spellings(row.allele.contig)}
    return not names.isdisjoint(map(str, contigs))


def _split(path: str, part: VariantPart, validation: float, seed: int) -> tuple[VariantPart, VariantPart]:
    """Rows for training and validation, stratified by class and distance."""
    if not 0 < validation < 1:
        raise InputError(f"data: validation is {validation}, expected more than 0 and less than 1")
    strata = 2 * part.bins + part.labels
    try:
        kept, held_out = train_test_split(
            np.arange(len(part)), test_size=validation, stratify=strata, random_state=seed
        )
    except ValueError as error:
        raise InputError(
            f"{path}: {len(part)} variants for training, too few of a class at some distance to split off "
            f"data.validation={validation}"
        ) from error
    return part.subset(kept), part.subset(held_out)
