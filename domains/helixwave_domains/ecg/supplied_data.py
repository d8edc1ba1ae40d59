"""Where data lie that the user brings: as the recipe says, or in the data folder under the name of their card."""

from pathlib import Path

from helixwave.cards import data_folder, read_card
from helixwave.errors import InputError


def supplied_path(given: str | None, *, argument: str, card: str, path: str = "") -> Path:
    """A file or folder.

    Args:
        given: by the user; None: looked for in the data folder.
        argument: by which the user gives it, for the message.
        card: the data card that says what it is.
        path: its place in the folder of the card.

    Raises:
        InputError: it is not there.
    """
    place = data_folder() / card / path if given is None else Path(given)
    if place.exists():
        return place
    wanted = read_card(card).supplied[0]
    raise InputError(
        f"data: {place} is not there. It should be {wanted.path} ({wanted.url}). Fetch it and pass data.{argument}=PATH"
    )
