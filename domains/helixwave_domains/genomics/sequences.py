"""Sequences with one class each, split for training, validation and testing."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.cards import read_card
from helixwave.data import Example, Picture
from helixwave.errors import InputError
from sklearn.model_selection import train_test_split

from helixwave_domains.genomics.alphabet import PAD, A, T, count_iupac, encode, reverse_complement
from helixwave_domains.genomics.label_model import DNALabelModel
from helixwave_domains.genomics.labels import (
    LabelledSequences,
    LabelStyle,
    read_bed,
    read_class_files,
    read_headers,
    read_table,
    read_uci_splice,
    without_duplicates,
)
from helixwave_domains.genomics.targets import TargetKind, describe_targets, with_targets
from helixwave_domains.genomics.vocabulary import DNA


class SequenceSplit:
    """Encoded sequences of one part; training examples may be reverse complemented and mutated at random."""

    padding = PAD

    def __init__(self, data: LabelledSequences, *, either_strand: bool, mutation: float = 0.0):
        self.sequences, self.labels = data.sequences, data.labels
        self.either_strand, self.mutation = either_strand, mutation
        pairs = zip(data.names, data.sequences, strict=True)
        # a byte for each base: large benchmarks have a hundred million
        self.ids = [encode(sequence, name) for name, sequence in pairs]

    def __len__(self) -> int:
        return len(self.ids)

    def length(self, index: int) -> int:
        return len(self.ids[index])

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        ids = self.ids[index].astype(np.int64)
        if rng is not None:
            ids = mutated(ids, self.mutation, rng)
            if self.either_strand and rng.random() < 0.5:
                ids = reverse_complement(ids).copy()
        label = self.labels[index]
        return {"inputs": ids, "target": int(label) if self.labels.ndim == 1 else label}


class SequenceData:
    """Three parts of labelled sequences.

    Args:
        either_strand: whether training draws both strands of a sequence.
        mutation: part of the bases of a training sequence that is replaced by a random one.
        dropped: what was left out and how much of it, for the report.
    """

    vocabulary = DNA

    def __init__(
        self,
        train: LabelledSequences,
        validation: LabelledSequences,
        test: LabelledSequences,
        *,
        either_strand: bool,
        mutation: float,
        dropped: Mapping[str, int | str],
    ):
        self.classes, self.dropped = train.classes, dropped
        self.parts = {"train": train, "validation": validation, "test": test}
        self.train = SequenceSplit(train, either_strand=either_strand, mutation=mutation)
        self.validation = SequenceSplit(validation, either_strand=False)
        self.test = SequenceSplit(test, either_strand=False)

    def describe(self) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        for name, part in self.parts.items():
            facts[name] = f"{len(part)} sequences ({describe_targets(part)})"
        ambiguous = sum(part.iupac for part in self.parts.values())
        seen = {*self.train.sequences, *self.validation.sequences}
        shared = sum(sequence in seen for sequence in self.test.sequences)
        facts["test sequences that are training sequences too"] = shared
        return {**facts, "ambiguity codes read as unknown": ambiguous, **self.dropped}

    def export(self, model: Any, folder: Path) -> list[Picture]:
        """What a classifier reads in single test sequences, and how it sees them all."""
        if not isinstance(model, DNALabelModel) or model.predicts != "class":
            return []
        from helixwave_domains.genomics.genome_page import sequence_page

        return sequence_page(model, self.parts["test"])


class UciSplice(SequenceData):
    """UCI primate splice junctions: exon-intron, intron-exon or neither, 60 bases around the place.

    Args:
        test: part of the sequences for testing.
        validation: part of the sequences for validation.
        split_seed: draws the stratified split, apart from the run's seed.
        mutation: part of the bases of a training sequence that is replaced by a random one.
    """

    def __init__(self, *, test: float = 0.2, validation: float = 0.1, split_seed: int = 0, mutation: float = 0.0):
        data = read_uci_splice(read_card("uci_splice").file("spliceData.txt"))
        super().__init__(
            **_deduplicated_split(data, test, validation, split_seed), either_strand=False, mutation=mutation
        )


class Nfe2ChipSeq(SequenceData):
    """NF-E2 ChIP-seq peaks against regions without a peak; the test files are given.

    Args:
        validation: part of the training sequences for validation.
        split_seed: draws the stratified validation part, apart from the run's seed.
        mutation: part of the bases of a training sequence that is replaced by a random one.
    """

    def __init__(self, *, validation: float = 0.15, split_seed: int = 0, mutation: float = 0.0):
        card = read_card("nfe2_chipseq")
        given = {
            part: read_class_files(
                {"background": card.file(f"nfe2.neg.{part}.fa"), "peak": card.file(f"nfe2.{part}.fa")}
            )
            for part in ("tr", "test")
        }
        train, held_out = split_off(given["tr"], validation, split_seed)
        super().__init__(train, held_out, given["test"], either_strand=True, mutation=mutation, dropped={})


class LabelledFasta(SequenceData):
    """The user's own sequences with a class, labels or numbers each, from a table, a BED file or FASTA headers.

    Args:
        fasta: sequences, or the reference that `bed` cuts from; plain, gzip or BGZF.
        table: TSV or CSV with the columns name and label (or sequence and label, without `fasta`).
        bed: intervals of `fasta` whose name column is the class.
        header: without table and BED, where the class stands in a FASTA header: `>name class`, `>name|class`, or
            `>name label=class`.
        target: what a label is: one `class`, several `labels` with `;` between them (`-`: none of them), or `numbers`.
        either_strand: whether a sequence means the same on the other strand; training then draws both.
        test: part of the sequences for testing.
        validation: part of the sequences for validation.
        split_seed: draws the stratified split, apart from the run's seed.
        mutation: part of the bases of a training sequence that is replaced by a random one.
    """

    def __init__(
        self,
        *,
        fasta: str | None = None,
        table: str | None = None,
        bed: str | None = None,
        header: LabelStyle = "word",
        target: TargetKind = "class",
        either_strand: bool = False,
        test: float = 0.2,
        validation: float = 0.1,
        split_seed: int = 0,
        mutation: float = 0.0,
    ):
        data = _read(fasta, table, bed, header)
        super().__init__(
            **_deduplicated_split(data, test, validation, split_seed, target),
            either_strand=either_strand,
            mutation=mutation,
        )


def mutated(ids: np.ndarray, part: float, rng: np.random.Generator) -> np.ndarray:
    """A copy of token ids in which about `part` of the bases are replaced by a random one."""
    return np.where(rng.random(len(ids)) < part, rng.integers(A, T + 1, len(ids)), ids)


def split_off(data: LabelledSequences, part: float, seed: int) -> tuple[LabelledSequences, LabelledSequences]:
    """A random split, stratified where labels are classes: the rest, and about `part` of the sequences."""
    if not 0 < part < 1:
        raise InputError(f"data: a part is {part}, expected more than 0 and less than 1")
    try:
        strata = data.labels if data.labels.ndim == 1 else None
        rest, held_out = train_test_split(np.arange(len(data)), test_size=part, stratify=strata, random_state=seed)
    except ValueError as error:
        raise InputError(f"data: too few sequences to split off a part of {part}: {describe_targets(data)}") from error
    return _subset(data, rest), _subset(data, held_out)


def _deduplicated_split(
    data: LabelledSequences, test: float, validation: float, seed: int, target: TargetKind = "class"
) -> dict[str, Any]:
    data, duplicates = without_duplicates(data)
    data = with_targets(data, target)
    rest, tested = split_off(data, test, seed)
    train, validated = split_off(rest, validation / (1 - test), seed)
    dropped = {
        "further copies of a sequence, left out": duplicates.repeated,
        "copies with conflicting classes, left out": duplicates.conflicting,
    }
    return {"train": train, "validation": validated, "test": tested, "dropped": dropped}


def _subset(data: LabelledSequences, indices: np.ndarray) -> LabelledSequences:
    names = [data.names[i] for i in indices]
    sequences = [data.sequences[i] for i in indices]
    ambiguous = sum(map(count_iupac, sequences))
    return replace(data, names=names, sequences=sequences, labels=data.labels[indices], iupac=ambiguous)


def _read(fasta: str | None, table: str | None, bed: str | None, header: LabelStyle) -> LabelledSequences:
    if table is not None and bed is None:
        return read_table(table, fasta)
    if bed is not None and table is None and fasta is not None:
        return read_bed(bed, fasta)
    if fasta is not None and bed is None and table is None:
        return read_headers(fasta, header)
    raise InputError(
        "data: give data.fasta with labels in its headers, data.table (with or without data.fasta), "
        "or data.bed with data.fasta"
    )
