"""`helixwave predict`: a checkpoint on the user's own files."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from helixwave.errors import InputError


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint folder, or the folder of a run.")],
    inputs: Annotated[list[Path], typer.Argument(help="Files of the kind the model was trained on, such as FASTA.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("predictions"),
    overwrite: Annotated[bool, typer.Option(help="Replace results that are there.")] = False,
) -> None:
    """Predict with a trained model; the formats depend on the model.

    Example: helixwave predict runs/genomics/annotate/RUN genome.fa -o annotation
    """
    from helixwave.checkpoint import load

    model = load(checkpoint)
    if not hasattr(model, "predict_files"):
        raise InputError(f"{checkpoint}: a {type(model).__name__} has no labels to predict. Fine-tune it first")
    with Console(stderr=True).status(f"predicting {len(inputs)} file{'s' * (len(inputs) > 1)}"):
        for path in model.predict_files(inputs, output, overwrite=overwrite):
            print(path)
