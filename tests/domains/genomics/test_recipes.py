"""Recipes of the domain with every backbone, on own and on published data; see tests/test_recipes.py."""

import json
from pathlib import Path

import helixwave
import pytest
import torch
from helixwave.checkpoint import build_model
from helixwave.recipe import choices, load_recipe
from helixwave_domains.genomics.alphabet import VOCABULARY
from helixwave_domains.genomics.genome import FRAME_CLASSES

from tests.tiny_recipes import TinyRecipe, one_step


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    one_step(monkeypatch)


def own_genome(folder: Path) -> list[str]:
    (folder / "my.fa").write_text(">c\n" + "ATGAAACCCGGGTTTTAA" * 80 + "\n")
    genes = "".join(f"c\tx\tCDS\t{i}\t{i + 17}\t.\t{'+-'[i % 2]}\t0\tID=g{i}\n" for i in range(1, 1400, 37))
    (folder / "my.gff3").write_text("##gff-version 3\n" + genes)
    return [f"data.genome={folder}/my.fa", f"data.annotation={folder}/my.gff3", "data.block=100", "data.repeats=1"]


BACKBONES = choices()["backbone"]
IN_FULL = [
    name if name in {"hyena", "caduceus_ps"} else pytest.param(name, marks=pytest.mark.slow) for name in BACKBONES
]


@pytest.mark.parametrize("backbone", IN_FULL)
def test_annotate_an_own_genome(backbone: str, tmp_path: Path) -> None:
    place = TinyRecipe("genomics/annotate", tmp_path).run(f"backbone={backbone}", *own_genome(tmp_path))
    assert "Genome track of c" in place.report.read_text()
    assert helixwave.load(place.path).predict("ACGTNACGT").shape == (9, 7)


@pytest.mark.parametrize("backbone", IN_FULL)
def test_classify(backbone: str, tmp_path: Path) -> None:
    place = TinyRecipe("genomics/classify", tmp_path).run(f"backbone={backbone}")
    assert helixwave.load(place.path).classes == ["x", "y"]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_learns_a_class_and_classes_of_bases(backbone: str) -> None:
    overrides = [f"backbone={backbone}", "backbone.d_model=8", "backbone.n_layer=1", "data.table=labels.csv"]
    config = load_recipe("genomics/classify", overrides).config
    annotator = {"name": "reading_frame_annotator"}
    inputs, lengths = torch.randint(7, 11, (2, 30)), torch.tensor([30, 17])
    for model, shape in ((config["model"], (2, 7)), (annotator, (2, 30, 7))):
        network = build_model({"model": model, "backbone": config["backbone"], "classes": FRAME_CLASSES})
        outputs = network(inputs, lengths)
        assert outputs.shape == shape
        outputs[0].square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_pretrain_on_the_embedded_genome(tmp_path: Path) -> None:
    place = TinyRecipe("genomics/pretrain", tmp_path).run()
    scores = json.loads(place.results.read_text())
    assert 0 <= scores["test"][scores["monitor"]] <= len(VOCABULARY) + 1
    assert helixwave.load(place.path).logits(torch.tensor([[7, 8, 9]])).shape == (1, 3, len(VOCABULARY))


_PUBLISHED = ["splice", "splice_pretrain", "splice_finetune", "tfbs", "tfbs_pretrain", "tfbs_finetune"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"genomics/{name}" for name in _PUBLISHED])
def test_recipes_on_published_data(name: str, tmp_path: Path, data_folder: Path) -> None:
    less = "data.validation=0.7" if "splice" in name else "data.validation=0.9"
    place = TinyRecipe(name, tmp_path, own_files=False).run(less)
    scores = json.loads(place.results.read_text())
    assert scores["test"].keys() == scores["baseline"].keys()


@pytest.mark.parametrize(
    ("name", "monitor"), [("genomics/genomic_benchmarks", "accuracy"), ("genomics/nucleotide_transformer", "mcc")]
)
def test_benchmarks_are_judged_as_published_unless_the_recipe_says_otherwise(
    name: str, monitor: str, tmp_path: Path
) -> None:
    place = TinyRecipe(name, tmp_path).run()
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
    place = TinyRecipe("genomics/genomic_benchmarks", tmp_path).run("objective.monitor=auroc", "baseline=null")
    assert json.loads(place.results.read_text())["monitor"] == "auroc"
