"""`helixwave list`, `helixwave show` and `helixwave validate`: what there is, and whether a recipe can run."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from helixwave.commands.train import OverridesArgument, RecipeArgument
from helixwave.recipe import choices, load_recipe, recipe_names, summary, to_yaml
from helixwave.registry import BASELINES, BLOCKS, DATA, MODELS, OBJECTIVES, Registry

REGISTRIES = {"blocks": BLOCKS, "models": MODELS, "datasets": DATA, "baselines": BASELINES, "objectives": OBJECTIVES}
Kind = StrEnum("Kind", ["recipes", "backbones", *REGISTRIES])  # type: ignore[misc]


def list_parts(
    kind: Annotated[Kind, typer.Argument(help="What to list.")] = Kind.recipes,  # type: ignore[attr-defined]
) -> None:
    """List what is there: recipes, backbones, blocks, models, data sets, baselines, objectives.

    Example: helixwave list blocks
    """
    table = Table(box=None, pad_edge=False)
    if kind == "recipes":
        rows = [(name, summary(name)) for name in recipe_names()]
    elif kind == "backbones":
        rows = [(name, summary(f"backbone/{name}")) for name in choices()["backbone"]]
    else:
        rows = _rows(REGISTRIES[kind])
    table.add_column(kind.value, no_wrap=True, style="bold")
    table.add_column("what it is")
    for row in rows:
        table.add_row(*map(escape, row))
    Console(highlight=False).print(table)


def show(recipe: RecipeArgument, overrides: OverridesArgument = None) -> None:
    """Print a recipe with every default and override filled in.

    Example: helixwave show genomics/splice backbone=hyena
    """
    print(to_yaml(load_recipe(recipe, overrides).config), end="")


def validate(recipe: RecipeArgument, overrides: OverridesArgument = None) -> None:
    """Check a recipe without running it.

    Example: helixwave validate my_recipe.yaml trainer.max_epochs=3
    """
    load_recipe(recipe, overrides)
    print(f"{recipe}: valid")


def _rows(registry: Registry) -> list[tuple[str, str]]:
    rows = []
    for name in registry:
        signature = registry.signature(name)
        arguments = [
            f"{argument}={parameter.default}" if parameter.default else argument
            for argument, parameter in signature.parameters.items()
            if argument not in registry.provided
        ]
        rows.append((name, f"{signature.summary}\n{', '.join(arguments)}"))
    return rows
