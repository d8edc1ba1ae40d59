"""`helixwave ecg predict|info|convert|score`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from helixwave.errors import InputError
from helixwave.option_groups import grouped

from helixwave_domains.ecg import options

app = typer.Typer(help="Predict, look at, convert and score ECGs of any format.", no_args_is_help=True)

Plot = StrEnum("Plot", ["png", "pdf", "svg"])
Aggregate = StrEnum("Aggregate", ["mean", "max"])
MissingLeads = StrEnum("MissingLeads", ["error", "zero"])

Inputs = Annotated[list[str], typer.Argument(metavar="FILES", help="Files, folders or patterns such as 'in/*.hea'.")]
GROUPS: dict[str, Any] = {"declared": options.declared}


@app.command()
@grouped(**GROUPS)
def predict(
    inputs: Inputs,
    checkpoint: Annotated[Path, typer.Option("--checkpoint", "-c", help="A checkpoint, or the folder of a run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("predictions"),
    resample: Annotated[bool, typer.Option("--resample", help="Resample other rates; without it they fail.")] = False,
    missing_leads: Annotated[
        MissingLeads, typer.Option(help="Leads that are not there and do not follow from others.")
    ] = MissingLeads.error,
    window: Annotated[float | None, typer.Option(help="Seconds read at once. Default: as trained.")] = None,
    stride: Annotated[float | None, typer.Option(help="Seconds between windows. Default: side by side.")] = None,
    aggregate: Annotated[Aggregate, typer.Option(help="How windows become one recording.")] = Aggregate.mean,
    json: Annotated[bool, typer.Option("--json", help="Also predictions.jsonl, with timelines and quality.")] = False,
    challenge: Annotated[bool, typer.Option("--challenge", help="Also files for the CinC evaluation.")] = False,
    plot: Annotated[Plot | None, typer.Option(help="Also a page of ECG paper for each recording.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the same command was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there.")] = False,
    *,
    declared: Any,
) -> None:
    """Predict recordings with a trained model: one file or a million.

    Every file leaves a row in predictions.csv; one that cannot be read or served has its reason there, and the command
    then ends with 3.

    Example: helixwave ecg predict ecgs/ --checkpoint runs/ecg/simulated/RUN --resample --plot png
    """
    from helixwave.file_rows import SOME_FAILED, run
    from helixwave.file_rows_screen import say

    from helixwave_domains.ecg.formats import find_recordings
    from helixwave_domains.ecg.prediction_run import Request
    from helixwave_domains.ecg.predictor import Serving

    found = find_recordings(inputs)
    serving = Serving(resample, cast(Any, missing_leads.value), window, stride, cast(Any, aggregate.value))
    chosen = None if plot is None else cast(Any, plot.value)
    request = Request(checkpoint, serving, declared, output, json, challenge, chosen)
    statuses = run(request, found.paths, workers=workers, resume=resume, overwrite=overwrite, what="recordings")
    also = ("predictions.jsonl", "challenge", "pages", "timelines")
    say(request, statuses, found.skipped, last="quality", otherwise="no findings", also=also)
    if statuses["error"]:
        raise typer.Exit(SOME_FAILED)


@app.command()
@grouped(**GROUPS)
def info(
    inputs: Inputs,
    json: Annotated[bool, typer.Option("--json", help="Lines of JSON.")] = False,
    *,
    declared: Any,
) -> None:
    """What files hold: leads, units, rate, labels, marks, and the quality of each lead.

    Example: helixwave ecg info recording.hea
    """
    from helixwave.file_rows import SOME_FAILED

    from helixwave_domains.ecg.info import show_info

    if not show_info(inputs, declared, as_json=json):
        raise typer.Exit(SOME_FAILED)


@app.command()
@grouped(**GROUPS)
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A recording of any format.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="NAME.hea, .edf, .dcm, .csv, .npz or .parquet.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
    *,
    declared: Any,
) -> None:
    """Write a recording in another format.

    Example: helixwave ecg convert philips.xml recording.edf
    """
    from helixwave.console import console
    from rich.markup import escape

    from helixwave_domains.ecg.conversion import convert as write
    from helixwave_domains.ecg.formats import read_recording

    if target.exists() and not overwrite:
        raise InputError(f"{target} is there already. Choose another name, or --overwrite")
    recording = read_recording(source, declared)
    for note in [*recording.notes, *write(recording, target)]:
        console.print(escape(f"note: {note}"))
    print(target)


@app.command()
def score(
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="Folder of WFDB headers with diagnoses.")],
    outputs: Annotated[Path, typer.Argument(metavar="OUTPUTS", help="Folder of challenge CSV files.")],
    year: Annotated[int, typer.Option(help="2020 or 2021.")] = 2021,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="CSV of the scores by class.")] = None,
) -> None:
    """Score outputs as the PhysioNet/CinC challenges of 2020 and 2021 do.

    Example: helixwave ecg score training/ predictions/challenge --year 2021
    """
    from helixwave_domains.ecg.challenge_screen import run_score

    run_score(labels, outputs, year, out)
