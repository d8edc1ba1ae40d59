"""Where the records of a FASTA lie: the samtools index (`.fai`, and `.gzi` for BGZF), read, checked, made and stored.

An index is looked for beside its file and in the cache. It is believed if it is no older than the file and fits it. A
new one is written beside the file or, where that cannot be done, to the cache, which `HELIXWAVE_CACHE` moves.
"""

import hashlib
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from helixwave.errors import InputError
from helixwave.files import atomic_write, cache_folder

from helixwave_domains.genomics.sources import BYTE_ORDER_MARK, is_bgzf, open_binary, text


@dataclass(frozen=True)
class IndexEntry:
    """A line of the `.fai`: where a record's sequence lies in the file.

    Args:
        length: its letters.
        offset: the bytes before its first letter.
        line_bases: letters in each line but the last.
        line_width: bytes in each line but the last, the line's end included.
    """

    length: int
    offset: int
    line_bases: int
    line_width: int


class _Layout:
    """The line lengths of one record while its lines go by; `regular` if positions can be worked out from them."""

    def __init__(self, offset: int):
        self.offset = offset
        self.length = self.line_bases = self.line_width = 0
        self.ended = False
        self.regular = True

    def add(self, line: bytes) -> None:
        bases = len(line.rstrip())
        if self.ended and bases:
            self.regular = False
        if not self.line_width:
            self.line_bases, self.line_width = bases, len(line)
            self.ended = bases == 0
            self.regular = len(line) - bases <= 2
        elif bases != self.line_bases or len(line) != self.line_width:
            self.regular &= bases <= self.line_bases
            self.ended = True
        self.length += bases

    def entry(self) -> IndexEntry:
        return IndexEntry(self.length, self.offset, self.line_bases, self.line_width)


def scan(path: Path) -> tuple[dict[str, IndexEntry], bool]:
    """Read the whole file once: where its records lie, and whether they can be reached by position.

    Raises:
        InputError: a record has no name, no sequence or the name of another.
    """
    layouts: dict[str, _Layout] = {}
    offset, readable_names = 0, True
    with open_binary(path) as stream:
        for number, line in enumerate(stream, start=1):
            offset += len(line)
            if line.startswith((b">", BYTE_ORDER_MARK + b">")):
                name, is_utf8 = _name(f"{path}: line {number}", line.removeprefix(BYTE_ORDER_MARK))
                if name in layouts:
                    raise InputError(
                        f"{path}: line {number} names a second record {name!r}. Rename or remove one of them."
                    )
                readable_names &= is_utf8
                layout = layouts[name] = _Layout(offset)
            elif layouts:
                layout.add(line)
    for name, layout in layouts.items():
        if layout.length == 0:
            raise InputError(
                f"{path}: record {name!r} has no sequence. Remove it, or check the lines below its header."
            )
    entries = {name: layout.entry() for name, layout in layouts.items()}
    return entries, readable_names and all(layout.regular for layout in layouts.values())


def _name(place: str, header: bytes) -> tuple[str, bool]:
    """The name in a header line, and whether it is UTF-8, which pyfaidx needs."""
    if b"\r" in header.rstrip():
        raise InputError(f"{place} has old Macintosh line ends. Convert them: `tr '\\r' '\\n'`.")
    words = header[1:].split(maxsplit=1)
    if not words:
        raise InputError(f"{place} is a record without a name. Write '>name' there.")
    name = text(words[0])
    return name, name.encode("utf-8") == words[0]


def stored_index(path: Path) -> dict[str, IndexEntry] | None:
    """The index of a file if one is there, no older than the file, and fits it."""
    for place in _places(path, ".fai"):
        entries = _load_index(path, place)
        if entries is not None:
            return entries
    return None


def index_file(path: Path, entries: dict[str, IndexEntry]) -> Path:
    """The `.fai` of a file; written with `entries` if there is none to believe."""
    for place in _places(path, ".fai"):
        if _load_index(path, place) is not None:
            return place
    lines = [
        f"{name}\t{entry.length}\t{entry.offset}\t{entry.line_bases}\t{entry.line_width}\n"
        for name, entry in entries.items()
    ]
    return _write(path, ".fai", "".join(lines).encode("utf-8"))


