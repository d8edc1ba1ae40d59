"""`helixwave data list|fetch|verify`: the data sets that recipes use."""

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from helixwave.cards import STATUSES, card_names, data_folder, read_card
from helixwave.errors import InputError

app = typer.Typer(help="List, fetch and verify data sets.", no_args_is_help=True)
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Data cards. Default: all.")]


@app.command("list")
def list_cards() -> None:
    """List the data cards with licence, size and what of them is here.

    Example: helixwave data list
    """
    table = Table(box=None, pad_edge=False)
    for column in ("name", "title", "licence", "size", "status"):
        table.add_column(column, no_wrap=column in {"name", "size"}, style="bold" if column == "name" else None)
    for name in card_names():
        card = read_card(name)
        here = sum(card.locate(file.path) is not None for file in card.files)
        status = "here" if here == len(card.files) else f"{here} of {len(card.files)} files"
        size, status = (f"{card.size / 1e6:.1f} MB", status) if card.files else ("", "you bring it")
        table.add_row(*map(escape, (name, card.title, card.licence, size, status)))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"\ndata folder: {data_folder()}", style="dim")


@app.command()
def fetch(names: Names = None) -> None:
    """Download what is missing and check it.

    Example: helixwave data fetch uci_splice
    """
    for name in names or card_names():
        card = read_card(name)
        for path in card.fetch():
            print(path)
        for part in card.supplied:
            print(f"{name}: bring {part.path} from {part.url}")


@app.command()
def verify(names: Names = None) -> None:
    """Compare the files with the checksums on their cards.

    Example: helixwave data verify uci_splice
    """
    wrong = []
    for name in names or card_names():
        for path, status in read_card(name).verify().items():
            print(f"{name}/{path}: {status} ({STATUSES[status]})")
            wrong += [f"{name}/{path}"] if status != "ok" else []
    if wrong:
        raise InputError(f"{len(wrong)} files are missing or differ, the first: {wrong[0]}. Run: helixwave data fetch")
