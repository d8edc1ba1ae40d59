"""Data cards: a page per data set whose YAML front matter says where its files come from and how to check them."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from helixwave.errors import InputError, nearest
from helixwave.files import cache_folder, reading

STATUSES = {
    "ok": "present and as published",
    "missing": "not here",
    "differs": "present, but not what the card describes",
}


@dataclass(frozen=True)
class CardFile:
    """One file of a data set: name, checksum, and where it can be had (None: it ships with the package)."""

    path: str
    sha256: str
    bytes: int
    url: str | None = None


@dataclass(frozen=True)
class Supplied:
    """What the user brings, as it is large, changes or may not be passed on: what it is, and where it can be had."""

    path: str
    url: str


@dataclass(frozen=True)
class Card:
    """A data set's facts."""

    name: str
    title: str
    licence: str
    homepage: str
    citation: str
    files: tuple[CardFile, ...]
    page: str
    supplied: tuple[Supplied, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)

    @cached_property
    def _by_path(self) -> dict[str, CardFile]:
        return {file.path: file for file in self.files}

    def locate(self, path: str) -> Path | None:
        """Where a file of this card lies: in the data folder or in the package. None: nowhere yet."""
        places = [data_folder() / self.name / path, _cards_folder() / self.name / path]
        return next((place for place in places if place.is_file()), None)

    def file(self, path: str) -> Path:
        """A file of this card, downloaded and checked if it is not here yet.

        Raises:
            InputError: it is not here and cannot be had.
        """
        return self.locate(path) or self._download(self._by_path[path])

    def fetch(self) -> list[Path]:
        """All files, downloaded where they are missing."""
        return [self.file(file.path) for file in self.files]

    def verify(self) -> dict[str, str]:
        """Status of each file: ok, missing, or differs."""
        return {file.path: self._status(file) for file in self.files}

    def _status(self, file: CardFile) -> str:
        place = self.locate(file.path)
        if place is None:
            return "missing"
        with place.open("rb") as f:
            return "ok" if hashlib.file_digest(f, "sha256").hexdigest() == file.sha256 else "differs"

    def _download(self, file: CardFile) -> Path:
        import pooch

        folder = data_folder() / self.name
        help_line = f"Put it there yourself or, with a network, run: helixwave data fetch {self.name}"
        if file.url is None:
            raise InputError(f"data set {self.name}: {file.path} is not in {folder}. {help_line}")
        try:
            return Path(
                pooch.retrieve(file.url, f"sha256:{file.sha256}", fname=file.path, path=folder, progressbar=True)
            )
        except (OSError, ValueError) as error:
            offline = type(error).__name__ == "ConnectionError"
            reason = "no network connection" if offline else str(error).split("\n")[0]
            raise InputError(
                f"data set {self.name}: {file.path} is not in {folder} and {file.url} did not give it ({reason}). "
                f"{help_line}"
            ) from error


def card_names() -> list[str]:
    """All data cards."""
    return sorted(path.stem for path in _cards_folder().glob("*.md"))


def read_card(name: str) -> Card:
    """The card named `name`.

    Raises:
        InputError: there is none; the message offers the nearest name.
    """
    import yaml

    if name not in card_names():
        raise InputError(f"no data card named {name!r}. {nearest(name, card_names())}")
    page = (_cards_folder() / f"{name}.md").read_text(encoding="utf-8")
    _, front, body = page.split("---\n", 2)
    facts: dict[str, Any] = yaml.safe_load(front)
    listed = tuple(CardFile(**file) for file in facts.pop("files"))
    supplied = tuple(Supplied(**file) for file in facts.pop("supplied", []))
    return Card(name=name, files=listed, page=body.strip(), supplied=supplied, **facts)


def data_folder() -> Path:
    """Where data sets lie: `HELIXWAVE_DATA` or the cache.

    Raises:
        InputError: `HELIXWAVE_DATA` names a folder that is not there.
    """
    named = os.environ.get("HELIXWAVE_DATA")
    if named:
        if not Path(named).is_dir():
            raise InputError(f"HELIXWAVE_DATA is {named}: there is no such folder. Make it, or unset HELIXWAVE_DATA")
        return Path(named)
    return cache_folder()


def supplied_path(given: str | None, *, argument: str, card: str, path: str = "") -> Path:
    """Where a file or folder that the user brings lies: as the recipe says, or in the data folder under its card.

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


def supplied_arrays(path: Path, names: Sequence[str], *, card: str) -> dict[str, Any]:
    """Arrays by name from a NumPy archive that the user brings.

    Raises:
        InputError: it is no archive, is damaged, or lacks some of them.
    """
    import numpy as np

    with reading(path, "no NumPy archive", f"See the data card {card}"), path.open("rb") as file:
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.ndarray):
            raise InputError(f"{path}: it holds one array, expected an archive of several. See the data card {card}")
        arrays = {name: found[name] for name in names if name in found}
    absent = [name for name in names if name not in arrays]
    if absent:
        raise InputError(f"{path}: it has no {', '.join(absent)}. See the data card {card}")
    return arrays


def _cards_folder() -> Path:
    return Path(str(files("helixwave_data_cards")))
