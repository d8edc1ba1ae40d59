"""ECG files of every kind, read as recordings. A format is a line in the entry points `helixwave.ecg_formats`."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from helixwave.errors import InputError
from helixwave.registry import Registry

from helixwave_domains.ecg.formats.channels import Declared, Format, WritableFormat
from helixwave_domains.ecg.formats.wfdb_header import files_of, header_of
from helixwave_domains.ecg.recording import Recording

__all__ = ["ECG_FORMATS", "Declared", "Format", "Found", "find_recordings", "format_of", "read_recording", "writers"]

ECG_FORMATS = Registry("ecg format")
# a root element may stand behind comments, but not behind more than that
_HEAD = 8192


@dataclass(frozen=True)
class Found:
    """What `find_recordings` found.

    Args:
        paths: of recordings, each once and in order.
        skipped: files in folders that no format knows.
    """

    paths: list[Path]
    skipped: list[Path]


def read_recording(path: Path | str, declared: Declared = Declared()) -> Recording:  # noqa: B008
    """The recording in a file of any registered format, found by what is in it.

    Args:
        path: a file, or a WFDB record without an ending.
        declared: units, rate and leads that the file does not say, or says wrongly.

    Raises:
        InputError: no format knows it, it is damaged, or it needs something declared.
    """
    path = _named(Path(path))
    return format_of(path).read(path, declared)


def format_of(path: Path) -> Format:
    """The registered format of a file.

    Raises:
        InputError: there is none.
    """
    head, formats = _head(path), _formats()
    found = _recognised(path, head, formats)
    if found is None:
        what = f"begins with {head[:16]!r}" if head else "is empty"
        known = ", ".join(known.name for known in formats)
        raise InputError(f"{path}: no ECG format knows it, it {what}. Known: {known}")
    return found


def writers() -> dict[str, Callable[[Recording, Path], list[str]]]:
    """What writes files by how these end: `.edf`."""
    formats = (known for known in _formats() if isinstance(known, WritableFormat))
    return {suffix: known.write for known in formats for suffix in known.written}


def find_recordings(paths: Iterable[Path | str]) -> Found:
    """The recordings in files, folders (with all folders below, hidden ones apart) and patterns such as `ecg/*.edf`.

    A WFDB record is one recording, whichever of its files are named. Files that are named count whatever they hold.

    Raises:
        InputError: a file is not there, a pattern fits none, or a folder has no ECG.
    """
    found: list[Path] = []
    skipped: list[Path] = []
    for text in paths:
        named = [Path(text)] if _exists(Path(text)) else sorted(map(Path, glob.glob(str(text), recursive=True)))
        if not named:
            raise InputError(f"{text}: no such file or folder")
        for path in named:
            if path.is_dir():
                inside, others = _inside(path)
                found.extend(inside)
                skipped += others
            else:
                found.append(header_of(_named(path)))
    return Found(list(dict.fromkeys(found)), skipped)


def _inside(folder: Path) -> tuple[list[Path], list[Path]]:
    """The recordings in a folder and the files that are none."""
    files = list(_files(folder))
    headers = [path for path in files if path.suffix == ".hea" and path.is_file()]
    # signal files and segments belong to the header that names them
    parts = {part for header in headers for part in files_of(header)}
    alone = [path for path in files if path not in parts and header_of(path) == path]
    formats = _formats()
    # a link may lead nowhere
    known = [path for path in alone if path.is_file() and _recognised(path, _head(path), formats)]
    if not known:
        raise InputError(f"{folder}: none of its {len(files)} files is an ECG")
    return known, sorted(set(alone) - set(known))


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place) / name for name in sorted(names) if not name.startswith("."))


def _formats() -> list[Format]:
    return [ECG_FORMATS[name]() for name in ECG_FORMATS]


def _recognised(path: Path, head: bytes, formats: list[Format]) -> Format | None:
    return next((known for known in formats if known.recognises(path, head)), None)


def _exists(path: Path) -> bool:
    return path.exists() or header_of(path) != path


def _named(path: Path) -> Path:
    """The file itself, or the header of a record that is named without an ending."""
    return path if path.exists() else header_of(path)


def _head(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(f"{path}: a folder, expected a file")
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
