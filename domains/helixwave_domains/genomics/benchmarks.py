"""Published benchmarks of sequence classification, with the splits and metrics that others report."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from helixwave.cards import data_folder
from helixwave.errors import InputError, nearest

from helixwave_domains.genomics.benchmark_files import (
    PARTS,
    Rows,
    Uncut,
    read_coordinates,
    read_split_headers,
    read_text_files,
)
from helixwave_domains.genomics.fasta import read_fasta
from helixwave_domains.genomics.labels import (
    LabelledSequences,
    labelled_sequences,
    read_headers,
    with_unique_names,
)
from helixwave_domains.genomics.sequences import SequenceData, split_off

log = logging.getLogger("helixwave")

GenomicBenchmark = Literal[
    "dummy_mouse_enhancers_ensembl",
    "demo_coding_vs_intergenomic_seqs",
    "demo_human_or_worm",
    "human_enhancers_cohn",
    "human_enhancers_ensembl",
    "human_ensembl_regulatory",
    "human_nontata_promoters",
    "human_ocr_ensembl",
]
NucleotideTask = Literal[
    "H3",
    "H3K14ac",
    "H3K36me3",
    "H3K4me1",
    "H3K4me2",
    "H3K4me3",
    "H3K79me3",
    "H3K9ac",
    "H4",
    "H4ac",
    "enhancers",
    "enhancers_types",
    "promoter_all",
    "promoter_no_tata",
    "promoter_tata",
    "splice_sites_all",
    "splice_sites_acceptors",
    "splice_sites_donors",
]


@dataclass(frozen=True)
class _Task:
    """A benchmark of GenomicBenchmarks.

    Args:
        references: for each class the argument that names the FASTA of its intervals.
        either_strand: whether a sequence means the same on the other strand.
    """

    references: Mapping[str, str]
    either_strand: bool = True


_POSITIVE = {"negative": "genome", "positive": "genome"}
_TASKS: dict[str, _Task] = {
    "dummy_mouse_enhancers_ensembl": _Task(_POSITIVE),
    "demo_coding_vs_intergenomic_seqs": _Task({"coding_seqs": "transcripts", "intergenomic_seqs": "genome"}, False),
    "demo_human_or_worm": _Task({"human": "genome", "worm": "worm"}),
    "human_enhancers_cohn": _Task(_POSITIVE),
    "human_enhancers_ensembl": _Task(_POSITIVE),
    "human_ensembl_regulatory": _Task(dict.fromkeys(("enhancer", "ocr", "promoter"), "genome")),
    "human_nontata_promoters": _Task(_POSITIVE, False),
    "human_ocr_ensembl": _Task(_POSITIVE),
}
_ENDINGS = (".fna", ".fasta", ".fa", ".fna.gz", ".fasta.gz", ".fa.gz")


class GenomicBenchmarks(SequenceData):
    """One of the eight GenomicBenchmarks: enhancers, promoters, open chromatin, coding sequences, species.

    The sequences are cut from a genome at the published coordinates (`genome` and, for two of the tasks, another
    FASTA), or read from the text files that the package genomic-benchmarks writes, or from one FASTA. The test part is
    the published one; there is no published validation part, so one is drawn from the training part (Schiff et al.,
    "Caduceus", 2024, section 5.2). Source: Grešová et al., "Genomic benchmarks", BMC Genomic Data 24, 2023.

    Args:
        task: which benchmark.
        folder: where the folder of the task lies, with `train/CLASS.csv.gz` or `train/CLASS/NAME.txt`, and the same for
            `test`; null: `genomic_benchmarks` in the data folder.
        genome: FASTA of the assembly that the coordinates belong to: GRCh38, or GRCm38 for the mouse.
        transcripts: for demo_coding_vs_intergenomic_seqs, Ensembl's FASTA of human cDNA.
        worm: for demo_human_or_worm, FASTA of C. elegans WBcel235.
        fasta: instead of all these, a FASTA with headers `>name split=train class=CLASS`.
        either_strand: whether training draws both strands of a sequence; null: where the task is about neither coding
            sequences nor promoters, which have a direction.
        validation: part of the training sequences for validation.
        split_seed: draws the stratified validation part, apart from the run's seed.
        mutation: part of the bases of a training sequence that is replaced by a random one.
    """

    metric = "accuracy"

    def __init__(
        self,
        *,
        task: GenomicBenchmark,
        folder: str | None = None,
        genome: str | None = None,
        transcripts: str | None = None,
        worm: str | None = None,
        fasta: str | None = None,
        either_strand: bool | None = None,
        validation: float = 0.1,
        split_seed: int = 0,
        mutation: float = 0.0,
    ):
        if task not in _TASKS:
            raise InputError(f"data: no task {task!r}. {nearest(task, _TASKS)}")
        chosen = _TASKS[task]
        given = {"genome": genome, "transcripts": transcripts, "worm": worm}
        files = {name: path for name, path in given.items() if path is not None}
        rows, dropped = _read(task, Path(folder) if folder else data_folder() / "genomic_benchmarks", files, fasta)
        train, test = (_part(rows, part, task, list(chosen.references)) for part in PARTS)
        super().__init__(
            *split_off(train, validation, split_seed),
            test,
            either_strand=chosen.either_strand if either_strand is None else either_strand,
            mutation=mutation,
            dropped=dropped,
        )


class NucleotideTransformer(SequenceData):
    """One of the 18 downstream tasks of the Nucleotide Transformer, from the published FASTA files.

    Headers end in the class, `>name|1`; a name may occur more than once. The metric that others report is MCC for
    histone marks and enhancers, F1 for promoters, donors and acceptors, and accuracy for all splice sites. Source:
    Dalla-Torre et al., "The Nucleotide Transformer", 2023; first version of the data, with a tenth of the training part
    for validation as in Schiff et al., "Caduceus", 2024, section 5.2.

    Args:
        task: which task.
        folder: where the folder of the task lies, with `train.fna` and `test.fna`; null: `nucleotide_transformer` in
            the data folder.
        either_strand: whether training draws both strands of a sequence; null: for histone marks and enhancers.
        validation: part of the training sequences for validation.
        split_seed: draws the stratified validation part, apart from the run's seed.
        mutation: part of the bases of a training sequence that is replaced by a random one.
    """

    def __init__(
        self,
        *,
        task: NucleotideTask,
        folder: str | None = None,
        either_strand: bool | None = None,
        validation: float = 0.1,
        split_seed: int = 0,
        mutation: float = 0.0,
    ):
        if task not in get_args(NucleotideTask):
            raise InputError(f"data: no task {task!r}. {nearest(task, get_args(NucleotideTask))}")
        place = (Path(folder) if folder else data_folder() / "nucleotide_transformer") / task
        train = read_headers(_fasta(place, "train"), "pipe", repeated="number")
        test = read_headers(_fasta(place, "test"), "pipe", repeated="number", classes=train.classes)
        directed = task.startswith(("promoter", "splice"))
        super().__init__(
            *split_off(train, validation, split_seed),
            test,
            either_strand=not directed if either_strand is None else either_strand,
            mutation=mutation,
            dropped={},
        )
        self.metric = "accuracy" if task == "splice_sites_all" else "macro_f1" if directed else "mcc"


def _read(task: str, folder: Path, files: Mapping[str, str], fasta: str | None) -> tuple[Rows, dict[str, Any]]:
    references = _TASKS[task].references
    if fasta is not None:
        if files:
            raise InputError(f"data: give either data.fasta or data.{next(iter(files))}, not both")
        return read_split_headers(Path(fasta)), {}
    if not files:
        return _text_files(task, folder), {}
    _check_references(task, files)
    opened = {name: read_fasta(path) for name, path in files.items()}
    rows, uncut = read_coordinates(folder / task, {label: opened[name] for label, name in references.items()})
    for part, missing in uncut.items():
        if missing.unknown or missing.outside:
            log.warning("%s: intervals of %s that cannot be cut out: %s", task, part, missing)
    return rows, _missing(uncut)


def _text_files(task: str, folder: Path) -> Rows:
    first = folder / task / "train" / next(iter(_TASKS[task].references))
    if not first.is_dir():
        needed = " and ".join(f"data.{name}" for name in dict.fromkeys(_TASKS[task].references.values()))
        raise InputError(
            f"{first}: there is no such folder of text files. Give {needed} to cut the sequences at the coordinates in "
            f"{folder / task}, or say in data.folder where the package genomic-benchmarks put its text files"
        )
    return read_text_files(folder / task, _TASKS[task].references)


def _check_references(task: str, files: Mapping[str, str]) -> None:
    needed = _TASKS[task].references
    for label, name in needed.items():
        if name not in files:
            raise InputError(f"data: {task} needs data.{name} too: the FASTA of its class {label!r}")
    for name in files:
        if name not in needed.values():
            raise InputError(f"data: data.{name} is given, but no class of {task} is cut from it. Leave it out")


def _part(rows: Rows, part: Any, task: str, classes: list[str]) -> LabelledSequences:
    found = labelled_sequences(with_unique_names(rows[part]), classes)
    for number, label in enumerate(classes):
        if not (found.labels == number).any():
            raise InputError(
                f"data: {task} has no {part} sequence of class {label!r}. Is the FASTA of its assembly whole?"
            )
    return found


def _missing(uncut: Mapping[Any, Uncut]) -> dict[str, str]:
    return {f"{part} intervals that are not in the FASTA, left out": str(missing) for part, missing in uncut.items()}


def _fasta(folder: Path, part: str) -> Path:
    places = [folder / f"{part}{ending}" for ending in _ENDINGS]
    return next((place for place in places if place.exists()), places[0])
