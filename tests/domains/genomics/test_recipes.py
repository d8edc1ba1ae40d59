"""Every recipe of the domain runs, with every backbone, on a size that takes a moment."""

import csv
import json
from pathlib import Path

import helixwave
import numpy as np
import pytest
import torch
from helixwave.checkpoint import build_model, save
from helixwave.recipe import choices, load_recipe, recipe_names
from helixwave.run_folder import RunFolder
from helixwave.train import run
from helixwave_domains.genomics.alphabet import VOCABULARY

TINY = ["trainer.max_epochs=1", "trainer.accelerator=cpu", "backbone.d_model=8"]
SMALLER = {
    "genomics/annotate": ["data.window=32", "data.repeats=0.01", "baseline.most=700", "baseline.context=5"],
    "genomics/splice": ["baseline.strengths=[0.1]"],
    "genomics/tfbs": ["baseline.sizes=[3]", "baseline.strengths=[0.1]"],
    "genomics/classify": ["baseline.sizes=[3]", "baseline.strengths=[0.1]"],
    "genomics/genomic_benchmarks": ["data.task=demo_human_or_worm", "baseline.sizes=[3]", "baseline.strengths=[0.1]"],
    "genomics/nucleotide_transformer": ["data.task=H3K4me1", "baseline.sizes=[3]", "baseline.strengths=[0.1]"],
    "genomics/pretrain": ["data.length=32", "data.windows=8", "data.evaluated=4", "baseline.sizes=[1]"],
    "genomics/pretrain_causal": ["data.length=32", "data.windows=8", "data.evaluated=4", "baseline.sizes=[1]"],
    "genomics/finetune": ["baseline.sizes=[3]", "baseline.strengths=[0.1]"],
    "genomics/splice_pretrain": ["baseline.sizes=[1]", "data.validation=0.7"],
    "genomics/splice_finetune": ["baseline.strengths=[0.1]", "data.validation=0.7"],
    "genomics/tfbs_pretrain": ["baseline.sizes=[1]", "data.validation=0.9"],
    "genomics/tfbs_finetune": ["baseline.sizes=[3]", "baseline.strengths=[0.1]", "data.validation=0.9"],
}


def table(folder: Path) -> str:
    rng = np.random.default_rng(0)
    rows = [f"{''.join(rng.choice(list('ACGT'), 20 + i % 7))},{'xy'[i % 2]}" for i in range(60)]
    path = folder / "labels.csv"
    path.write_text("sequence,label\n" + "\n".join(rows) + "\n")
    return f"data.table={path}"


def letters(count: int, first: int = 0) -> list[str]:
    numbers = range(first, first + count)
    return ["".join(np.random.default_rng(i).choice(list("ACGT"), 20 + i % 7)) for i in numbers]


def one_fasta(folder: Path) -> str:
    """A benchmark as one file."""
    headers = [
        f"s{i} split={'test' if i % 5 == 0 else 'train'} class={'human' if i % 2 else 'worm'}" for i in range(60)
    ]
    rows = zip(headers, letters(60), strict=True)
    (folder / "benchmark.fa").write_text("".join(f">{header}\n{sequence}\n" for header, sequence in rows))
    return f"data.fasta={folder / 'benchmark.fa'}"


def task(folder: Path) -> str:
    """A task of the Nucleotide Transformer."""
    (folder / "H3K4me1").mkdir()
    for part, count, first in (("train", 40, 0), ("test", 12, 40)):
        rows = [f">chr{i // 2}|{i % 2}\n{sequence}\n" for i, sequence in enumerate(letters(count, first))]
        (folder / "H3K4me1" / f"{part}.fna").write_text("".join(rows))
    return f"data.folder={folder}"


def checkpoint(folder: Path) -> str:
    """A language model with random weights, to start from."""
    backbone = {"d_model": 8, "n_layer": 1, "blocks": [{"name": "bimamba", "d_state": 4}]}
    config = {"model": {"name": "dna_language_model"}, "backbone": backbone, "classes": list(VOCABULARY)}
    save(build_model(config), folder / "checkpoint")
    return f"start={folder / 'checkpoint'}"


def overrides(name: str, folder: Path) -> list[str]:
    make = {
        "genomics/classify": table,
        "genomics/finetune": table,
        "genomics/genomic_benchmarks": one_fasta,
        "genomics/nucleotide_transformer": task,
    }
    start = [checkpoint(folder)] if name.endswith("finetune") else []
    return [*TINY, *SMALLER[name], *start, *([make[name](folder)] if name in make else [])]


def run_tiny(name: str, folder: Path, *more: str) -> RunFolder:
    place = RunFolder(folder / "run")
    recipe = load_recipe(name, [*overrides(name, folder), *more])
    place.create(recipe)
    run(recipe, place)
    return place


