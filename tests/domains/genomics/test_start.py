"""Runs that begin with the weights of a checkpoint, and pretraining that is stopped and resumed."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from helixwave import load
from helixwave.checkpoint import build_model, load_tensors, named_tensors, save
from helixwave.commands.predict import predict
from helixwave.errors import InputError
from helixwave.keeper import Keeper
from helixwave.recipe import check_recipe, load_recipe
from helixwave.run_folder import RunFolder
from helixwave.start import take_weights
from helixwave.train import run
from helixwave_domains.genomics.alphabet import VOCABULARY
from helixwave_domains.genomics.fasta import write_fasta

BACKBONE = {"d_model": 8, "n_layer": 2, "blocks": [{"name": "bimamba", "d_state": 4}]}
LANGUAGE = {"name": "dna_language_model", "equivariant": True}
TRAINER = {"max_epochs": 4, "accelerator": "cpu"}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without pictures, which no test here looks at."""
    monkeypatch.setattr("helixwave.report.as_svg", lambda figure: "")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("table") / "t.csv"
    rows = [f"{''.join(draw.choices('ACGT', k=20))},{'xy'[i % 2]}" for i in range(40)]
    path.write_text("sequence,label\n" + "\n".join(rows))
    return str(path)


def language_model(folder: Path, *, vocabulary: list[str] | None = None, **model: Any) -> str:
    """A checkpoint with random weights."""
    torch.manual_seed(1)
    config = {"model": {**LANGUAGE, **model}, "backbone": BACKBONE, "classes": vocabulary or list(VOCABULARY)}
    save(build_model(config), folder)
    return str(folder)


def finetune(table: str, start: str, **sections: Any) -> dict[str, Any]:
    return {
        "start": start,
        "model": {"name": "sequence_classifier"},
        "data": {"name": "labelled_fasta", "table": table},
        "objective": {"name": "classification"},
        "trainer": TRAINER,
        **sections,
    }


