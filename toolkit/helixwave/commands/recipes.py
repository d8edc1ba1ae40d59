"""`helixwave list`, `helixwave show` and `helixwave validate`: what there is, and whether a recipe can run."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from helixwave.commands.train import OverridesArgument, RecipeArgument
from helixwave.errors import InputError
from helixwave.recipe import choices, load_recipe, recipe_names, summary, to_yaml
from helixwave.registry import BASELINES, BLOCKS, DATA, FORECASTERS, MODELS, OBJECTIVES, Registry

REGISTRIES = {
    "blocks": BLOCKS,
    "models": MODELS,
    "datasets": DATA,
    "baselines": BASELINES,
    "objectives": OBJECTIVES,
    "forecasters": FORECASTERS,
}
_WIDTH, _LENGTH = 128, 1024
_LEGEND = (
    f"For d_model={_WIDTH} and one sequence of {_LENGTH:,} positions. state: numbers handed on for each sequence; "
    "none: it reads both ways. Mop/token: million floating-point operations of a forward pass in plain torch."
)
Kind = StrEnum("Kind", ["recipes", "backbones", *REGISTRIES])  # type: ignore[misc]


def list_parts(
    kind: Annotated[Kind, typer.Argument(help="What to list.")] = Kind.recipes,  # type: ignore[attr-defined]
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="With blocks: what each of them costs.")] = False,
) -> None:
    """List what is there: recipes, backbones, blocks, models, data sets, baselines, objectives, forecasters.

    Example: helixwave list blocks --verbose
    """
    table = Table(box=None, pad_edge=False)
    table.add_column(kind.value, no_wrap=True, style="bold")
    table.add_column("what it is")
    if kind == "recipes":
        rows: list[tuple[str, ...]] = [(name, summary(name)) for name in recipe_names()]
    elif kind == "backbones":
        rows = [(name, summary(f"backbone/{name}")) for name in choices()["backbone"]]
    elif kind == "blocks" and verbose:
        for column in ("parameters", "state", "Mop/token"):
            table.add_column(column, justify="right", no_wrap=True)
        rows = [(*row, *_cost(row[0])) for row in _rows(BLOCKS)]
    else:
        rows = _rows(REGISTRIES[kind])
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console(highlight=False)
    console.print(table)
    if kind == "blocks" and verbose:
        console.print(_LEGEND)


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


def _rows(registry: Registry) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name in registry:
        signature = registry.signature(name)
        arguments = [
            f"{argument}={parameter.default}" if parameter.default else argument
            for argument, parameter in signature.parameters.items()
            if argument not in registry.provided
        ]
        source = "" if signature.source in signature.summary else signature.source
        lines = [signature.summary, source, ", ".join(arguments)]
        rows.append((name, "\n".join(filter(None, lines))))
    return rows


def _cost(name: str) -> tuple[str, str, str]:
    from helixwave.operations import block_cost

    try:
        cost = block_cost({"name": name}, d_model=_WIDTH, T=_LENGTH)
    except InputError:
        # another package's block can ask for more than a width
        return "?", "?", "?"
    state = "none" if cost.state is None else f"{cost.state:,}"
    return f"{cost.parameters:,}", state, f"{cost.operations / 1e6:.2f}"
