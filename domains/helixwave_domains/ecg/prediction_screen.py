"""What `helixwave ecg predict` says when it is done."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from helixwave.console import console
from rich.markup import escape
from rich.table import Table

# rows that are shown; the table in the folder has all
_SHOWN = 20


def say(folder: Path, statuses: Counter[str], skipped: Sequence[Path]) -> None:
    """The first rows on the screen, what was left out, and the paths of the results."""
    table = folder / "predictions.csv"
    console.print(_first_rows(table))
    console.print(f"{statuses['ok']:,} predicted, {statuses['error']:,} failed")
    if statuses["error"]:
        console.print(escape(f"the column reason of {table} says why"))
    if skipped:
        more = f" and {len(skipped) - 1:,} more" * (len(skipped) > 1)
        console.print(escape(f"skipped, no recordings: {skipped[0]}{more}"))
    print(table)
    for path in sorted(folder.iterdir()):
        if path.name in {"predictions.jsonl", "challenge", "pages", "timelines"}:
            print(path)


def _first_rows(path: Path) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("file", "labels", "likeliest", "quality"):
        table.add_column(name, overflow="fold")
    with path.open(encoding="utf-8", newline="") as f:
        rows = csv.DictReader(f)
        names = list(rows.fieldnames or [])
        classes = names[names.index("labels") + 1 : names.index("quality")]
        for _, row in zip(range(_SHOWN), rows, strict=False):
            table.add_row(*map(escape, _cells(row, classes)))
    return table


def _cells(row: dict[str, str], classes: list[str]) -> list[str]:
    name = Path(row["file"]).name
    if row["status"] != "ok":
        return [name, "", row["reason"], ""]
    ranked = sorted(classes, key=lambda column: -float(row[column]))[:3]
    likeliest = ", ".join(f"{column} {float(row[column]):.2f}" for column in ranked)
    return [name, row["labels"] or "none", likeliest, row["quality"] or "no findings"]
