"""`helixwave video info|predict|embed`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from helixwave.errors import InputError
from helixwave.option_groups import grouped

from helixwave_domains.video import options

app = typer.Typer(help="Look at, predict and embed videos of any format.", no_args_is_help=True)

Aggregate = StrEnum("Aggregate", ["mean", "max"])

Inputs = Annotated[list[str], typer.Argument(metavar="FILES", help="Files, folders or patterns such as 'in/*.mp4'.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the same command was stopped.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that are there.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto: a GPU if there is one.")]


@app.command()
@grouped(opening=options.opening)
def info(
    inputs: Inputs,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every frame, which finds all damage.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Lines of JSON.")] = False,
    *,
    opening: Any,
) -> None:
    """What files hold: frames, size, rate, rotation, and the streams to choose from.

    Example: helixwave video info clip.mp4
    """
    from helixwave.file_rows import SOME_FAILED

    from helixwave_domains.video.video_info import show_info

    if not show_info(inputs, opening, decode=decode, as_json=json):
        raise typer.Exit(SOME_FAILED)


@app.command()
@grouped(opening=options.opening, sliding=options.sliding)
def predict(
    inputs: Inputs,
    checkpoint: Annotated[Path, typer.Option("--checkpoint", "-c", help="A checkpoint, or the folder of a run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("predictions"),
    aggregate: Annotated[Aggregate, typer.Option(help="How windows become one clip.")] = Aggregate.mean,
    json: Annotated[bool, typer.Option("--json", help="Also predictions.jsonl, with timelines.")] = False,
    device: Device = "auto",
    workers: Workers = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
    *,
    opening: Any,
    sliding: Any,
) -> None:
    """Predict clips with a trained model, window by window: seconds or hours.

    Every file leaves a row in predictions.csv; one that cannot be read has its reason there, and the command then ends
    with 3.

    Example: helixwave video predict clips/ --checkpoint runs/video/finetune/RUN --window 2
    """
    from helixwave.file_rows import SOME_FAILED, run
    from helixwave.file_rows_screen import say

    from helixwave_domains.video.finding import find_clips
    from helixwave_domains.video.prediction_run import Request

    found = find_clips(inputs)
    request = Request(checkpoint, opening, sliding, cast(Any, aggregate.value), output, json, device)
    statuses = run(request, found.paths, workers=workers, resume=resume, overwrite=overwrite, what="clips")
    say(request, statuses, found.skipped, last="notes", otherwise="", also=("predictions.jsonl", "timelines"))
    if statuses["error"]:
        raise typer.Exit(SOME_FAILED)


@app.command()
@grouped(opening=options.opening, sliding=options.sliding)
def embed(
    inputs: Inputs,
    out: Annotated[Path, typer.Option("--out", "--output", "-o", help="A folder, or one file: NAME.npz or NAME.zarr.")],
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", "-c", help="A checkpoint, or the folder of a run.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Without a checkpoint, a net of single frames: small or timm:NAME.")
    ] = None,
    device: Device = "auto",
    workers: Workers = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
    *,
    opening: Any,
    sliding: Any,
) -> None:
    """Vectors of clips, one for each window with its times, in memory that does not grow with the clip.

    Example: helixwave video embed lecture.mp4 --checkpoint runs/video/finetune/RUN --window 2 --out vectors.npz
    """
    from helixwave.file_rows import SOME_FAILED

    from helixwave_domains.video.embedding_run import Request
    from helixwave_domains.video.embedding_screen import run_embed
    from helixwave_domains.video.finding import find_clips

    if resume and overwrite:
        raise InputError("--resume goes on with what is there and --overwrite replaces it. Choose one of them")
    found = find_clips(inputs)

    def request(folder: Path) -> Request:
        return Request(checkpoint, features, opening, sliding, folder, device)

    if run_embed(request, found, out, workers=workers, resume=resume, overwrite=overwrite):
        raise typer.Exit(SOME_FAILED)
