"""Every switch in a recipe of each domain: together in one run, killed and resumed; pretraining beside its control."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helixwave.checkpoint import load_tensors
from helixwave.recipe import check_recipe
from helixwave.run_folder import RunFolder
from helixwave.training.self_pretraining import FROM_SCRATCH

PROGRAM = "from helixwave.cli import main; main()"
EPOCHS = 4


def genomics(folder: Path) -> dict[str, Any]:
    bases = "".join(random.Random(0).choices("ACGT", k=4800))
    (folder / "tiny.fa").write_text(f">c\n{bases}\n")
    genes = (f"c\tx\tCDS\t{i}\t{i + 89}\t.\t{'+-'[i % 2]}\t0\tID=g{i}\n" for i in range(1, 4700, 137))
    (folder / "tiny.gff3").write_text("##gff-version 3\n" + "".join(genes))
    files = {"genome": str(folder / "tiny.fa"), "annotation": str(folder / "tiny.gff3")}
    return {
        "model": {"name": "reading_frame_annotator"},
        "data": {"name": "genome_annotation", **files, "block": 600, "window": 64},
        "objective": {"name": "classification"},
    }


def ecg(folder: Path) -> dict[str, Any]:
    return {
        "model": {"name": "ecg_model", "widths": [], "kernels": [5], "strides": [2]},
        "data": {"name": "simulated_ecg", "train": 2, "validation": 1, "test": 1},
        "objective": {"name": "classification"},
    }


def forecasting(folder: Path) -> dict[str, Any]:
    return {
        "model": {"name": "series_forecaster", "window": 8},
        "data": {"name": "series_windows", "context": 32, "horizon": 4},
        "objective": {"name": "regression", "monitor": "mse"},
    }


def video(folder: Path) -> dict[str, Any]:
    drawn = random.Random(0)
    rows = (
        f"{series},{'up' if series % 2 else 'down'},{drawn.random()},{step * (-1) ** series}\n"
        for series in range(24)
        for step in range(drawn.randint(30, 40))
    )
    (folder / "motion.csv").write_text("series,label,x,y\n" + "".join(rows))
    return {
        "model": {"name": "motion_classifier", "patch": 4},
        "data": {"name": "labelled_motion", "table": str(folder / "motion.csv")},
        "objective": {"name": "classification"},
    }


DOMAINS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "genomics": genomics,
    "ecg": ecg,
    "forecasting": forecasting,
    "video": video,
}
PRETRAINING = {"genomics": "masked", "ecg": "masked_spans", "forecasting": "next_values", "video": "masked_spans"}
STEP = {"genomics": 256, "ecg": 4096, "forecasting": 512, "video": 256}


@pytest.fixture(params=DOMAINS)
def domain(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write_recipe(domain: str, folder: Path, training: dict[str, Any], epochs: int = EPOCHS) -> Path:
    config = {
        "seed": 3,
        "backbone": {"d_model": 8, "n_layer": 2, "blocks": [{"name": "s4d", "d_state": 4}], "dropout": 0.1},
        **DOMAINS[domain](folder),
        "optimizer": {"lr": 1e-2, "ema": 0.9},
        "batches": {"tokens": STEP[domain]},
        "trainer": {"max_epochs": epochs},
        "training": training,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def run(*arguments: str | Path) -> None:
    """The command in this process, which imports torch no further time; no pictures, which no test here looks at."""
    from helixwave.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("helixwave.report.as_svg", lambda figure: "")
        patch.setattr(sys, "argv", ["helixwave", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
    assert not end.value.code


def kill_after_an_epoch(recipe: Path, folder: RunFolder) -> None:
    command = [sys.executable, "-c", PROGRAM, "train", str(recipe), "--run", str(folder.path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (folder.metrics.exists() and len(folder.metrics.read_text().splitlines()) > 1):
        time.sleep(0.005)
    assert process.poll() is None, "the run ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(folder.metrics.read_text().splitlines()) <= EPOCHS, "all epochs were done before the run could be killed"


def together(domain: str) -> dict[str, Any]:
    """All switches that act within one run."""
    return {
        "length_warmup": {"start": 32, "share": 0.5},
        "length_buckets": {"least": 16, "cycles": 2},
        "objective_mixture": {"objectives": [{"name": PRETRAINING[domain]}], "weights": [2.0, 1.0], "reward": 0.5},
        "gradient_noise": 0.01,
        "layer_decay": 0.8,
    }


def test_switches_together(domain: str, tmp_path: Path) -> None:
    """In one run; of one domain it is killed too, with SIGKILL, and resumed to the same bits."""
    recipe = write_recipe(domain, tmp_path, together(domain))
    whole = RunFolder(tmp_path / "whole")
    run("train", recipe, "--run", whole.path)
    header, *rows = whole.metrics.read_text().splitlines()
    row = dict(zip(header.split(","), rows[-1].split(","), strict=True))
    shares = [float(value) for name, value in row.items() if name.startswith("share_")]
    assert sum(shares) == pytest.approx(1)
    assert shares != [pytest.approx(2 / 3), pytest.approx(1 / 3)], "weights have followed the progress"
    if domain == "genomics":
        folder = RunFolder(tmp_path / "killed")
        kill_after_an_epoch(recipe, folder)
        run("resume", folder.path)
        expected, found = (load_tensors(each.state) for each in (whole, folder))
        assert expected.keys() == found.keys()
        assert all(tensor.equal(found[name]) for name, tensor in expected.items())
        without_times = [
            [r.rpartition(",")[0] for r in each.metrics.read_text().splitlines()] for each in (whole, folder)
        ]
        assert without_times[0] == without_times[1]


def test_pretraining_stands_beside_as_many_updates(domain: str, tmp_path: Path) -> None:
    settings = {"epochs": 2, "objective": {"name": PRETRAINING[domain]}}
    recipe = write_recipe(domain, tmp_path, {"self_pretrain": settings}, epochs=1)
    folder = RunFolder(tmp_path / "run")
    run("train", recipe, "--run", folder.path)
    steps = {
        name: int(RunFolder(folder.path / name).metrics.read_text().splitlines()[-1].split(",")[1])
        for name in (".", "pretraining", "from_scratch")
    }
    assert steps["from_scratch"] == steps["."] + steps["pretraining"]
    results = json.loads(folder.results.read_text())
    scratch = json.loads(RunFolder(folder.path / "from_scratch").results.read_text())
    assert results["compared"] == {FROM_SCRATCH: scratch["test"]}
    assert FROM_SCRATCH in folder.report.read_text()
    # the weights were taken over, all but the head
    taken = load_tensors(folder.path / "pretraining" / "checkpoint" / "model.safetensors")
    assert f"{sum(not name.startswith('head.') for name in taken)} tensors from" in folder.log.read_text()


def test_the_batch_size_that_was_found_is_the_run_s(tmp_path: Path) -> None:
    recipe = write_recipe("genomics", tmp_path, {"find_batch_size": True}, epochs=1)
    folder = RunFolder(tmp_path / "run")
    run("train", recipe, "--run", folder.path)
    found = folder.read_recipe()
    assert not found.training.find_batch_size
    assert found.batches.tokens is not None
    assert found.batches.tokens % 256 == 0
    asked = check_recipe("recipe", yaml.safe_load(recipe.read_text()))
    assert asked.training.find_batch_size
