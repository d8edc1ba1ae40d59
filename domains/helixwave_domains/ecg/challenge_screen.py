"""`helixwave ecg score`: the scores of a challenge on the screen and as a CSV file."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from helixwave.console import console
from helixwave.files import atomic_write
from rich.markup import escape
from rich.table import Table

from helixwave_domains.ecg.score_files import FolderScores, score_folders
from helixwave_domains.ecg.snomed import scored_classes

_TITLES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "f": "F",
    "f2": "F2",
    "g2": "G2",
    "accuracy": "accuracy",
    "challenge": "challenge",
}


def run_score(labels: Path, outputs: Path, year: int = 2021, out: Path | None = None) -> FolderScores:
    """Score a folder of output files against a folder of headers, show the scores and write them to `out`.

    Raises:
        InputError: what `score_folders` refuses, or the disk is full.
    """
    with console.status("reading outputs"):
        found = score_folders(labels, outputs, year)
    console.print(_table(found))
    for note in found.notes:
        console.print(escape(note))
    if out is not None:
        write_scores(found, out)
        console.print(escape(f"scores written to {out}"))
    return found


def write_scores(found: FolderScores, path: Path) -> None:
    """A CSV file with a row for each class, and the last one for all; empty where a score is not defined."""
    with atomic_write(path) as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(["class", "code", "name", "recordings", *found.scores.macro])
        for scored, values in zip(scored_classes(found.scores.year), _rows(found), strict=True):
            writer.writerow([scored.name, scored.code, scored.title, *map(_cell, values)])
        writer.writerow(["macro", "", "", len(found.labels), *map(_cell, found.scores.macro.values())])


def _table(found: FolderScores) -> Table:
    each = list(found.scores.by_class)
    table = Table(box=None, pad_edge=False, title=f"PhysioNet/CinC Challenge {found.scores.year}", title_justify="left")
    table.add_column("class", no_wrap=True)
    for title in ["recordings", *(_TITLES[name] for name in found.scores.macro)]:
        table.add_column(title, justify="right", no_wrap=True)
    for scored, (count, *values) in zip(scored_classes(found.scores.year), _rows(found), strict=True):
        table.add_row(scored.name, f"{count:.0f}", *map(_shown, values[: len(each)]))
    table.add_section()
    table.add_row("macro", str(len(found.labels)), *map(_shown, found.scores.macro.values()), style="bold")
    return table


def _rows(found: FolderScores) -> Iterator[list[float]]:
    """Of each class: its recordings and its scores; NaN where only all classes together have one."""
    for number, count in enumerate(found.labels.sum(axis=0)):
        values = [
            found.scores.by_class[name][number] if name in found.scores.by_class else math.nan
            for name in found.scores.macro
        ]
        yield [int(count), *values]


def _shown(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.10g}"
