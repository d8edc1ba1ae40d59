import re
from importlib.resources import files

import pytest
import yaml
from helixwave.errors import InputError
from helixwave.recipe import (
    check_recipe,
    choices,
    expand_sweep,
    load_recipe,
    recipe_names,
    summary,
    to_yaml,
)
from helixwave.registry import MODELS

ANNOTATE = "genomics/annotate"
OWN = """\
defaults: [/backbone: hyena, _self_]
model: {name: sequence_classifier}
data: {name: uci_splice}
objective: {name: classification}
"""


def written(name):
    """The file of a shipped recipe, before anything is composed."""
    return yaml.safe_load((files("helixwave_recipes") / f"{name}.yaml").read_text())


def shipped(name, *more):
    """A shipped recipe with something for what its user has to give."""
    sections = written(name)
    needed = [
        f"{section}.{key}=given"
        for section, values in sections.items()
        if isinstance(values, dict)
        for key, value in values.items()
        if value == "???"
    ]
    if sections.get("start") == "???":
        # random weights do as well, of any backbone
        needed += ["start=null", *(["backbone=hyena"] if not any("backbone=" in given for given in more) else [])]
        # a recipe without a model takes the checkpoint's
        needed += [] if "model" in sections else ["model=ecg_model"]
    return load_recipe(name, [*needed, *more])


def has_backbone(sections):
    """Of its own or of the checkpoint that it starts from."""
    return any(
        "/backbone" in part and (part["/backbone"] or "start" in sections) for part in sections.get("defaults", [])
    )


