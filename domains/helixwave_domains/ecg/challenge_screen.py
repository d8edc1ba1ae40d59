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
from helixwave_domains.ecg.snomed import ScoredClass, scored_classes

_TITLES = {"auroc": "AUROC", "auprc": "AUPRC", "f": "F", "f2": "F2", "g2": "G2"}
# scores that a single class does not have
_OF_ALL = ("accuracy", "challenge")


def run_score(labels: Path, outputs: Path, year: int = 2021, out: Path | None = None) -> FolderScores:
    """Score a folder of output files against a folder of headers, show the scores and write them to `out`.

    Raises:
        InputError: what `score_folders` refuses, or the disk is full.
    """
    with console.status("reading outputs"):
        found = score_folders(labels, outputs, year)
    macro = found.scores.macro
    console.print(_table(found))
    console.print(f"challenge metric {macro['challenge']:.3f}, accuracy {macro['accuracy']:.3f}")
    for note in found.notes:
        console.print(escape(f"note: {note}"))
    if out is not None:
        write_scores(found, out)
        console.print(escape(f"scores written to {out}"))
    return found


def write_scores(found: FolderScores, path: Path) -> None:
    """A CSV file with a row for each class, and the last one for all; empty where a score is not defined."""
    with atomic_write(path) as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(["class", "code", "name", "recordings", *_titles(found), *_OF_ALL])
        for scored, count, values in _rows(found):
            writer.writerow(
                [scored.name, scored.code, scored.title, count, *map(_cell, values), *("" for _ in _OF_ALL)]
            )
        macro = [found.scores.macro[name] for name in (*_titles(found), *_OF_ALL)]
        writer.writerow(["macro", "", "", len(found.labels), *map(_cell, macro)])


def _table(found: FolderScores) -> Table:
    table = Table(box=None, pad_edge=False, title=f"PhysioNet/CinC Challenge {found.scores.year}", title_justify="left")
    table.add_column("class", no_wrap=True)
    for title in ("recordings", *_titles(found).values()):
        table.add_column(title, justify="right", no_wrap=True)
    for scored, count, values in _rows(found):
        table.add_row(scored.name, str(count), *map(_shown, values))
    macro = [found.scores.macro[name] for name in _titles(found)]
    table.add_row("macro", str(len(found.labels)), *map(_shown, macro), style="bold")
    return table


def _titles(found: FolderScores) -> dict[str, str]:
    """Of the scores that each class has."""
    return {name: title for name, title in _TITLES.items() if name in found.scores.by_class}


def _rows(found: FolderScores) -> Iterator[tuple[ScoredClass, int, list[float]]]:
    """Of each class: its recordings and its scores."""
    for number, scored in enumerate(scored_classes(found.scores.year)):
        values = [found.scores.by_class[name][number] for name in _titles(found)]
        yield scored, int(found.labels[:, number].sum()), values


def _shown(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.10g}"
