"""The examples run as they stand, on files and a checkpoint that are made here."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helixwave.checkpoint import build_model, save
from helixwave_domains.ecg.leads import LEADS
from helixwave_domains.ecg.preprocessing import Preprocessing

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def checkpoint(tmp_path):
    config = {
        "model": {"name": "ecg_model", "widths": [4, 4]},
        "backbone": {"d_model": 4, "n_layer": 1, "blocks": [{"name": "mlp"}]},
        "classes": ["sinus rhythm", "atrial fibrillation"],
        "predicts": "labels",
        "preprocessing": Preprocessing(rate=100.0, leads=list(LEADS), window=5.0).config(),
    }
    save(build_model(config), tmp_path / "run")
    return tmp_path / "run"


def test_ecg_inference(tmp_path, checkpoint):
    t = np.arange(0, 12, 1 / 250)
    beats = np.exp(-(((t % 0.8 - 0.4) / 0.02) ** 2))
    rows = [f"{second:.4f},{beat:.5f},{1.2 * beat:.5f}" for second, beat in zip(t, beats, strict=True)]
    (tmp_path / "two_leads.csv").write_text("\n".join(["time,I (mV),II (mV)", *rows]))
    (tmp_path / "broken.csv").write_text("no ECG")
    command = [sys.executable, EXAMPLES / "ecg_inference.py", checkpoint, "two_leads.csv", "broken.csv"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": ""}
    )
    assert done.returncode == 1
    assert "two_leads.csv: " in done.stdout
    for name in ("sinus rhythm", "atrial fibrillation"):
        (line,) = [line for line in done.stdout.splitlines() if line.split()[:-1] == name.split()]
        assert 0 < float(line.split()[-1]) < 1
    assert "resampled from 250 to 100 Hz" in done.stdout
    assert "Traceback" not in done.stderr
    assert "broken.csv" in done.stderr
    assert (tmp_path / "two_leads.pdf").read_bytes().startswith(b"%PDF")
    assert not (tmp_path / "broken.pdf").exists()


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_without_arguments_an_example_says_what_it_needs(example):
    done = subprocess.run([sys.executable, example], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"python examples/{example.name}" in done.stderr
