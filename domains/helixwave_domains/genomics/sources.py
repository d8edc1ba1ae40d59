"""Opening the files that people have, plain, gzip or BGZF, and what to say when a file or a name is not there."""

import gzip
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from helixwave.errors import InputError, nearest

# spreadsheets and some editors put it at the start of a file
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_GZIP = b"\x1f\x8b\x08"
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_OTHER_COMPRESSIONS = {b"BZh": "bzip2", b"PK\x03\x04": "zip", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_LISTED = 12


def existing_file(path: Path | str, what: str) -> Path:
    """The path, if a readable, non-empty file is there.

    Raises:
        InputError: it is missing, a folder, empty, unreadable, or compressed in a way that is not supported.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise InputError(f"{path}: this is a folder, expected a {what}. Name a file inside it.")
    if not path.exists():
        raise InputError(f"{path}: no such {what}. {_near_file(path)}")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the {what} is empty. Was it copied or downloaded completely?")
    try:
        start = _first_bytes(path)
    except PermissionError as error:
        raise InputError(f"{path}: no permission to read this {what}.") from error
    for magic, compression in _OTHER_COMPRESSIONS.items():
        if start.startswith(magic):
            raise InputError(f"{path}: compressed with {compression}. Decompress it, or compress it with bgzip.")
    if is_bgzf(path):
        _refuse_cut_off_bgzf(path)
    return path


@contextmanager
def open_binary(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a plain, gzip or BGZF file for reading; a damaged gzip is the user's to put right."""
    try:
        with gzip.open(path) if is_gzip(path) else path.open("rb") as stream:
            yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: damaged or cut-off gzip ({error}). Copy or download it again.") from error


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a text file, plain or gzip, without their ends, in UTF-8 or Windows-1252."""
    with open_binary(path) as stream:
        for number, line in enumerate(stream):
            yield text(line.removeprefix(BYTE_ORDER_MARK) if number == 0 else line).rstrip("\r\n")


def text(line: bytes) -> str:
    """Bytes as UTF-8, or else as Windows-1252."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


def is_gzip(path: Path) -> bool:
    """Whether a file is gzip, of which BGZF is a kind."""
    return _first_bytes(path).startswith(_GZIP)


def is_bgzf(path: Path) -> bool:
    """Whether a file is gzip in blocks as bgzip writes them, which can be read from the middle."""
    start = _first_bytes(path)
    return start.startswith(_GZIP) and start[12:14] == b"BC" and bool(start[3] & 4)


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(32)


def _refuse_cut_off_bgzf(path: Path) -> None:
    with path.open("rb") as stream:
        stream.seek(-min(len(_BGZF_END), path.stat().st_size), os.SEEK_END)
        if stream.read() != _BGZF_END:
            raise InputError(f"{path}: cut-off BGZF, its end block is missing. Copy or download it again.")


def _near_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f"The folder {path.parent} does not exist either."
    names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    return hint(path.name, names) if names else "Its folder is empty."


def hint(name: str, known: Iterable[str]) -> str:
    """`nearest`, kept to one line where thousands of names are known."""
    names = list(known)
    if len(names) <= _LISTED:
        return nearest(name, names)
    likely = sorted(names, key=lambda other: _likeness(name, other), reverse=True)[:_LISTED]
    return f"{nearest(name, likely).removesuffix('.')} and {len(names) - _LISTED} more."


def _likeness(name: str, other: str) -> tuple[int, int]:
    # a common beginning is cheap enough to look for among a hundred thousand scaffolds
    pairs = zip(name.lower(), other.lower(), strict=False)
    shared = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(name), len(other)))
    return shared, -abs(len(name) - len(other))


def hint_for_record(name: str, known: Iterable[str]) -> str:
    """What to say when a FASTA has no such record: `The file says 'chr1' where you say '1'.`, or the nearest name."""
    names = list(known)
    for other in other_spellings(name):
        if other in names:
            return f"The file says {other!r} where you say {name!r}: use the same names in both."
    return hint(name, names)


def other_spellings(name: str) -> list[str]:
    """Other names of the same chromosome: with `chr`, `Chr` or neither; `M` and `MT` are both the mitochondrion."""
    short = name[3:] if name[:3].lower() == "chr" else name
    shorts = ["M", "MT"] if short in ("M", "MT") else [short]
    spellings = (prefix + other for other in shorts for prefix in ("chr", "", "Chr"))
    return [spelling for spelling in spellings if spelling not in ("", name)]
