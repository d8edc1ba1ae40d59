"""A run that is killed and resumed ends as one that was not."""

import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helixwave.checkpoint import load_tensors
from helixwave.cli import main
from helixwave.run_folder import RunFolder

RECIPE = """
seed: 3
backbone:
  d_model: 8
  n_layer: 2
  blocks: [{name: bidirectional, block: {name: hyena, l_max: 32}}, {name: mlp}]
  dropout: 0.2
model: {name: reading_frame_annotator}
data: {name: genome_annotation, genome: FOLDER/tiny.fa, annotation: FOLDER/tiny.gff3, block: 600, window: 64,
       mutation: 0.1}
objective: {name: classification}
optimizer: {lr: 1e-2, ema: 0.9}
batches: {size: 4}
trainer: {max_epochs: 5, patience: 4}
"""
# what is killed is a process of its own; all else is called here, which imports torch no further time
PROGRAM = "from helixwave.cli import main; main()"


def helixwave(*arguments: str | Path) -> str:
    """What the command prints. Its report is written without pictures, which no test here looks at."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setattr("helixwave.report.as_svg", lambda figure: "")
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        patch.setattr(sys, "argv", ["helixwave", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
    assert not end.value.code, output.getvalue()
    return output.getvalue()


def epochs_done(folder: RunFolder) -> int:
    return max(0, len(folder.metrics.read_text().splitlines()) - 1) if folder.metrics.exists() else 0


def train_and_kill_after(epochs: int, recipe: Path, folder: RunFolder) -> None:
    command = [sys.executable, "-c", PROGRAM, "train", str(recipe), "--run", str(folder.path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (folder.recipe.exists() and epochs_done(folder) >= epochs):
        time.sleep(0.005)
    assert process.poll() is None, "the run ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert epochs_done(folder) < 5, "all epochs were done before the run could be killed"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    bases = "".join(random.Random(0).choices("ACGT", k=6000))
    (folder / "tiny.fa").write_text(f">c\n{bases}\n")
    genes = (f"c\tx\tCDS\t{i}\t{i + 89}\t.\t{'+-'[i % 2]}\t0\tID=g{i}\n" for i in range(1, 5900, 137))
    (folder / "tiny.gff3").write_text("##gff-version 3\n" + "".join(genes))
    path = folder / "tiny.yaml"
    path.write_text(RECIPE.replace("FOLDER", str(folder)))
    return path


@pytest.fixture(scope="module")
def uninterrupted(recipe: Path) -> RunFolder:
    folder = RunFolder(recipe.parent / "whole")
    helixwave("train", recipe, "--run", folder.path)
    return folder


@pytest.fixture(scope="module")
def out_of_patience(recipe: Path) -> RunFolder:
    folder = RunFolder(recipe.parent / "impatient")
    helixwave("train", recipe, "trainer.patience=2", "--run", folder.path)
    return folder


# with every technique of training at once it is killed in tests/toolkit/training/test_switches.py
@pytest.mark.slow
@pytest.mark.parametrize("epochs", [0, 2])
def test_killed_and_resumed_equals_uninterrupted(
    epochs: int, recipe: Path, uninterrupted: RunFolder, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "killed")
    train_and_kill_after(epochs, recipe, folder)
    helixwave("resume", folder.path)

    for file in ("state.safetensors", "checkpoint/model.safetensors"):
        expected, found = load_tensors(uninterrupted.path / file), load_tensors(folder.path / file)
        assert expected.keys() == found.keys()
        for name in expected:
            assert expected[name].equal(found[name]), f"{file}: {name} differs"
    columns = [[row.rpartition(",")[0] for row in f.metrics.read_text().splitlines()] for f in (uninterrupted, folder)]
    assert columns[0] == columns[1], "all metrics but the time are equal"


@pytest.mark.parametrize(
    ("ended", "epochs"), [("uninterrupted", 5), pytest.param("out_of_patience", 3, marks=pytest.mark.slow)]
)
def test_killed_after_training_trains_no_further(
    ended: str, epochs: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = RunFolder(shutil.copytree(request.getfixturevalue(ended).path, tmp_path / "run"))
    metrics, weights = folder.metrics.read_text(), load_tensors(folder.checkpoint / "model.safetensors")
    assert epochs_done(folder) == epochs
    folder.report.unlink()  # as if the run had been killed while it was judged
    helixwave("resume", folder.path)
    assert folder.metrics.read_text() == metrics
    again = load_tensors(folder.checkpoint / "model.safetensors")
    assert all(again[name].equal(tensor) for name, tensor in weights.items())
    assert folder.report.exists()


def test_a_complete_run_is_left_alone(uninterrupted: RunFolder) -> None:
    before = uninterrupted.report.stat().st_mtime_ns
    assert "complete" in helixwave("resume", uninterrupted.path)
    assert uninterrupted.report.stat().st_mtime_ns == before
