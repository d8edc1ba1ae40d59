"""What a command says when it has predicted many files."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from helixwave.console import console
from helixwave.file_rows import Request

# rows that are shown; the table in the folder has all
_SHOWN = 20


def say(
    request: Request, statuses: Counter[str], skipped: Sequence[Path], *, last: str, otherwise: str, also: Sequence[str]
) -> None:
    """The first rows on the screen, what was left out, and the paths of the results.

    Args:
        request: of the run; its table has the probabilities between the columns `labels` and `last`.
        statuses: how many rows have which.
        skipped: files that are none of the kind.
        last: the column that is shown last.
        otherwise: what stands there where it is empty.
        also: names of files and folders beside the table that are results too.
    """
    table = request.folder / f"{request.table}.csv"
    console.print(_first_rows(table, last, otherwise))
    console.print(f"{statuses['ok']:,} predicted, {statuses['error']:,} failed")
    if statuses["error"]:
        console.print(escape(f"the column reason of {table} says why"))
    if skipped:
        more = f" and {len(skipped) - 1:,} more" * (len(skipped) > 1)
        console.print(escape(f"skipped, none of the kind: {skipped[0]}{more}"))
    print(table)
    for path in sorted(request.folder.iterdir()):
        if path.name in also:
            print(path)


def _first_rows(path: Path, last: str, otherwise: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("file", "labels", "likeliest", last):
        table.add_column(name, overflow="fold")
    with path.open(encoding="utf-8", newline="") as f:
        rows = csv.DictReader(f)
        names = list(rows.fieldnames or [])
        classes = names[names.index("labels") + 1 : names.index(last)]
        for _, row in zip(range(_SHOWN), rows, strict=False):
            table.add_row(*map(escape, _cells(row, classes, last, otherwise)))
    return table


def _cells(row: dict[str, str], classes: list[str], last: str, otherwise: str) -> list[str]:
    name = Path(row["file"]).name
    if row["status"] != "ok":
        return [name, "", row["reason"], ""]
    ranked = sorted(classes, key=lambda column: -float(row[column]))[:3]
    likeliest = ", ".join(f"{column} {float(row[column]):.2f}" for column in ranked)
    return [name, row["labels"] or "none", likeliest, row[last] or otherwise]