def block_index_file(path: Path) -> Path:
    """The `.gzi` of a BGZF file; written if there is none to believe."""
    for place in _places(path, ".gzi"):
        if _is_fresh(path, place):
            return place
    return _write(path, ".gzi", _block_index(path))


def version(path: Path) -> tuple[int, int]:
    """Size and date of a file, which tell whether it changed."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def cached_place(path: Path, suffix: str) -> Path:
    """A place in the cache for this very content of a file: another size or date makes another place."""
    size, date = version(path)
    identity = f"{path.resolve()}|{size}|{date}"
    key = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return cache_folder() / "fasta" / f"{key}-{path.name[-60:]}{suffix}"


def _places(path: Path, suffix: str) -> tuple[Path, Path]:
    return Path(f"{path}{suffix}"), cached_place(path, suffix)


def _is_fresh(path: Path, index: Path) -> bool:
    return index.is_file() and index.stat().st_mtime_ns >= path.stat().st_mtime_ns


def _load_index(path: Path, index: Path) -> dict[str, IndexEntry] | None:
    if not _is_fresh(path, index):
        return None
    entries = {}
    try:
        for line in index.read_text("utf-8").splitlines():
            name, *numbers = line.split("\t")
            entry = IndexEntry(*map(int, numbers))
            if name in entries or entry.length < 1 or entry.line_bases < 1:
                return None
            entries[name] = entry
    except (ValueError, TypeError, OSError):
        return None
    return entries if entries and _fits(path, entries) else None


def _fits(path: Path, entries: dict[str, IndexEntry]) -> bool:
    """Whether an index begins and ends where its file does: another, older file may have taken the place of the first.

    Where BGZF ends is not looked into, as that would mean to decompress it all.
    """
    in_order = sorted(entries.items(), key=lambda item: item[1].offset)
    (name, first), (_, last) = in_order[0], in_order[-1]
    with open_binary(path) as stream:
        header = stream.read(min(first.offset, 2**16)).removeprefix(BYTE_ORDER_MARK).strip()
    return header[1:].split()[:1] == [name.encode()] and (is_bgzf(path) or _ends_with(path, last))


def _ends_with(path: Path, last: IndexEntry) -> bool:
    lines, rest = divmod(last.length, last.line_bases)
    end = last.offset + lines * last.line_width + rest
    with path.open("rb") as stream:
        # the last line may lack its end, of two bytes at most
        stream.seek(max(0, end - 2))
        tail = stream.read(2**12)
    return len(tail) >= 1 and not tail[2:].strip()


def _block_index(path: Path) -> bytes:
    """The `.gzi` of a BGZF file: where each block but the first begins, in the file and in what it holds."""
    starts, compressed, plain = [], 0, 0
    with path.open("rb") as stream:
        while header := stream.read(18):
            size = struct.unpack("<H", header[16:18])[0] + 1
            stream.seek(compressed + size - 4)
            held = struct.unpack("<I", stream.read(4))[0]
            starts.append((compressed, plain))
            compressed, plain = compressed + size, plain + held
    return struct.pack("<Q", len(starts) - 1) + b"".join(struct.pack("<QQ", *start) for start in starts[1:])


def _write(path: Path, suffix: str, data: bytes) -> Path:
    beside, cached = _places(path, suffix)
    try:
        return _write_at(beside, path, data)
    except (OSError, InputError):
        # a folder of others, a full disk, a share that only pretends to be writable: the cache may be elsewhere
        return _write_at(cached, path, data)


def _write_at(place: Path, path: Path, data: bytes) -> Path:
    with atomic_write(place, "wb") as stream:
        stream.write(data)
    # a file dated in the future must not make its index look old for ever
    date = max(time.time_ns(), path.stat().st_mtime_ns)
    os.utime(place, ns=(date, date))
    return place
