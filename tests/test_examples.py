"""The examples run as they stand, on files and a checkpoint that are made here."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from helixwave.checkpoint import build_model, save
from helixwave_domains.ecg.leads import LEADS
from helixwave_domains.ecg.preprocessing import Preprocessing

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def example(tmp_path, monkeypatch, capsys):
    """Run an example in an empty folder, in this process: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return end.value.code, *capsys.readouterr()

    return run


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


def test_ecg_inference(tmp_path, checkpoint, example):
    t = np.arange(0, 12, 1 / 250)
    beats = np.exp(-(((t % 0.8 - 0.4) / 0.02) ** 2))
    rows = [f"{second:.4f},{beat:.5f},{1.2 * beat:.5f}" for second, beat in zip(t, beats, strict=True)]
    (tmp_path / "two_leads.csv").write_text("\n".join(["time,I (mV),II (mV)", *rows]))
    (tmp_path / "broken.csv").write_text("no ECG")
    code, out, err = example("ecg_inference.py", checkpoint, "two_leads.csv", "broken.csv")
    assert code == 1
    assert "two_leads.csv: " in out
    for name in ("sinus rhythm", "atrial fibrillation"):
        (line,) = [line for line in out.splitlines() if line.split()[:-1] == name.split()]
        assert 0 < float(line.split()[-1]) < 1
    assert "resampled from 250 to 100 Hz" in out
    assert "broken.csv" in err
    assert (tmp_path / "two_leads.pdf").read_bytes().startswith(b"%PDF")
    assert not (tmp_path / "broken.pdf").exists()


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_without_arguments_an_example_says_what_it_needs(name, example):
    said, _, _ = example(name)
    assert f"python examples/{name}" in said