def stop_before(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process ended at the start of an epoch."""
    begin = Keeper.on_train_epoch_start

    def stopping(self: Keeper, trainer: Any, task: Any) -> None:
        if trainer.current_epoch == epoch:
            raise RuntimeError("stopped")
        begin(self, trainer, task)

    monkeypatch.setattr(Keeper, "on_train_epoch_start", stopping)


def run_twice(config: dict[str, Any], folder: Path, stop: int, monkeypatch: pytest.MonkeyPatch) -> list[RunFolder]:
    """The same run whole and stopped, without what it starts from when it is resumed."""
    whole, stopped = RunFolder(folder / "whole"), RunFolder(folder / "stopped")
    recipe = check_recipe("own", config)
    for place in (whole, stopped):
        place.create(recipe)
    run(recipe, whole)
    with monkeypatch.context() as patch:
        stop_before(stop, patch)
        with pytest.raises(RuntimeError, match="stopped"):
            run(recipe, stopped)
    if recipe.start is not None:
        Path(recipe.start.checkpoint).rename(folder / "gone")
    run(stopped.read_recipe(), stopped)
    return [whole, stopped]


def expect_equal(whole: RunFolder, resumed: RunFolder) -> None:
    for file in ("state.safetensors", "checkpoint/model.safetensors"):
        expected, found = load_tensors(whole.path / file), load_tensors(resumed.path / file)
        assert expected.keys() == found.keys()
        assert all(tensor.equal(found[name]) for name, tensor in expected.items())
    rows = [[row.rpartition(",")[0] for row in f.metrics.read_text().splitlines()] for f in (whole, resumed)]
    assert rows[0] == rows[1], "all metrics but the time are equal"


@pytest.mark.usefixtures("quick")
def test_pretraining_with_a_warm_up_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fasta(tmp_path / "g.fa", [("c", "".join(random.Random(0).choices("ACGT", k=1200)))])
    data = {"name": "dna_windows", "fasta": str(tmp_path / "g.fa"), "length": 40, "windows": 8}
    config = {
        "backbone": {**BACKBONE, "dropout": 0.1},
        "model": LANGUAGE,
        "data": data,
        "training": {"length_warmup": {"start": 10}},
        "objective": {"name": "masked"},
        "baseline": {"name": "base_context"},
        "batches": {"tokens": 160},
        "trainer": TRAINER,
    }
    whole, resumed = run_twice(config, tmp_path, 2, monkeypatch)
    expect_equal(whole, resumed)
    scores = json.loads(resumed.results.read_text())
    assert scores["test"].keys() == scores["baseline"].keys() == {"perplexity", "accuracy"}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("stop", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_a_resumed_run_does_not_need_what_it_started_from(
    stop: int, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = finetune(table, language_model(tmp_path / "pretrained"), optimizer={"ema": 0.9})
    expect_equal(*run_twice(config, tmp_path, stop, monkeypatch))


def test_training_begins_with_the_very_tensors(table: str, tmp_path: Path) -> None:
    start = language_model(tmp_path)
    recipe = check_recipe("own", finetune(table, start))
    assert recipe.config["backbone"] == BACKBONE
    model_arguments = {"name": "sequence_classifier", "equivariant": True, "vocabulary": list(VOCABULARY)}
    assert recipe.config["model"] == model_arguments
    model = build_model({**recipe.config, "classes": ["x", "y"]})
    before = {name: tensor.clone() for name, tensor in named_tensors(model).items()}
    assert recipe.start is not None
    said = take_weights(model, recipe.start)
    expected = load_tensors(tmp_path / "model.safetensors")
    after = named_tensors(model)
    assert set(after) - set(expected) == {"head.weight", "head.bias"}
    assert said == f"start: {len(expected)} tensors from {start}; new: head.bias, head.weight"
    for name, tensor in after.items():
        assert tensor.equal(expected.get(name, before[name]))
    assert not after["embedding.weight"].equal(before["embedding.weight"])


def test_the_head_is_taken_too_where_it_is_for_the_same_classes(table: str, tmp_path: Path) -> None:
    start = language_model(tmp_path, tie=False)
    masked = {"model": {"name": "dna_language_model"}, "objective": {"name": "masked"}}
    recipe = check_recipe("own", finetune(table, start, **masked))
    assert recipe.config["model"] == {**LANGUAGE, "tie": False, "style": "helixwave"}
    model = build_model({**recipe.config, "classes": list(VOCABULARY)})
    assert recipe.start is not None
    assert take_weights(model, recipe.start).endswith("new: none")
    assert all(tensor.equal(named_tensors(load(start))[name]) for name, tensor in named_tensors(model).items())


@pytest.mark.usefixtures("quick")
def test_data_are_written_with_the_tokens_of_the_checkpoint(table: str, tmp_path: Path) -> None:
    """Published vocabularies have other tokens, or the same in another order and case."""
    vocabulary = ["[PAD]", "[MASK]", "[UNK]", "a", "c", "g", "t"]
    start = language_model(tmp_path / "start", vocabulary=vocabulary, style="plantcaduceus")
    masked = {"model": {"name": "dna_language_model"}, "objective": {"name": "masked"}}
    for sections in ({}, masked):
        recipe = check_recipe("own", finetune(table, start, **{"trainer": {**TRAINER, "max_epochs": 1}, **sections}))
        folder = RunFolder(tmp_path / recipe.config["model"]["name"])
        folder.create(recipe)
        run(recipe, folder)
        model = load(folder.path)
        assert model.tokenizer.tokens == vocabulary
        assert model.embedding.weight.shape == (7, 8)
    assert load(tmp_path / "sequence_classifier").predict("ACGTN").shape == (2,)


def test_the_resolved_recipe_says_all(table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    language_model(tmp_path / "pretrained")
    monkeypatch.chdir(tmp_path)
    recipe = check_recipe("own", finetune(table, "pretrained", backbone={"dropout": 0.3}))
    assert recipe.config["start"] == {"checkpoint": str(tmp_path / "pretrained"), "vocabulary": list(VOCABULARY)}
    assert recipe.config["backbone"] == {**BACKBONE, "dropout": 0.3}
    (tmp_path / "pretrained").rename(tmp_path / "gone")
    assert check_recipe("own", recipe.config) == recipe


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"backbone": {**BACKBONE, "n_layer": 3}},
            r"backbone.n_layer is 3, in the checkpoint .* it is 2. Set it so, or",
        ),
        ({"backbone": {"norm": "layer"}}, r"backbone.norm is 'layer', in the checkpoint .* it is 'rms'"),
        ({"backbone": {**BACKBONE, "mirrored": True}}, r"backbone.mirrored is True, in the checkpoint .* it is False"),
        ({"start": "tests/none"}, "start: there is no tests/none. Expected the folder of a run"),
        ({"start": "tests"}, "tests holds no weights"),
        ({"start": 5}, "start is 5, expected a group of keys such as start.checkpoint=VALUE"),
        ({"start": {"checkpint": "x"}}, "start: unknown key 'checkpint'. Did you mean 'checkpoint'"),
        ({"model": {"name": "sequence_clasifier"}}, "Did you mean 'sequence_classifier'"),
    ],
)
def test_what_cannot_be_started(sections: dict[str, Any], message: str, table: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        check_recipe("own", {**finetune(table, language_model(tmp_path)), **sections})


def test_tensors_without_a_place(table: str, tmp_path: Path) -> None:
    config = {"model": {"name": "sequence_classifier", "kmer": 2}, "backbone": BACKBONE, "classes": ["a", "b"]}
    save(build_model(config), tmp_path)
    recipe = check_recipe("own", finetune(table, str(tmp_path)))
    assert recipe.config["model"]["kmer"] == 2
    assert recipe.start is not None
    with pytest.raises(InputError, match=r"has the tensor kmer_embedding.weight, for which this model has no place"):
        take_weights(build_model({**config, "model": {"name": "sequence_classifier"}}), recipe.start)
    deeper = {**config, "backbone": {**BACKBONE, "n_layer": 3}}
    with pytest.raises(InputError, match=r"lacks the tensor backbone.blocks.2"):
        take_weights(build_model(deeper), recipe.start)
    wider = {**config, "backbone": {**BACKBONE, "d_model": 9}}
    with pytest.raises(InputError, match=r"has shape \[.*, 8\] in .*, this model needs \[.*9\]"):
        take_weights(build_model(wider), recipe.start)


def test_the_backbone_of_a_recipe_can_be_left_out(tmp_path: Path) -> None:
    start = language_model(tmp_path)
    recipe = load_recipe(
        "genomics/classify", ["~backbone", f"start={start}", "data.table=x.csv", "+backbone.dropout=0.2"]
    )
    assert recipe.config["backbone"] == {**BACKBONE, "dropout": 0.2}
    with pytest.raises(InputError, match=r"backbone.d_model is 64, in the checkpoint .* it is 8.* with ~backbone"):
        load_recipe("genomics/classify", [f"start={start}", "data.table=x.csv"])


def test_labels_for_a_language_model_and_the_other_way_round(table: str, tmp_path: Path) -> None:
    write_fasta(tmp_path / "g.fa", [("c", "ACGT" * 200)])
    unlabelled = {"data": {"name": "dna_windows", "fasta": str(tmp_path / "g.fa"), "length": 10}}
    config = {**finetune(table, ""), "start": None, "backbone": BACKBONE, **unlabelled}
    with pytest.raises(InputError, match=r"classification learns labels and dna_windows has none. .*masked or causal"):
        run(check_recipe("own", config), RunFolder(tmp_path))
    config = {**config, "model": {"name": "reading_frame_annotator"}, "objective": {"name": "regression"}}
    config["data"] = {"name": "labelled_fasta", "table": table}
    with pytest.raises(InputError, match="expected"):
        run(check_recipe("own", config), RunFolder(tmp_path))


def test_a_language_model_has_no_labels_to_predict(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a DNALanguageModel has no labels to predict. Fine-tune it first"):
        predict(Path(language_model(tmp_path)), [tmp_path / "x.fa"])
