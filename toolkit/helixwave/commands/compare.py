"""`helixwave compare`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from helixwave.commands.train import OverridesArgument, RecipeArgument
from helixwave.comparison import Comparison, Run, notes, plan, prepare, table, train, write
from helixwave.console import console
from helixwave.errors import InputError


def compare(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    *,
    backbones: Annotated[
        str,
        typer.Option(
            help="What to compare, separated by commas: names of backbones or of blocks, with settings as in "
            "mamba:negative_eigenvalues=true:d_state=8, blocks joined as in attention+swiglu."
        ),
    ],
    seeds: Annotated[int, typer.Option(help="Runs of each backbone; their seeds follow that of the recipe.")] = 3,
    folder: Annotated[Path | None, typer.Option(help="Where to write. Default: runs/RECIPE/compare.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train again what has been trained before.")] = False,
) -> None:
    """Train a recipe with several backbones and write a table and a picture of what came out.

    Example: helixwave compare synthetic/parity --backbones mamba,gla,slstm --seeds 3 trainer.max_epochs=5
    """
    overrides = overrides or []
    root = folder or Path("runs") / Path(recipe).with_suffix("") / "compare"
    runs = plan(recipe, overrides, backbones, seeds, root)
    prepare(runs, overwrite=overwrite)
    command = ["helixwave", "compare", recipe, "--backbones", backbones, "--seeds", str(seeds), *overrides]
    comparison = Comparison(root, shlex.join(command))
    for number, run in enumerate(runs, 1):
        comparison.runs.append(_train(run, f"{number}/{len(runs)} {run.label}, seed {run.recipe.seed}"))
    write(comparison)
    _show(comparison)
    if not comparison.done:
        raise InputError(f"every run failed, the first because: {comparison.runs[0].failure}")


def _train(run: Run, title: str) -> Run:
    known = run.finished
    with console.status(escape(title)) as status:
        run = train(run, lambda line: status.update(escape(f"{title}: {line}")))
    if run.failure:
        console.print(escape(f"{title}: failed: {run.failure}"))
    else:
        seconds = f"{run.results['cpu_seconds']:.0f} s cpu" + ", trained before" * known
        console.print(escape(f"{title}: {run.results['monitor']} {run.score:.4f}, {seconds}"))
    return run


def _show(comparison: Comparison) -> None:
    head, *rows = table(comparison)
    shown = Table(box=None, pad_edge=False)
    for place, name in enumerate(head):
        shown.add_column(escape(name), justify="right" if place else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*map(escape, row))
    console.print(shown)
    for note in notes(comparison):
        console.print(escape(note))
    console.print(f"written: {escape(str(comparison.folder / 'comparison.md'))}")