def check_run(place: RunFolder) -> None:
    scores = json.loads(place.results.read_text())
    assert 0 <= scores["test"][scores["monitor"]] <= (1 if scores["monitor"] != "perplexity" else len(VOCABULARY) + 1)
    assert scores["test"].keys() == scores["baseline"].keys()
    assert scores["baseline_description"]
    assert len(list(csv.DictReader(place.metrics.read_text().splitlines()))) == 1
    page = place.report.read_text()
    assert f"{scores['test'][scores['monitor']]:.4f}" in page
    assert f"{scores['baseline'][scores['monitor']]:.4f}" in page
    assert not list(place.path.rglob(".*")), "no temporary file is left"


def test_every_recipe_of_the_domain_is_covered() -> None:
    # the effects of variants, where no network is trained, are in test_variant_effect.py
    covered = sorted([*SMALLER, "genomics/variant_effect"])
    assert [name for name in recipe_names() if name.startswith("genomics/")] == covered


def test_annotate_the_embedded_genome(tmp_path: Path) -> None:
    place = run_tiny("genomics/annotate", tmp_path)
    check_run(place)
    assert (place.path / "predicted.gff3").read_text().startswith("##gff-version 3\n##sequence-region NC_000932.1")
    assert (place.path / "predicted.bed").exists()
    assert "Genome track of NC_000932.1" in place.report.read_text()
    assert helixwave.load(place.path).predict("ACGTNACGT").shape == (9, 7)


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time, and other tests look at them."""
    monkeypatch.setattr("helixwave.report.as_svg", lambda figure: "")


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("backbone", choices()["backbone"][::2])
def test_annotate_an_own_genome(backbone: str, tmp_path: Path) -> None:
    (tmp_path / "my.fa").write_text(">c\n" + "ATGAAACCCGGGTTTTAA" * 80 + "\n")
    genes = "".join(f"c\tx\tCDS\t{i}\t{i + 17}\t.\t{'+-'[i % 2]}\t0\tID=g{i}\n" for i in range(1, 1400, 37))
    (tmp_path / "my.gff3").write_text("##gff-version 3\n" + genes)
    own = [f"data.genome={tmp_path}/my.fa", f"data.annotation={tmp_path}/my.gff3", "data.block=100", "data.repeats=1"]
    check_run(run_tiny("genomics/annotate", tmp_path, f"backbone={backbone}", *own))


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("backbone", choices()["backbone"][1::2])
def test_classify(backbone: str, tmp_path: Path) -> None:
    place = run_tiny("genomics/classify", tmp_path, f"backbone={backbone}")
    check_run(place)
    assert helixwave.load(place.path).classes == ["x", "y"]


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("name", ["genomics/pretrain", "genomics/pretrain_causal"])
def test_pretrain_on_the_embedded_genome(name: str, tmp_path: Path) -> None:
    place = run_tiny(name, tmp_path)
    check_run(place)
    assert helixwave.load(place.path).logits(torch.tensor([[7, 8, 9]])).shape == (1, 3, len(VOCABULARY))


def test_finetune(tmp_path: Path) -> None:
    place = run_tiny("genomics/finetune", tmp_path)
    check_run(place)
    assert "start: " in place.log.read_text()
    assert helixwave.load(place.path).classes == ["x", "y"]


_PUBLISHED = ["splice", "splice_pretrain", "splice_finetune", "tfbs", "tfbs_pretrain", "tfbs_finetune"]


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("name", [f"genomics/{name}" for name in _PUBLISHED])
def test_recipes_on_published_data(name: str, tmp_path: Path, data_folder: Path) -> None:
    check_run(run_tiny(name, tmp_path))


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(
    ("name", "monitor"), [("genomics/genomic_benchmarks", "accuracy"), ("genomics/nucleotide_transformer", "mcc")]
)
def test_benchmarks_are_judged_as_published_unless_the_recipe_says_otherwise(
    name: str, monitor: str, tmp_path: Path
) -> None:
    place = run_tiny(name, tmp_path)
    check_run(place)
    scores = json.loads(place.results.read_text())
    assert scores["monitor"] == monitor
    assert {"mcc", "macro_f1", "accuracy"} <= scores["test"].keys()
    assert scores["data"]["test sequences that are training sequences too"] == 0
    page = place.report.read_text()
    for title in ("Precision and recall", "Calibration", "In-silico mutagenesis", "Embeddings"):
        assert f"<h2>{title}</h2>" in page
    tables = {path.name for path in place.tables.iterdir()}
    assert {"embeddings.tsv", "calibration.tsv", "in_silico_mutagenesis.tsv"} <= tables
    assert "Numbers: tables/embeddings.tsv." in page


def test_the_metric_of_a_benchmark_can_be_another(tmp_path: Path) -> None:
    place = run_tiny("genomics/genomic_benchmarks", tmp_path, "objective.monitor=auroc", "baseline=null")
    assert json.loads(place.results.read_text())["monitor"] == "auroc"