def pairs():
    """Each recipe and each backbone at least twice: what one recipe does with a backbone, the others do too."""
    names = [name for name in recipe_names() if has_backbone(written(name))]
    backbones = choices()["backbone"]
    count = max(len(names), len(backbones))
    for i in range(2 * count):
        marks = [pytest.mark.slow] if i >= count else []
        yield pytest.param(names[i % len(names)], backbones[(i + i // len(names)) % len(backbones)], marks=marks)


@pytest.mark.parametrize(("name", "backbone"), list(pairs()))
def test_recipes_take_other_backbones(name, backbone):
    recipe = shipped(name, f"backbone={backbone}")
    blocks = {block["name"] for block in recipe.config["backbone"]["blocks"]}
    assert blocks
    assert recipe.name == name


@pytest.mark.parametrize("name", recipe_names())
def test_first_line_of_a_recipe_runs_it(name):
    assert summary(name).split()[:3] == ["helixwave", "train", name]


@pytest.mark.parametrize("name", recipe_names())
def test_resolved_recipe_is_read_back(name, tmp_path):
    recipe = shipped(name)
    text = to_yaml(recipe.config)
    assert check_recipe(name, yaml.safe_load(text)) == recipe
    (tmp_path / "resolved.yaml").write_text(text)
    assert load_recipe(str(tmp_path / "resolved.yaml")).config == recipe.config


def test_defaults_are_written_out():
    recipe = load_recipe(ANNOTATE, ["~trainer.max_epochs", "~baseline"])
    assert recipe.trainer.max_epochs == 10
    assert recipe.config["baseline"] is None
    assert recipe.config["batches"] == {"size": 8, "tokens": None, "workers": 0}
    assert (recipe.optimizer.lr, recipe.batches.size, recipe.seed) == (2e-3, 8, 0)


@pytest.mark.parametrize(
    "override", ["trainer.max_epochs=3", "trainer.patience=2", "backbone=hybrid", "model.margin=5", "seed=9"]
)
def test_one_two_and_no_plus_are_the_same(override):
    plain, one, two = (load_recipe(ANNOTATE, [f"{plus}{override}"]) for plus in ("", "+", "++"))
    assert plain == one == two
    assert plain != load_recipe(ANNOTATE)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        # unknown keys, at each level
        ("modle.name=x", "unknown key 'modle' .* Did you mean 'model'"),
        ("+modle=x", "unknown key 'modle' .* Did you mean 'model'"),
        ("hydra.run.dir=x", "unknown key 'hydra'"),
        ("backbone@model=hyena", "unknown key 'backbone@model' .* Did you mean 'backbone'"),
        ("trainer.max_epoch=1", "trainer: unknown key 'max_epoch'. Did you mean 'max_epochs'"),
        ("++trainer.max_epoch=1", "trainer: unknown key 'max_epoch'. Did you mean 'max_epochs'"),
        ("+data.windw=3", r"data \(genome_annotation\): unknown key 'windw'. Did you mean 'window'"),
        ("backbone.n_layers=3", "backbone: unknown key 'n_layers'. Did you mean 'n_layer'"),
        ("~trainer.max_epoch", "'trainer.max_epoch' does not exist"),
        # unknown names
        ("backbone=hyeena", "no backbone named 'hyeena'. Did you mean 'hyena'"),
        ("backbone=null", "backbone is missing. Add backbone=.*hyena"),
        ("data.name=genome_anotation", "data: no dataset named 'genome_anotation'. Did you mean 'genome_annotation'"),
        ("backbone.blocks=[{name:hyna}]", r"blocks\[0\]: no block named 'hyna'. Did you mean 'hyena'"),
        (
            "backbone.blocks=[{name:mlp},{name:bidirectional,block:{name:mama}}]",
            r"blocks\[1\] \(bidirectional\).block: no block named 'mama'. Did you mean 'mamba'",
        ),
        (
            "backbone.blocks=[{name:bidirectional,block:{name:mamba,d_stat:2}}]",
            r"\(bidirectional\).block \(mamba\): unknown key 'd_stat'. Did you mean 'd_state'",
        ),
        # wrong types and values
        ("data.window=abc", "window is 'abc', expected int"),
        ("data.window=3.0", "window is 3.0, expected int"),
        ("batches.size=true", "batches: size is True, expected int"),
        ("trainer.max_epochs=null", "max_epochs is None, expected int"),
        ("trainer.precision=16", "precision is 16, expected Literal"),
        ("objective.monitor=acuracy", "monitor is 'acuracy', expected Literal.*'accuracy'"),
        ("objective.metrics=[auroc,f1]", r"metrics is \['auroc', 'f1'\], expected list"),
        ("backbone.blocks=[]", "backbone: blocks is empty, expected at least one"),
        ("backbone.blocks=mlp", "blocks is 'mlp', expected list"),
        ("backbone.n_layer=0", "n_layer is 0, expected at least 1"),
        ("model=5", "model: expected {name: .*got 5"),
        ("trainer=5", "trainer is 5, expected a group of keys such as trainer.max_epochs=VALUE"),
        ("seed=-1", "seed is -1, expected a whole number from 0"),
        ("seed=true", "seed is True, expected a whole number from 0"),
        ("optimizer.lr=0", "optimizer.lr is 0, expected more than 0"),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay is -1, expected at least 0"),
        ("optimizer.warmup=1.5", "optimizer.warmup is 1.5, expected 0 to 1"),
        ("optimizer.ema=1.0", "optimizer.ema is 1.0, expected at least 0 and less than 1"),
        ("trainer.max_epochs=0", "trainer.max_epochs is 0, expected at least 1"),
        ("trainer.patience=0", "trainer.patience is 0, expected at least 1 or null"),
        ("trainer.devices=0", "trainer.devices is 0, expected at least 1"),
        ("batches.size=0", "batches.size is 0, expected at least 1"),
        ("batches.tokens=0", "batches.tokens is 0, expected at least 1 or null"),
        ("batches.workers=-1", "batches.workers is -1, expected at least 0"),
        # what is missing
        ("data.window=???", "data.window is missing. Add data.window=VALUE"),
        ("~model", "model is missing. Add model.name=NAME. Known: .*sequence_classifier"),
        ("~objective", "objective is missing. Add objective.name=NAME"),
        ("optimizer.lr=${nope}", "'nope' not found"),
        # overrides that say something else
        ("trainer.max_epochs=1,2", "lists several values. Add -m"),
        ("backbone=hyena,hybrid", "lists several values. Add -m"),
        ("trainer.max_epochs", "cannot read 'trainer.max_epochs'. Expected key=value"),
        ("+++seed=1", "cannot read '[+]{3}seed=1'. Expected key=value"),
        ("=5", "unknown key ''"),
    ],
)
def test_wrong_override_is_refused(override, message):
    with pytest.raises(InputError, match=message):
        load_recipe(ANNOTATE, [override])


def test_unknown_recipe():
    with pytest.raises(InputError, match=r"no recipe named 'genomics/anotate'. Did you mean 'genomics/annotate'"):
        load_recipe("genomics/anotate")
    with pytest.raises(InputError, match=r"no recipe file my/own\.yaml. Shipped recipes: .*genomics/annotate"):
        load_recipe("my/own.yaml")


def test_own_recipe(tmp_path, monkeypatch):
    (tmp_path / "my recipe.yaml").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("my recipe.yaml", ["optimizer.lr=1e-4"])
    assert recipe.config["backbone"] == load_recipe(ANNOTATE, ["backbone=hyena"]).config["backbone"]
    assert recipe.optimizer.lr == 1e-4
    hybrid = load_recipe(str(tmp_path / "my recipe.yaml"), ["backbone=hybrid"])
    assert hybrid.config["backbone"] == load_recipe(ANNOTATE, ["backbone=hybrid"]).config["backbone"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OWN + "seed: ???\n", "seed is missing. Add seed=VALUE"),
        (OWN + "trainr: {}\n", "unknown key 'trainr'. Did you mean 'trainer'"),
        (OWN + "5: {}\n", "unknown key 5"),
        (OWN + "trainer: [1]\n", r"trainer is \[1\], expected a group of keys"),
        (OWN.replace("hyena", "hyeena"), "hyeena"),
        (OWN.replace("defaults: [/backbone: hyena, _self_]\n", ""), "backbone is missing. Add backbone=.*hyena"),
        (OWN.replace("{name: uci_splice}", "uci_splice"), "data: expected {name: .*got 'uci_splice'"),
        ("- 1\n", "must be a DictConfig"),
        ("", "backbone is missing"),
        ("model: [1\n", "while parsing a flow sequence .* line 1"),
        (b"\xff\xfe\x00", "can't decode byte 0xff"),
    ],
)
def test_own_recipe_that_is_wrong(tmp_path, text, message):
    path = tmp_path / "own.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=re.escape(str(path)) + ".*" + message):
        load_recipe(str(path))


