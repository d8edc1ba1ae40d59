"""A run that is killed and resumed ends as one that was not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helixwave.checkpoint import load_tensors
from helixwave.run_folder import RunFolder

RECIPE = """
seed: 3
backbone:
  d_model: 8
  n_layer: 2
  blocks: [{name: bidirectional, block: {name: hyena, l_max: 32}}, {name: mlp}]
  dropout: 0.2
model: {name: reading_frame_annotator}
data: {name: genome_annotation, window: 64, repeats: 0.02, mutation: 0.1}
objective: {name: classification}
optimizer: {lr: 1e-2, ema: 0.9}
batches: {size: 4}
trainer: {max_epochs: 5, patience: 4}
"""


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from helixwave.cli import main; main()", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def epochs_done(folder: RunFolder) -> int:
    return max(0, len(folder.metrics.read_text().splitlines()) - 1) if folder.metrics.exists() else 0


def kill_after(process: subprocess.Popen[str], folder: RunFolder, epochs: int) -> None:
    while epochs_done(folder) < epochs and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def uninterrupted(recipe: Path) -> RunFolder:
    folder = RunFolder(recipe.parent / "whole")
    finish(start("train", recipe, "--run", folder.path))
    return folder


@pytest.mark.parametrize("epochs", [0, 2])
def test_killed_and_resumed_equals_uninterrupted(
    epochs: int, recipe: Path, uninterrupted: RunFolder, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "killed")
    process = start("train", recipe, "--run", folder.path)
    while not folder.recipe.exists():
        time.sleep(0.02)
    kill_after(process, folder, epochs)
    finish(start("resume", folder.path))

    for file in ("state.safetensors", "checkpoint/model.safetensors"):
        expected, found = load_tensors(uninterrupted.path / file), load_tensors(folder.path / file)
        assert expected.keys() == found.keys()
        for name in expected:
            assert expected[name].equal(found[name]), f"{file}: {name} differs"
    columns = [[row.rpartition(",")[0] for row in f.metrics.read_text().splitlines()] for f in (uninterrupted, folder)]
    assert columns[0] == columns[1], "all metrics but the time are equal"


@pytest.mark.parametrize(("patience", "epochs"), [(4, 5), (2, 3)], ids=["last epoch", "patience"])
def test_killed_after_training_trains_no_further(patience: int, epochs: int, recipe: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    finish(start("train", recipe, f"trainer.patience={patience}", "--run", folder.path))
    metrics, weights = folder.metrics.read_text(), load_tensors(folder.checkpoint / "model.safetensors")
    assert epochs_done(folder) == epochs
    folder.report.unlink()  # as if the run had been killed while it was judged
    finish(start("resume", folder.path))
    assert folder.metrics.read_text() == metrics
    again = load_tensors(folder.checkpoint / "model.safetensors")
    assert all(again[name].equal(tensor) for name, tensor in weights.items())
    assert folder.report.exists()


def test_a_complete_run_is_left_alone(uninterrupted: RunFolder) -> None:
    before = uninterrupted.report.stat().st_mtime_ns
    assert "complete" in finish(start("resume", uninterrupted.path))
    assert uninterrupted.report.stat().st_mtime_ns == before
