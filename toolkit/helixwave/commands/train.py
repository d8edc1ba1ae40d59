"""`helixwave train` and `helixwave resume`."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from helixwave.errors import InputError
from helixwave.recipe import Recipe, expand_sweep, load_recipe
from helixwave.run_folder import RunFolder

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name, or a YAML file of your own.")]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the recipe, as in trainer.max_epochs=5."),
]


def train(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    run: Annotated[Path | None, typer.Option(help="The run's folder. Default: runs/RECIPE/DATE-TIME.")] = None,
    multirun: Annotated[
        bool, typer.Option("-m", "--multirun", help="Run every combination of values listed as key=a,b.")
    ] = False,
) -> None:
    """Train a recipe, judge it beside its baseline, write a report.

    Example: helixwave train genomics/annotate backbone=hybrid trainer.max_epochs=5
    """
    combinations = expand_sweep(overrides or []) if multirun else [overrides or []]
    recipes = [load_recipe(recipe, combination) for combination in combinations]
    root = run or Path("runs") / Path(recipe).with_suffix("") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    folders = [RunFolder(root / _label(combination) if multirun else root) for combination in combinations]
    for folder, checked in zip(folders, recipes, strict=True):
        folder.create(checked)
        try:
            _run(checked, folder)
        except InputError:
            folder.discard_if_unused()
            raise


def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run that was stopped.")],
) -> None:
    """Go on with a run that was stopped; the result is that of a run that was not.

    Example: helixwave resume runs/genomics/annotate/2026-01-31_12-00-00
    """
    folder = RunFolder(run)
    recipe = folder.read_recipe()
    if folder.report.exists():
        print(f"{run} is complete: its report is {folder.report}")
        return
    _run(recipe, folder)


def _run(recipe: Recipe, folder: RunFolder) -> None:
    from helixwave.train import run as run_recipe

    run_recipe(recipe, folder)
    print(f"report: {folder.report}")
    if folder.checkpoint.exists():
        print(f"checkpoint: {folder.checkpoint}")


def _label(overrides: list[str]) -> str:
    """A folder's name for one combination of a sweep."""
    return ",".join(overrides).replace("/", "_") or "as_is"
