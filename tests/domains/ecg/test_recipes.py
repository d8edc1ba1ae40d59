"""Pretraining on ECGs and what starts from it; see tests/test_recipes.py."""

import json
from pathlib import Path
from typing import Any

import pytest
from helixwave.run_folder import RunFolder

from tests.tiny_recipes import TinyRecipe, one_step


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    one_step(monkeypatch)


def run_tiny(name: str, folder: Path, *more: str) -> RunFolder:
    folder.mkdir()
    return TinyRecipe(name, folder).run(*more)


def preprocessing(place: RunFolder) -> dict[str, Any]:
    config = json.loads((place.checkpoint / "config.json").read_text())
    assert config["calibration"].keys() <= {"temperature", "thresholds"}
    return config["preprocessing"]


def test_what_starts_from_pretraining_reads_as_it_did(tmp_path: Path) -> None:
    place = run_tiny("ecg/pretrain", tmp_path / "first")
    tuned = run_tiny("ecg/finetune", tmp_path / "second", f"start={place.path}", "model.head=record")
    assert "start: " in tuned.log.read_text()
    assert preprocessing(place) == preprocessing(tuned)
    assert preprocessing(place)["rate"] == 100


def test_crops_of_one_recording_are_told_from_others(tmp_path: Path) -> None:
    place = run_tiny("ecg/pretrain", tmp_path / "run", "objective=ecg_contrastive", "model.head=record")
    scores = json.loads(place.results.read_text())
    assert scores["test"].keys() == {"nt_xent", "retrieval"}
    assert 0 <= scores["test"]["retrieval"] <= 1