def test_only_yaml_is_the_name_of_a_recipe(tmp_path):
    (tmp_path / "own.yml").write_text(OWN)
    with pytest.raises(InputError, match=r"own\.yml: .* ends in \.yaml. Rename it"):
        load_recipe(str(tmp_path / "own.yml"))


def test_sweep_is_every_combination_in_order():
    assert expand_sweep(["backbone=hyena,hybrid", "seed=range(1,3)", "trainer.max_epochs=5"]) == [
        ["backbone=hyena", "seed=1", "trainer.max_epochs=5"],
        ["backbone=hyena", "seed=2", "trainer.max_epochs=5"],
        ["backbone=hybrid", "seed=1", "trainer.max_epochs=5"],
        ["backbone=hybrid", "seed=2", "trainer.max_epochs=5"],
    ]
    assert expand_sweep([]) == [[]]
    assert expand_sweep(["data.genome='a,b'"]) == [["data.genome='a,b'"]]


def test_sweep_is_checked_one_by_one():
    swept = [load_recipe(ANNOTATE, overrides) for overrides in expand_sweep(["+optimizer.lr=1e-3,1e-4", "seed=1,2"])]
    assert [(recipe.optimizer.lr, recipe.seed) for recipe in swept] == [(1e-3, 1), (1e-3, 2), (1e-4, 1), (1e-4, 2)]
    with pytest.raises(InputError, match="cannot read 'seed'"):
        expand_sweep(["seed"])


ESTIMATED = """\
estimator: {name: kmer_logistic_regression, sizes: [3], strengths: [0.1]}
data: {name: labelled_fasta, table: t.csv}
objective: {name: classification}
"""


def test_a_recipe_of_an_estimator_has_no_network(tmp_path):
    (tmp_path / "r.yaml").write_text(ESTIMATED)
    recipe = load_recipe(str(tmp_path / "r.yaml"))
    assert list(recipe.config) == ["data", "objective", "estimator", "baseline"]
    assert recipe.estimator["name"] == "kmer_logistic_regression"
    assert recipe.start is None
    assert load_recipe(ANNOTATE).estimator is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.max_epochs=3", "a recipe with an estimator has data, objective, estimator, baseline, and no trainer"),
        ("seed=3", "a recipe with an estimator has data, objective, estimator, baseline, and no seed"),
        ("estimator.sizs=[3]", "estimator (kmer_logistic_regression): unknown key 'sizs'. Did you mean 'sizes'"),
        ("estimator.name=kmers", "estimator: no baseline named 'kmers'"),
        ("~data", "data is missing. Add data.name=NAME"),
    ],
)
def test_estimators_that_cannot_run(override, message, tmp_path):
    (tmp_path / "r.yaml").write_text(ESTIMATED)
    with pytest.raises(InputError) as caught:
        load_recipe(str(tmp_path / "r.yaml"), [override])
    assert message in str(caught.value)


class Pooled:
    """A model with layers of its own."""

    def __init__(self, *, classes: list[str], width: int = 4):
        pass


@pytest.fixture
def pooled(monkeypatch):
    monkeypatch.setitem(MODELS._local, "pooled", Pooled)


def test_a_model_with_layers_of_its_own_takes_the_place_of_the_whole_part(pooled):
    recipe = load_recipe(ANNOTATE, ["model=pooled", "model.width=8"])
    assert recipe.config["model"] == {"name": "pooled", "width": 8}
    assert recipe.config["backbone"] is None
    back = load_recipe(ANNOTATE, ["model=pooled", "backbone=hyena", "model=sequence_classifier"])
    assert back.config["model"] == {"name": "sequence_classifier"}
    assert back.config["backbone"] == load_recipe(ANNOTATE).config["backbone"]


def test_a_model_with_layers_of_its_own_has_no_backbone(pooled):
    with pytest.raises(InputError, match=r"the model pooled has layers of its own\. Set backbone=null"):
        load_recipe(ANNOTATE, ["model.name=pooled"])
