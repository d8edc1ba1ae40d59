"""Every recipe of ECGs runs, on a size that takes a moment."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helixwave.recipe import load_recipe, recipe_names
from helixwave.run_folder import RunFolder
from helixwave.train import run

from tests.domains.ecg.record_files import write_record
from tests.domains.ecg.test_beats import beats_file
from tests.domains.ecg.test_ptbxl import write_ptbxl

TINY = ["trainer.max_epochs=1", "trainer.accelerator=cpu"]
BACKBONE = ["backbone.d_model=8", "backbone.n_layer=1"]
STEM = ["model.widths=[4,4]"]
SMALLER = {
    "ecg/beats": [*BACKBONE, *STEM],
    "ecg/beats_inter_patient": [*BACKBONE, *STEM, "data.test_records=[1,2]"],
    "ecg/rhythm": [*BACKBONE, *STEM],
    "ecg/ptbxl": ["model.d_model=8", "model.n_layer=1", "objective.intervals=0"],
    "ecg/cinc2021": ["model.d_model=8", "model.n_layer=1", *STEM, "data.window=1", "objective.monitor=auroc"],
    "ecg/pretrain": [*BACKBONE, *STEM, "data.window=1"],
    "ecg/finetune": ["model.head=record"],
    "ecg/simulated": [*BACKBONE, *STEM, "data.train=2", "data.validation=1", "data.test=1"],
}
DIAGNOSES = ["426783006", "164889003,59118001", "713427006", "10370003,284470004"]


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time, and other tests look at them."""
    monkeypatch.setattr("helixwave.report.as_svg", lambda figure: "")


def challenge_folder(folder: Path) -> str:
    for i in range(16):
        write_record(folder / f"R{i}", DIAGNOSES[i % 4], rate=250)
    return f"data.folder={folder}"


def rhythm_folder(folder: Path) -> str:
    """Six patients of two leads, half of whom fibrillate."""
    wfdb = pytest.importorskip("wfdb")
    for patient in range(6):
        signal = np.random.default_rng(patient).normal(0, 1, (6000, 2))
        name = f"data_{patient}_1"
        settings = {"fs": 200, "units": ["mV", "mV"], "sig_name": ["I", "II"], "fmt": ["16", "16"]}
        wfdb.wrsamp(name, p_signal=signal, write_dir=str(folder), **settings)
        if patient % 2:
            wfdb.wrann(name, "atr", np.array([0]), ["+"], aux_note=["(AFIB"], write_dir=str(folder))
    return f"data.folder={folder}"


def own_table(folder: Path) -> str:
    for i in range(16):
        write_record(folder / f"r{i}", None, rate=100)
    lines = [f"r{i},{'ab'[i % 2]}" for i in range(16)]
    (folder / "labels.csv").write_text("record,label\n" + "\n".join(lines) + "\n")
    return f"data.table={folder / 'labels.csv'}"


def ptbxl_folder(folder: Path) -> str:
    write_ptbxl(folder)
    return f"data.folder={folder}"


MAKE = {
    "ecg/beats": lambda folder: f"data.file={beats_file(folder)}",
    "ecg/beats_inter_patient": lambda folder: f"data.file={beats_file(folder)}",
    "ecg/rhythm": rhythm_folder,
    "ecg/ptbxl": ptbxl_folder,
    "ecg/cinc2021": challenge_folder,
    "ecg/pretrain": challenge_folder,
    "ecg/finetune": own_table,
}


def run_tiny(name: str, folder: Path, *more: str) -> RunFolder:
    data = folder / "data"
    data.mkdir(parents=True)
    own = [MAKE[name](data)] if name in MAKE else []
    place = RunFolder(folder / "run")
    recipe = load_recipe(name, [*TINY, *SMALLER[name], *own, *more])
    place.create(recipe)
    run(recipe, place)
    return place


def check_run(place: RunFolder) -> dict[str, Any]:
    scores: dict[str, Any] = json.loads(place.results.read_text())
    assert scores["monitor"] in scores["test"]
    config = json.loads((place.checkpoint / "config.json").read_text())
    assert config["preprocessing"]["rate"] > 0
    assert config["calibration"].keys() <= {"temperature", "thresholds"}
    return scores


def test_every_recipe_of_the_domain_is_covered() -> None:
    assert sorted(name for name in recipe_names() if name.startswith("ecg/")) == sorted(SMALLER)


@pytest.mark.parametrize("name", sorted({*SMALLER} - {"ecg/pretrain", "ecg/finetune"}))
def test_recipe(name: str, tmp_path: Path) -> None:
    scores = check_run(run_tiny(name, tmp_path))
    assert scores["test"].keys() == scores["baseline"].keys()
    if name == "ecg/simulated":
        assert (tmp_path / "run" / "real_ecg.tsv").read_text().startswith("rhythm\tprobability\nsinus rhythm\t")


def test_pretraining_and_what_starts_from_it(tmp_path: Path) -> None:
    place = run_tiny("ecg/pretrain", tmp_path / "first")
    check_run(place)
    tuned = run_tiny("ecg/finetune", tmp_path / "second", f"start={place.path}")
    check_run(tuned)
    assert "start: " in tuned.log.read_text()
    read = [json.loads((each.checkpoint / "config.json").read_text())["preprocessing"] for each in (place, tuned)]
    assert read[0] == read[1]


def test_crops_of_one_recording_are_told_from_others(tmp_path: Path) -> None:
    place = run_tiny("ecg/pretrain", tmp_path, "objective=ecg_contrastive", "model.head=record")
    scores = json.loads(place.results.read_text())
    assert scores["test"].keys() == {"nt_xent", "retrieval"}
    assert 0 <= scores["test"]["retrieval"] <= 1
