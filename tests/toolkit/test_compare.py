"""`helixwave compare`: what is compared, one row whatever happens, nothing trained twice."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helixwave.checkpoint import load
from helixwave.cli import main
from helixwave.comparison import Comparison, notes, plan, prepare, table, train, train_here, write
from helixwave.errors import InputError
from helixwave.recipe import load_recipe

PARITY = "synthetic/parity"
ANYWHERE = Path("anywhere")
TINY = [
    *["backbone.d_model=8", "trainer.max_epochs=1", "data.n_train=64", "data.n_validation=16", "data.n_test=8"],
    "data.test_lengths=[48,64]",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run after its training in a process of its own."""
    (planned,) = plan(PARITY, TINY, "gru", 1, tmp_path_factory.mktemp("trained"))
    said = []
    done = train(planned, said.append)
    assert any("epoch 1/1" in line for line in said)
    return done


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """`helixwave compare` with arguments: exit code, output, errors."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.delenv("HELIXWAVE_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["helixwave", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, *capsys.readouterr()

    return call


@pytest.fixture
def ends(tmp_path, monkeypatch):
    """Let every process of a run do this instead."""

    def set_program(shell):
        program = tmp_path / "program"
        program.write_text(f"#!/bin/sh\n{shell}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))

    return set_program


def blocks(label, overrides=()):
    (run,) = plan(PARITY, list(overrides), label, 1, ANYWHERE)
    return run.recipe.config["backbone"]["blocks"]


def finish(run, score, by_length=None, *, seconds=10.0, memory=500.0):
    """Write what a run leaves behind that got this score."""
    run.folder.create(run.recipe)
    results = {
        "test": {"accuracy": score, "mcc": 0.1},
        "baseline": {"accuracy": 0.5, "mcc": 0.0},
        "baseline_description": "a coin",
        "monitor": "accuracy",
        "cpu_seconds": seconds,
    }
    run.folder.results.write_text(json.dumps(results))
    run.costs.write_text(json.dumps({"parameters": 1234, "memory_mib": memory, "memory_at_start_mib": 400.0}))
    if by_length:
        rows = "".join(f"{length},{value}\n" for length, value in by_length.items())
        (run.folder.path / "by_length.csv").write_text(f"length,accuracy\n{rows}")
    run.folder.report.write_text("")


def test_a_block_takes_the_place_of_the_recipes_blocks():
    runs = plan(PARITY, ["backbone.n_layer=3", "seed=4"], "mamba:negative_eigenvalues=true:d_state=8", 2, ANYWHERE)
    base = load_recipe(PARITY, ["backbone.n_layer=3"]).config
    block = {"name": "mamba", "negative_eigenvalues": True, "d_state": 8}
    for run, seed in zip(runs, [4, 5], strict=True):
        expected = {**base, "seed": seed, "backbone": {**base["backbone"], "blocks": [block]}}
        assert run.recipe.config == expected
    assert runs[0].folder.path != runs[1].folder.path


def test_blocks_are_joined_and_nested():
    assert blocks("attention:window=8+swiglu") == [{"name": "attention", "window": 8}, {"name": "swiglu"}]
    nested = blocks("bidirectional:block.name=mamba:block.d_state=4")
    assert nested == [{"name": "bidirectional", "block": {"name": "mamba", "d_state": 4}}]
    assert blocks("mamba:dt_min=1e-3:dt_rank=null") == [{"name": "mamba", "dt_min": 1e-3, "dt_rank": None}]


def test_a_shipped_backbone_is_taken_as_a_whole():
    (run,) = plan(PARITY, ["optimizer.lr=0.5"], "hyena_short:n_layer=2", 1, ANYWHERE)
    recipe = load_recipe(PARITY, ["optimizer.lr=0.5", "backbone=hyena_short", "backbone.n_layer=2"])
    assert run.recipe == recipe
    assert blocks("block/hyena") == [{"name": "hyena"}]
    assert blocks("backbone/hyena") == load_recipe(PARITY, ["backbone=hyena"]).config["backbone"]["blocks"]


@pytest.mark.parametrize(
    ("backbones", "overrides", "message"),
    [
        ("gru,delta_net", [], "no backbone or block named 'delta_net'. Did you mean 'deltanet'"),
        ("backbone/hyena_shrt", [], "no backbone named 'hyena_shrt'. Did you mean 'hyena_short'"),
        ("block/hyena_short", [], "no block named 'hyena_short'. Did you mean 'hyena'"),
        ("hyena", [], "shipped backbone and a block. Write backbone/hyena or block/hyena"),
        ("hyena_short+mlp", [], "only blocks can be joined"),
        ("mamba:d_stat=4", [], "unknown key 'd_stat'. Did you mean 'd_state'"),
        ("mamba:d_state=many", [], "d_state is 'many', expected int"),
        ("hyena_short:n_layers=2", [], "unknown key 'n_layers'. Did you mean 'n_layer'"),
        ("mamba:d_state", [], "cannot read 'mamba:d_state'. Expected NAME or NAME:key=value"),
        ("mamba:d_conv=[1", [], "cannot read"),
        ("blocks/mamba", [], "cannot read 'blocks/mamba'"),
        ("gru,gru", [], "got 'gru' twice"),
        ("gru,", [], "an empty name"),
        ("gru", ["backbone=hyena"], "each run has its own backbone. Put it into --backbones"),
        ("gru", ["trainer.max_epoch=1"], "unknown key 'max_epoch'. Did you mean 'max_epochs'"),
    ],
)
def test_what_is_wrong_fails_before_anything_is_trained(backbones, overrides, message, tmp_path):
    with pytest.raises(InputError, match=message):
        plan(PARITY, overrides, backbones, 1, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_seeds_from_one():
    with pytest.raises(InputError, match="--seeds is 0, expected at least 1"):
        plan(PARITY, [], "gru", 0, ANYWHERE)


def test_a_run_leaves_its_scores_and_costs(trained):
    assert not trained.failure
    assert list(trained.by_length) == [40, 48, 64]
    # eight sequences of each length, scored from the 41st bit on
    scored = {48: 8 * 8, 64: 24 * 8}
    total = sum(trained.by_length[length] * n for length, n in scored.items())
    assert trained.score == pytest.approx(total / sum(scored.values()), abs=1e-5)
    assert trained.cost["parameters"] == sum(tensor.numel() for tensor in load(trained.folder.path).parameters())
    # a process with torch in it, and not kilobytes taken for bytes
    assert 100 < trained.cost["memory_at_start_mib"] <= trained.cost["memory_mib"] < 10_000


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("kill -9 $$", "ended by signal 9, as when memory runs out"),
        ("echo first >&2; echo the reason >&2; exit 1", "the reason"),
        ("exit 3", "ended with code 3"),
    ],
)
def test_a_backbone_that_fails_keeps_its_row(ends, tmp_path, program, reason):
    runs = plan(PARITY, TINY, "gru,mamba", 1, tmp_path)
    finish(runs[0], 0.75, {48: 0.75})
    ends(program)
    failed = train(runs[1], print)
    assert failed.failure == reason
    comparison = Comparison(tmp_path, "command", [train(runs[0], print), failed])
    rows = table(comparison)
    assert [row[:2] for row in rows[1:]] == [["gru", "0.750"], ["mamba", "failed"], ["(baseline)", "0.500"]]
    assert f"mamba, seed 0, failed: {reason}" in notes(comparison)
    write(comparison)
    with open(tmp_path / "comparison.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [(row["score"], row["at_48"], row["failure"]) for row in rows] == [("0.75", "0.75", ""), ("", "", reason)]


def test_a_backbone_that_cannot_be_built_says_so(tmp_path):
    (run,) = plan(PARITY, TINY, "attention:n_head=3", 1, tmp_path)
    run.folder.create(run.recipe)
    with pytest.raises(InputError, match="n_head"):
        train_here(run.folder.path)


def test_rows_are_means_and_ranges_over_seeds(tmp_path):
    runs = plan(PARITY, [], "gru,mamba:d_state=4", 2, tmp_path)
    for run, score in zip(runs, [0.5, 0.7, 1.0, 1.0], strict=True):
        finish(run, score, {40: 1.0, 256: score}, seconds=10 * score)
    comparison = Comparison(tmp_path, "helixwave compare ...", runs)
    assert table(comparison) == [
        ["backbone", "accuracy", "lowest–highest", "at 40", "at 256", "parameters", "cpu s", "memory MiB"],
        ["gru", "0.600", "0.500–0.700", "1.000", "0.600", "1,234", "6", "500"],
        ["mamba:d_state=4", "1.000", "1.000–1.000", "1.000", "1.000", "1,234", "10", "500"],
        ["(baseline)", "0.500", "", "", "", "", "", ""],
    ]
    write(comparison)
    page = (tmp_path / "comparison.md").read_text()
    assert "    helixwave compare ...\n" in page
    assert "| gru | 0.600 | 0.500–0.700 |" in page
    assert "Baseline: a coin." in page
    picture = (tmp_path / "comparison.svg").read_text()
    assert all(text in picture for text in ("gru", "d_state=4", "test accuracy", "256"))
    assert len(picture) < 60_000
    write(comparison)
    assert (tmp_path / "comparison.svg").read_text() == picture


def test_data_without_lengths(tmp_path):
    runs = plan(PARITY, [], "gru", 1, tmp_path)
    finish(runs[0], 0.9)
    comparison = Comparison(tmp_path, "command", runs)
    assert table(comparison)[1] == ["gru", "0.900", "0.900–0.900", "1,234", "10", "500"]
    write(comparison)
    assert "length" not in (tmp_path / "comparison.svg").read_text()


def test_finished_runs_are_not_trained_again(call, ends, tmp_path):
    ends("kill -9 $$")
    finish(plan(PARITY, TINY, "gru", 1, tmp_path)[0], 0.75)
    code, output, _ = call(PARITY, "--backbones", "gru,mamba", "--seeds", 1, "--folder", tmp_path, *TINY)
    assert code == 0
    assert "1/2 gru, seed 0: accuracy 0.7500, 10 s cpu, trained before" in output
    assert "2/2 mamba, seed 0: failed: ended by signal 9, as when memory runs out" in output
    assert re.search(r"^gru +0\.750 ", output, re.MULTILINE)
    assert (tmp_path / "comparison.md").is_file()


def test_every_run_failed(call, ends, tmp_path):
    ends("kill -9 $$")
    code, _, errors = call(PARITY, "--backbones", "gru", "--seeds", 1, *TINY)
    assert code == 1
    assert errors.startswith("helixwave: every run failed, the first because: ended by signal 9")
    assert (tmp_path / "runs" / PARITY / "compare" / "comparison.csv").is_file()


def test_runs_with_other_settings_are_in_the_way(tmp_path):
    (run,) = plan(PARITY, TINY, "gru", 1, tmp_path)
    finish(run, 0.75)
    other = plan(PARITY, [*TINY, "optimizer.lr=0.5"], "gru", 1, tmp_path)
    with pytest.raises(InputError, match=r"seed_0 holds a run with other settings\. Add --overwrite"):
        prepare(other, overwrite=False)
    assert run.finished


def test_overwrite_takes_runs_away_but_nothing_else(tmp_path):
    (run,) = plan(PARITY, TINY, "gru", 1, tmp_path)
    finish(run, 0.75)
    prepare([run], overwrite=True)
    assert not run.folder.path.exists()
    run.folder.path.mkdir()
    (run.folder.path / "thesis.tex").write_text("text")
    with pytest.raises(InputError, match=r"is not an empty folder\. Choose another --folder"):
        prepare([run], overwrite=True)
    assert (run.folder.path / "thesis.tex").is_file()


@pytest.mark.slow
def test_a_run_ends_with_the_command(tmp_path):
    """However the command ends: its end of the pipe is closed then."""
    (run,) = plan(PARITY, [*TINY, "trainer.max_epochs=100000"], "gru", 1, tmp_path)
    run.folder.create(run.recipe)
    command = [sys.executable, "-m", "helixwave.comparison", str(run.folder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert any("epoch 1/100000" in line for line in process.stdout)
        process.stdin.close()
        assert process.wait(60) == 1
    assert not run.finished
