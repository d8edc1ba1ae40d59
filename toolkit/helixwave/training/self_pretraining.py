"""Pretraining on a run's own inputs, then the labels; beside it the same number of updates from scratch."""

import json
from collections.abc import Callable
from typing import Any

from helixwave.data import Source
from helixwave.errors import InputError
from helixwave.recipe import Recipe, check_recipe
from helixwave.registry import Config
from helixwave.results import Results
from helixwave.run_folder import RunFolder
from helixwave.training.companions import companion_config

Run = Callable[[Recipe, RunFolder], Results]
FROM_SCRATCH = "from scratch, as many updates"


def run_self_pretrained(recipe: Recipe, folder: RunFolder, source: Source, model: Any, run: Run) -> Recipe:
    """Train both runs that the report needs, in folders of their own; the recipe of the one that learns the labels.

    Args:
        model: an untrained one of the recipe, which says what pretrains it.
        run: trains a recipe in a folder, or goes on with it.
    """
    pretrained = _complete(pretraining_recipe(recipe, source, model), RunFolder(folder.path / "pretraining"), run)
    _complete(scratch_recipe(recipe), RunFolder(folder.path / "from_scratch"), run)
    # inputs are read in one way in both phases: there is no vocabulary to take over
    start = {"checkpoint": str(pretrained.checkpoint), "vocabulary": []}
    return check_recipe(recipe.name, {**_alone(recipe), "start": start})


def pretraining_recipe(recipe: Recipe, source: Source, model: Any) -> Recipe:
    """The recipe that learns from the inputs alone."""
    settings = recipe.training.self_pretrain
    assert settings is not None
    default = {"name": "masked" if hasattr(source, "vocabulary") else "masked_spans"}
    changed = {
        "model": settings.model or companion_config(model),
        "objective": settings.objective or default,
        "baseline": None,
        "trainer": {**recipe.config["trainer"], "max_epochs": settings.epochs, "patience": None},
    }
    return check_recipe(f"{recipe.name} (pretraining)", {**_alone(recipe), **changed})


def scratch_recipe(recipe: Recipe) -> Recipe:
    """The recipe with the updates of the pretraining in addition and without it."""
    settings = recipe.training.self_pretrain
    assert settings is not None
    trainer = {**recipe.config["trainer"], "max_epochs": recipe.trainer.max_epochs + settings.epochs}
    return check_recipe(f"{recipe.name} ({FROM_SCRATCH})", {**_alone(recipe), "baseline": None, "trainer": trainer})


def compared(folder: RunFolder) -> dict[str, dict[str, float]]:
    """Test scores of the run from scratch, by its name."""
    results = json.loads(RunFolder(folder.path / "from_scratch").results.read_text(encoding="utf-8"))
    return {FROM_SCRATCH: results["test"]}


def _alone(recipe: Recipe) -> Config:
    """The recipe without pretraining."""
    return {**recipe.config, "training": {**recipe.config["training"], "self_pretrain": None}}


def _complete(recipe: Recipe, folder: RunFolder, run: Run) -> RunFolder:
    if not folder.report.exists():
        if not folder.recipe.exists():
            folder.create(recipe)
        try:
            run(recipe, folder)
        except InputError:
            folder.discard_if_unused()
            raise
    return folder
