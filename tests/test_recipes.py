"""Every recipe that is shipped takes one small step, from the list of recipes alone; see tiny_recipes.py."""

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helixwave.recipe import recipe_names

from tests.tiny_recipes import TinyRecipe, one_step

# what a run leaves beside its report, and how it begins
LEFT = {
    ("genomics/annotate", "predicted.gff3"): "##gff-version 3\n##sequence-region NC_000932.1",
    ("genomics/annotate", "predicted.bed"): "NC_000932.1\t",
    ("ecg/simulated", "real_ecg.tsv"): "rhythm\tprobability\nsinus rhythm\t",
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one_step(monkeypatch)
    monkeypatch.setenv("HELIXWAVE_DATA", str(tmp_path))
    monkeypatch.setenv("HELIXWAVE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _seconds(request: pytest.FixtureRequest) -> Iterator[None]:
    """All together are to stay under two minutes of cpu time: pytest -s tests/test_recipes.py."""
    began = time.process_time()
    yield
    print(f"\n{request.node.name}: {time.process_time() - began:.1f} s cpu")


@pytest.mark.parametrize("name", recipe_names())
def test_runs(name: str, tmp_path: Path) -> None:
    recipe = TinyRecipe(name, tmp_path)
    place = recipe.run()
    scores = json.loads(place.results.read_text())
    assert scores["monitor"] in scores["test"]
    if recipe.config.get("baseline"):
        assert scores["test"].keys() == scores["baseline"].keys()
        assert scores["baseline_description"]
    page = place.report.read_text()
    assert f"{scores['test'][scores['monitor']]:.4f}" in page
    assert not list(place.path.rglob(".*")), "no temporary file is left"
    for (recipe_name, file), beginning in LEFT.items():
        assert recipe_name != name or (place.path / file).read_text().startswith(beginning)
    if "estimator" in recipe.config:
        return
    assert len(list(csv.DictReader(place.metrics.read_text().splitlines()))) == 1
    config = json.loads((place.checkpoint / "config.json").read_text())
    if "preprocessing" in config:
        assert config["calibration"].keys() <= {"temperature", "thresholds"}
    if "start" in recipe.config:
        assert "start: " in place.log.read_text()
