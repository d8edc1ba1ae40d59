"""Makes any recipe take a moment: few examples, narrow layers, and small files in the place of the user's.

A recipe whose data come with the package needs no entry here. For others add

- to `FILES`, by the name of the data set: a function that writes small files into a folder and returns the overrides
  that name them. What a data card lists goes into `folder / CARD`, where it is found without overrides;
- to `SMALLER`, by the name of a data set, model, baseline, estimator or recipe: overrides that make it quick;
- to `STARTS`, by the folder of the recipes: a function that writes a checkpoint to start from and returns its path.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import helixwave.data.batches
import numpy as np
import pytest
import yaml
from helixwave.checkpoint import build_model, save
from helixwave.recipe import Batches, load_recipe
from helixwave.registry import MODELS
from helixwave.run_folder import RunFolder
from helixwave.train import run
from helixwave_domains.ecg.leads import LEADS
from helixwave_domains.ecg.preprocessing import Preprocessing
from helixwave_domains.genomics.alphabet import VOCABULARY

from tests.domains.ecg.record_files import write_record
from tests.domains.ecg.test_beats import beats_file
from tests.domains.ecg.test_ptbxl import write_ptbxl
from tests.domains.video.test_feature_videos import write_breakfast, write_lvu

TRAINER = ["trainer.max_epochs=1", "trainer.accelerator=cpu", "batches.size=4", "batches.tokens=null"]
# of a model with layers of its own; those that it has not are left out
NARROW = {"d_model": 8, "n_layer": 1}
FEW = ["data.n_validation=8", "data.n_test=4"]
SMALLER: dict[str, list[str]] = {
    "associative_recall": FEW,
    "long_memory": FEW,
    "modular_addition": FEW,
    "parity": FEW,
    "selective_copying": FEW,
    "genome_annotation": ["data.window=32", "data.repeats=0.01", "data.block=20000"],
    "dna_windows": ["data.length=32", "data.windows=8", "data.evaluated=4"],
    "mitdb_beats": ["data.test_records=[1,2]"],
    "simulated_ecg": ["data.train=2", "data.validation=1", "data.test=1"],
    "cinc2021": ["data.window=1"],
    "variant_effect": ["data.window=32"],
    "ecg_model": ["model.widths=[4,4]"],
    "ecg_mamba": ["model.widths=[4,4]"],
    "local_logistic_regression": ["baseline.most=700", "baseline.context=5"],
    "one_hot_logistic_regression": ["baseline.strengths=[0.1]"],
    "kmer_logistic_regression": ["baseline.sizes=[3]", "baseline.strengths=[0.1]"],
    "pixel_logistic_regression": ["baseline.strengths=[0.1]"],
    "variant_logistic_regression": ["baseline.strengths=[0.1]"],
    "frame_difference_logistic_regression": ["baseline.strengths=[0.1]"],
    "motion_features_random_forest": ["baseline.trees=5", "baseline.leaves=[1]", "baseline.points=[0]"],
    "moving_digits": [
        *["data.size=16", "data.digit_size=8", "data.context=3", "data.train_horizon=2", "data.horizon=4"],
        *["data.n_train=4", *FEW],
    ],
    "moving_digits_direction": ["data.size=16", "data.digit_size=8", "data.n_frame=3", "data.n_train=64", *FEW],
    "lvu": ["data.window=4", "batches.workers=0"],
    "labelled_clips": ["data.n_frame=3", "data.size=16", "batches.workers=0"],
    "clip_statistics_logistic_regression": ["baseline.strengths=[0.1]"],
    "breakfast": ["data.frames=4", "data.n_validation=1", "batches.workers=0"],
    "base_context": ["baseline.sizes=[1]"],
    "embedding_svm": [],
    "genomics/genomic_benchmarks": ["data.task=demo_human_or_worm"],
    "ecg/beats": ["data.test_records=null"],
    "ecg/ptbxl": ["objective.intervals=0"],
    "ecg/cinc2021": ["objective.monitor=auroc"],
}
DIAGNOSES = ["426783006", "164889003,59118001", "713427006", "10370003,284470004"]


def letters(count: int, *, length: int = 20, first: int = 0) -> list[str]:
    numbers = range(first, first + count)
    return ["".join(np.random.default_rng(i).choice(list("ACGT"), length + i % 7)) for i in numbers]


def labelled_fasta(folder: Path) -> list[str]:
    rows = [f"{sequence},{'xy'[i % 2]}" for i, sequence in enumerate(letters(60))]
    (folder / "labels.csv").write_text("sequence,label\n" + "\n".join(rows) + "\n")
    return [f"data.table={folder / 'labels.csv'}"]


def genomic_benchmark(folder: Path) -> list[str]:
    """A benchmark as one file."""
    headers = [
        f"s{i} split={'test' if i % 5 == 0 else 'train'} class={'human' if i % 2 else 'worm'}" for i in range(60)
    ]
    write_fasta(folder / "benchmark.fa", headers, letters(60))
    return [f"data.fasta={folder / 'benchmark.fa'}"]


def nucleotide_transformer(folder: Path) -> list[str]:
    for part, count, first in (("train", 40, 0), ("test", 12, 40)):
        headers = [f"chr{i // 2}|{i % 2}" for i in range(count)]
        write_fasta(folder / "H3K4me1" / f"{part}.fna", headers, letters(count, first=first))
    return [f"data.folder={folder}"]


def uci_splice(folder: Path) -> list[str]:
    rows = [f"{('EI', 'IE', 'N')[i % 3]},s{i},{sequence[:60]}" for i, sequence in enumerate(letters(60, length=60))]
    (folder / "uci_splice").mkdir()
    (folder / "uci_splice" / "spliceData.txt").write_text("\n".join(rows) + "\n")
    return []


def nfe2_chipseq(folder: Path) -> list[str]:
    for i, name in enumerate(("tr", "neg.tr", "test", "neg.test")):
        names = [f"s{number}" for number in range(24)]
        write_fasta(folder / "nfe2_chipseq" / f"nfe2.{name}.fa", names, letters(24, length=40, first=24 * i))
    return []


def variant_effect(folder: Path) -> list[str]:
    contigs = dict(zip(("chr1", "chr2", "chr9", "chr10"), letters(4, length=300), strict=True))
    write_fasta(folder / "g.fa", list(contigs), list(contigs.values()))
    rows = ["chrom,pos,ref,alt,label,tissue,distance_to_nearest_tss"]
    for i in range(160):
        contig, position = list(contigs)[i % 4], 100 + i // 4
        ref = contigs[contig][position - 1]
        alt = "ACGT"[("ACGT".index(ref) + 1) % 4]
        rows.append(f"{contig[3:]},{position},{ref},{alt},{int(ref in 'AT')},liver,{(1_000, 50_000, 400_000)[i % 3]}")
    (folder / "v.csv").write_text("\n".join(rows) + "\n")
    return [
        f"data.variants={folder / 'v.csv'}",
        f"data.genome={folder / 'g.fa'}",
        f"estimator.checkpoint={dna_checkpoint(folder)}",
    ]


def write_fasta(path: Path, names: list[str], sequences: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    pairs = zip(names, sequences, strict=True)
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in pairs))


def challenge(folder: Path) -> list[str]:
    for i in range(16):
        write_record(folder / f"R{i}", DIAGNOSES[i % 4], rate=250)
    return [f"data.folder={folder}"]


def rhythms(folder: Path) -> list[str]:
    """Six patients of two leads, half of whom fibrillate."""
    wfdb = pytest.importorskip("wfdb")
    for patient in range(6):
        signal = np.random.default_rng(patient).normal(0, 1, (6000, 2))
        name = f"data_{patient}_1"
        settings = {"fs": 200, "units": ["mV", "mV"], "sig_name": ["I", "II"], "fmt": ["16", "16"]}
        wfdb.wrsamp(name, p_signal=signal, write_dir=str(folder), **settings)
        if patient % 2:
            wfdb.wrann(name, "atr", np.array([0]), ["+"], aux_note=["(AFIB"], write_dir=str(folder))
    return [f"data.folder={folder}"]


def labelled_records(folder: Path) -> list[str]:
    for i in range(16):
        write_record(folder / f"r{i}", None, rate=100)
    lines = [f"r{i},{'ab'[i % 2]}" for i in range(16)]
    (folder / "labels.csv").write_text("record,label\n" + "\n".join(lines) + "\n")
    return [f"data.table={folder / 'labels.csv'}"]


def ptbxl(folder: Path) -> list[str]:
    write_ptbxl(folder)
    return [f"data.folder={folder}"]


def hand_gestures(folder: Path) -> list[str]:
    rng = np.random.default_rng(0)
    rows = [",".join(map(str, [i // 200, *rng.random(32).round(4)])) for i in range(400)]
    (folder / "hand_gestures").mkdir()
    (folder / "hand_gestures" / "point_history.csv").write_text("\n".join(rows) + "\n")
    (folder / "hand_gestures" / "point_history_labels.csv").write_text("stop\nmove\n")
    return []


def smartwatch_exercises(folder: Path) -> list[str]:
    number, rng = np.arange(20), np.random.default_rng(0)
    arrays = {
        "X": rng.normal(size=(20 * 60, 6)).astype(np.float32),
        "lengths": np.full(20, 60),
        "y": number % 2,
        "subject": number // 4,
        "labels": np.array(["row", "curl"]),
    }
    np.savez(folder / "exercises.npz", **arrays)
    return [f"data.file={folder / 'exercises.npz'}"]


def lvu_clips(folder: Path) -> list[str]:
    return [f"data.{key}={value}" for key, value in write_lvu(folder, "relationship").items()]


def breakfast_videos(folder: Path) -> list[str]:
    return [f"data.{key}={value}" for key, value in write_breakfast(folder).items()]


def labelled_clips(folder: Path) -> list[str]:
    pytest.importorskip("av")
    from tests.domains.video.clip_folders import write_clips

    return [f"data.folder={write_clips(folder / 'clips', count=6)}"]


FILES: dict[str, Callable[[Path], list[str]]] = {
    "labelled_fasta": labelled_fasta,
    "genomic_benchmarks": genomic_benchmark,
    "nucleotide_transformer": nucleotide_transformer,
    "uci_splice": uci_splice,
    "nfe2_chipseq": nfe2_chipseq,
    "variant_effect": variant_effect,
    "mitdb_beats": lambda folder: [f"data.file={beats_file(folder)}"],
    "cpsc2021": rhythms,
    "ptbxl": ptbxl,
    "cinc2021": challenge,
    "labelled_clips": labelled_clips,
    "labelled_records": labelled_records,
    "hand_gestures": hand_gestures,
    "smartwatch_exercises": smartwatch_exercises,
    "lvu": lvu_clips,
    "breakfast": breakfast_videos,
}


def dna_checkpoint(folder: Path) -> Path:
    backbone = {"d_model": 8, "n_layer": 1, "blocks": [{"name": "bimamba", "d_state": 4}]}
    config = {"model": {"name": "dna_language_model"}, "backbone": backbone, "classes": list(VOCABULARY)}
    return saved(config, folder)


def ecg_checkpoint(folder: Path) -> Path:
    model = {"name": "ecg_model", "channels": len(LEADS), "widths": [4, 4]}
    config = {
        "model": model,
        "backbone": {"d_model": 8, "n_layer": 1, "blocks": [{"name": "gru"}]},
        "classes": ["a", "b"],
        "predicts": "class",
        "preprocessing": Preprocessing(rate=100.0, leads=list(LEADS), window=1.0).config(),
    }
    return saved(config, folder)


def saved(config: dict[str, Any], folder: Path) -> Path:
    """A model with random weights."""
    save(build_model(config), folder / "checkpoint")
    return folder / "checkpoint"


STARTS: dict[str, Callable[[Path], Path]] = {"genomics": dna_checkpoint, "ecg": ecg_checkpoint}


@dataclass
class TinyRecipe:
    """A shipped recipe, made small.

    Args:
        folder: of its files and its run.
        own_files: whether small files take the place of the data's.
    """

    name: str
    folder: Path
    own_files: bool = True
    config: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        path = Path(str(files("helixwave_recipes"))) / f"{self.name}.yaml"
        self.config = yaml.safe_load(path.read_text(encoding="utf-8"))

    def overrides(self) -> list[str]:
        parts = [self.config[part]["name"] for part in ("data", "model", "estimator", "baseline") if self._has(part)]
        smaller = [override for name in [*parts, self.name] for override in SMALLER.get(name, [])]
        made = FILES[parts[0]](self.folder) if self.own_files and parts[0] in FILES else []
        return [*self._narrow(), *smaller, *made]

    def _has(self, part: str) -> bool:
        return bool(self.config.get(part))

    def _narrow(self) -> list[str]:
        if self._has("estimator"):
            return []
        if "start" in self.config:
            return [*TRAINER, f"start={STARTS[self.name.split('/')[0]](self.folder)}"]
        known = MODELS.signature(self.config["model"]["name"]).parameters
        part = "backbone" if "backbone" in known else "model"
        sizes = [f"{part}.{key}={size}" for key, size in NARROW.items() if part == "backbone" or key in known]
        return [*TRAINER, *sizes]

    def run(self, *more: str) -> RunFolder:
        """Train it as `helixwave train` does, in `folder/run`."""
        place = RunFolder(self.folder / "run")
        recipe = load_recipe(self.name, [*self.overrides(), *more])
        place.create(recipe)
        run(recipe, place)
        return place


def one_step(patch: pytest.MonkeyPatch) -> None:
    """An epoch has one batch, and a split is judged in large ones. Reports are without pictures."""
    batches = helixwave.data.batches._batches

    def few(split: Any, settings: Batches, seed: int, epoch: int | None) -> list[list[int]]:
        if epoch is None:
            return batches(split, replace(settings, size=64), seed, epoch)
        return batches(split, settings, seed, epoch)[:1]

    patch.setattr(helixwave.data.batches, "_batches", few)
    patch.setattr("helixwave.report.as_svg", lambda figure: "")
