"""FASTA files: plain, gzip or BGZF, read from front to back or by position.

Going through the records touches nothing on the disk. The first `fetch` looks for the samtools index (`.fai`, and
`.gzi` for BGZF) beside the file, and writes it there if it is missing or older than the file; where the folder cannot
be written to, it goes to the cache. What cannot be read by position as it is (plain gzip, lines of differing length)
gets a plain copy in the cache, once. `HELIXWAVE_CACHE` moves the cache.
"""

import gzip
import hashlib
import importlib.util
import os
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from helixwave.errors import InputError, nearest
from helixwave.files import atomic_write

from helixwave_domains.genomics.alphabet import check_letters

if TYPE_CHECKING:
    import pyfaidx

_LISTED = 12
# what zlib, Biopython and pyfaidx raise for a broken block
_DAMAGE = (zlib.error, struct.error, EOFError, RuntimeError, LookupError, ValueError)
_WIDTH = 70
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_OTHER_COMPRESSIONS = {b"BZh": "bzip2", b"PK\x03\x04": "zip", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_OTHER_FORMATS = {
    b"@": "a FASTQ?",
    b"LOCUS": "a GenBank file?",
    b"ID   ": "an EMBL file?",
    b"##gff": "a GFF file?",
    b"##fileformat=VCF": "a VCF file?",
    b";": "a FASTA with old-style comments? Delete the comment lines.",
}


@dataclass(frozen=True)
class Record:
    """One sequence: `>name description` and its letters in upper case."""

    name: str
    description: str
    sequence: str


@dataclass(frozen=True)
class _Entry:
    """A line of the samtools index: where a record's sequence lies in the file."""

    length: int
    offset: int
    line_bases: int
    line_width: int


class FastaFile:
    """A checked FASTA file; made by `read_fasta`. Safe to hand to worker processes."""

    def __init__(self, path: Path, entries: dict[str, _Entry], seekable: bool):
        self.path = path
        self.lengths = {name: entry.length for name, entry in entries.items()}
        self._entries = entries
        self._seekable = seekable
        self._version = _version(path)
        self._opened: tuple[int, pyfaidx.Faidx] | None = None

    @property
    def names(self) -> list[str]:
        """The records' names in the order of the file."""
        return list(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __contains__(self, name: object) -> bool:
        return name in self.lengths

    def __iter__(self) -> Iterator[Record]:
        for header, lines in _raw_records(self.path):
            name, description = _name_and_description(header)
            letters = b"".join(line.rstrip() for line in lines)
            check_letters(letters, f"{self.path}: {name}")
            yield Record(name, description, letters.decode("ascii").upper())

    def fetch(self, name: str, start: int = 0, end: int | None = None, *, upper: bool = True) -> str:
        """Letters `start:end` of a record, 0-based and half-open as in Python and BED.

        Args:
            name: the record's name, which is the first word of its header.
            start: the first position.
            end: one past the last position; the record's end if None.
            upper: give soft-masked letters in upper case.
        """
        end = self._checked_end(name, start, end)
        if start == end:
            return ""
        reader = self._reader()
        try:
            letters = str(reader.fetch(name, start + 1, end))
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path}: {name}:{start}-{end} holds bytes that are no letters.") from error
        except _DAMAGE as error:
            raise InputError(f"{self.path}: damaged at {name}:{start}-{end} ({error}). Copy it again.") from error
        if len(letters) != end - start:
            raise InputError(
                f"{self.path}: ends before {name}:{start}-{end}. Delete its .fai and .gzi, or copy it again."
            )
        check_letters(letters, f"{self.path}: {name}", offset=start)
        return letters.upper() if upper else letters

    def close(self) -> None:
        """Close the file; the next `fetch` opens it again."""
        if self._opened is not None:
            self._opened[1].close()
        self._opened = None

    def __enter__(self) -> "FastaFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def _checked_end(self, name: str, start: int, end: int | None) -> int:
        if name not in self.lengths:
            raise InputError(f"{self.path}: no record named {name!r}. {hint_for_record(name, self.names)}")
        length = self.lengths[name]
        end = length if end is None else end
        if not 0 <= start <= end <= length:
            raise InputError(
                f"{self.path}: {name}:{start}-{end} is no range of this record: expected "
                f"0 <= start <= end <= {length}, its length. Is this the right assembly?"
            )
        return end

    def _reader(self) -> "pyfaidx.Faidx":
        # a file handle shared with a forked worker would mix up the two processes' positions
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), self._open())
        return self._opened[1]

    def _open(self) -> "pyfaidx.Faidx":
        import pyfaidx

        path, entries = self.path, self._entries
        if _version(path) != self._version:
            raise InputError(f"{path}: changed since it was opened. Run again.")
        if not self._seekable:
            path = _plain_copy(path, self.lengths)
            entries = _stored_index(path) or _scan(path)[0]
        return pyfaidx.Faidx(
            str(path),
            indexname=str(_index_file(path, entries)),
            gzi_indexname=str(_block_index_file(path)) if _is_bgzf(path) else None,
            as_raw=True,
            rebuild=False,
            build_index=False,
        )


def read_fasta(path: Path | str) -> FastaFile:
    """Open a FASTA file (plain, gzip or BGZF) and check its structure; letters are checked as they are read.

    Raises:
        InputError: the file is not there, empty, damaged or no FASTA, or a record has no name, no sequence or the name
            of another.
    """
    path = existing_file(path, "FASTA file")
    _refuse_other_formats(path)
    seekable = _pyfaidx_reads(path)
    stored = _stored_index(path) if seekable else None
    if stored is not None:
        return FastaFile(path, stored, seekable=True)
    entries, regular = _scan(path)
    return FastaFile(path, entries, seekable and regular)


def write_fasta(path: Path | str, sequences: Iterable[tuple[str, str]], *, width: int = _WIDTH) -> None:
    """Write `(name, letters)` as a FASTA with lines of `width` letters."""
    with atomic_write(path) as stream:
        for name, letters in sequences:
            stream.write(f">{name}\n")
            stream.writelines(letters[i : i + width] + "\n" for i in range(0, len(letters), width))


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
    if _is_bgzf(path):
        _refuse_cut_off_bgzf(path)
    return path


@contextmanager
def open_binary(path: Path) -> Iterator[BinaryIO]:
    """Open a plain, gzip or BGZF file for reading; a damaged gzip is the user's to put right."""
    opener: Callable[..., Any] = gzip.open if _is_gzip(path) else open
    try:
        with opener(path, "rb") as stream:
            yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: damaged or cut-off gzip ({error}). Copy or download it again.") from error


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a text file, plain or gzip, without their ends, in UTF-8 or Windows-1252."""
    with open_binary(path) as stream:
        for number, line in enumerate(stream):
            # spreadsheets put a byte order mark at the start
            yield text(line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line).rstrip("\r\n")


def text(line: bytes) -> str:
    """Bytes as UTF-8, or else as Windows-1252."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


def hint(name: str, known: Iterable[str]) -> str:
    """`nearest`, kept to one line where thousands of names are known."""
    names = list(known)
    if len(names) <= _LISTED:
        return nearest(name, names)
    likely = sorted(names, key=lambda other: _likeness(name, other), reverse=True)[:_LISTED]
    return f"{nearest(name, likely).removesuffix('.')} and {len(names) - _LISTED} more."


def hint_for_record(name: str, known: Iterable[str]) -> str:
    """What to say when a FASTA has no such record: `The file says 'chr1' where you say '1'.`, or the nearest name."""
    names = list(known)
    for other in _other_conventions(name):
        if other in names:
            return f"The file says {other!r} where you say {name!r}: use the same names in both."
    return hint(name, names)


def _other_conventions(name: str) -> list[str]:
    short = name.removeprefix("chr")
    mitochondrion = {"M": ["MT", "chrMT"], "MT": ["M", "chrM"]}.get(short, [])
    return [f"chr{name}", short, *mitochondrion] if short != name else [f"chr{name}", *mitochondrion]


def _likeness(name: str, other: str) -> tuple[int, int]:
    # a common beginning is cheap enough to look for among a hundred thousand scaffolds
    pairs = zip(name.lower(), other.lower(), strict=False)
    shared = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(name), len(other)))
    return shared, -abs(len(name) - len(other))


def _near_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f"The folder {path.parent} does not exist either."
    names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    return hint(path.name, names) if names else "Its folder is empty."


def _first_bytes(path: Path, count: int = 32) -> bytes:
    with path.open("rb") as stream:
        return stream.read(count)


def _is_gzip(path: Path) -> bool:
    return _first_bytes(path, 3) == b"\x1f\x8b\x08"


def _is_bgzf(path: Path) -> bool:
    start = _first_bytes(path, 18)
    return _is_gzip(path) and len(start) == 18 and bool(start[3] & 4) and start[12:14] == b"BC"


def _refuse_cut_off_bgzf(path: Path) -> None:
    with path.open("rb") as stream:
        stream.seek(-min(len(_BGZF_END), path.stat().st_size), os.SEEK_END)
        if stream.read() != _BGZF_END:
            raise InputError(f"{path}: cut-off BGZF, its end block is missing. Copy or download it again.")


def _refuse_other_formats(path: Path) -> None:
    with open_binary(path) as stream:
        start = stream.read(2**16).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b">"):
        return
    if not start:
        raise InputError(f"{path}: holds nothing but white space, expected a FASTA file.")
    raise InputError(f"{path}: not a FASTA, which starts with '>name'. {_looks_like(start)}")


def _looks_like(start: bytes) -> str:
    if b"\0" in start:
        return "This is a binary file."
    first = text(start.splitlines()[0][:30])
    for beginning, guess in _OTHER_FORMATS.items():
        if start.startswith(beginning):
            return f"It starts with {first!r}: {guess}"
    return f"It starts with {first!r}. Is the header line missing?"


def _pyfaidx_reads(path: Path) -> bool:
    # pyfaidx goes by the ending of the name, and needs Biopython for BGZF
    named_gzip = path.name.lower().endswith((".gz", ".bgz"))
    if _is_bgzf(path):
        return named_gzip and importlib.util.find_spec("Bio") is not None
    return not _is_gzip(path) and not path.name.lower().endswith((".gz", ".bgz", ".bz2", ".zip"))


def _name_and_description(header: bytes) -> tuple[str, str]:
    name, *description = header[1:].strip().split(maxsplit=1)
    return text(name), text(b" ".join(description))


def _raw_records(path: Path) -> Iterator[tuple[bytes, list[bytes]]]:
    header = b""
    lines: list[bytes] = []
    with open_binary(path) as stream:
        for line in stream:
            if line.startswith(b">"):
                if header:
                    yield header, lines
                header, lines = line, []
            elif header:
                lines.append(line)
            else:
                # a byte order mark, or blank lines above the first record
                header = line[line.find(b">") :] if b">" in line else b""
        yield header, lines


class _Layout:
    """The line lengths of one record while its lines go by."""

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

    def entry(self) -> _Entry:
        return _Entry(self.length, self.offset, self.line_bases, self.line_width)


def _scan(path: Path) -> tuple[dict[str, _Entry], bool]:
    """Read the whole file once: where its records lie, and whether they can be reached by position."""
    layouts: dict[str, _Layout] = {}
    regular, offset, layout = True, 0, None
    with open_binary(path) as stream:
        for number, line in enumerate(stream, start=1):
            offset += len(line)
            if line.startswith((b">", b"\xef\xbb\xbf>")):
                _refuse_empty(path, layouts)
                name, plain_text = _checked_name(path, number, line, layouts)
                regular &= plain_text
                layout = layouts[name] = _Layout(offset)
            elif layout is not None:
                layout.add(line)
    _refuse_empty(path, layouts)
    regular &= all(layout.regular for layout in layouts.values())
    return {name: layout.entry() for name, layout in layouts.items()}, regular


def _checked_name(path: Path, number: int, header: bytes, known: dict[str, _Layout]) -> tuple[str, bool]:
    """The name in a header line, and whether pyfaidx could read it from an index."""
    if b"\r" in header.rstrip():
        raise InputError(f"{path}: line {number} has old Macintosh line ends. Convert them: `tr '\\r' '\\n'`.")
    words = header.removeprefix(b"\xef\xbb\xbf")[1:].split(maxsplit=1)
    if not words:
        raise InputError(f"{path}: line {number} is a record without a name. Write '>name' there.")
    name = text(words[0])
    if name in known:
        raise InputError(f"{path}: line {number} names a second record {name!r}. Rename or remove one of them.")
    return name, name.encode("utf-8") == words[0]


def _refuse_empty(path: Path, layouts: dict[str, _Layout]) -> None:
    name = next(reversed(layouts), None)
    if name is not None and layouts[name].length == 0:
        raise InputError(f"{path}: record {name!r} has no sequence. Remove it, or check the lines below its header.")


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _stored_index(path: Path) -> dict[str, _Entry] | None:
    """The index of a file if one is there, no older than the file, and fits it."""
    for place in _places(path, ".fai"):
        entries = _load_index(path, place)
        if entries is not None:
            return entries
    return None


def _load_index(path: Path, index: Path) -> dict[str, _Entry] | None:
    if not _is_fresh(path, index):
        return None
    entries = {}
    try:
        for line in index.read_text("utf-8").splitlines():
            name, *numbers = line.split("\t")
            entry = _Entry(*map(int, numbers))
            if name in entries or entry.length < 1 or entry.line_bases < 1:
                return None
            entries[name] = entry
    except (ValueError, TypeError, OSError):
        return None
    return entries if entries and _fits(path, entries) else None


def _fits(path: Path, entries: dict[str, _Entry]) -> bool:
    """Whether an index begins and ends where its file does: another, older file may have taken the place of the first.

    Where BGZF ends is not looked into, as that would mean to decompress it all.
    """
    in_order = sorted(entries.items(), key=lambda item: item[1].offset)
    (name, first), (_, last) = in_order[0], in_order[-1]
    with open_binary(path) as stream:
        header = stream.read(min(first.offset, 2**16)).removeprefix(b"\xef\xbb\xbf").strip()
    return header[1:].split()[:1] == [name.encode()] and (_is_bgzf(path) or _ends_with(path, last))


def _ends_with(path: Path, last: _Entry) -> bool:
    lines, rest = divmod(last.length, last.line_bases)
    end = last.offset + lines * last.line_width + rest
    with path.open("rb") as stream:
        # the last line may lack its end, of two bytes at most
        stream.seek(max(0, end - 2))
        tail = stream.read(2**12)
    return len(tail) >= 1 and not tail[2:].strip()


def _index_file(path: Path, entries: dict[str, _Entry]) -> Path:
    lines = (
        f"{name}\t{entry.length}\t{entry.offset}\t{entry.line_bases}\t{entry.line_width}\n"
        for name, entry in entries.items()
    )
    return _stored_or_written(
        path, ".fai", lambda place: _load_index(path, place) is not None, lambda: "".join(lines).encode("utf-8")
    )


def _block_index_file(path: Path) -> Path:
    return _stored_or_written(path, ".gzi", lambda place: _is_fresh(path, place), lambda: _block_index(path))


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


def _stored_or_written(path: Path, suffix: str, usable: Callable[[Path], bool], content: Callable[[], bytes]) -> Path:
    places = _places(path, suffix)
    for place in places:
        if usable(place):
            return place
    beside, cached = places
    data = content()
    if os.access(beside.parent, os.W_OK):
        try:
            return _write_index(path, beside, data)
        except (OSError, InputError):
            # such as a full disk or a share that only pretends to be writable: the cache may be elsewhere
            pass
    return _write_index(path, cached, data)


def _write_index(path: Path, place: Path, data: bytes) -> Path:
    with atomic_write(place, "wb") as stream:
        stream.write(data)
    # a file dated in the future must not make its index look old for ever
    date = max(time.time_ns(), path.stat().st_mtime_ns)
    os.utime(place, ns=(date, date))
    return place


def _is_fresh(path: Path, index: Path) -> bool:
    return index.is_file() and index.stat().st_mtime_ns >= path.stat().st_mtime_ns


def cache_folder() -> Path:
    """Where indices and plain copies go that cannot lie beside their file: `HELIXWAVE_CACHE`, or the user's cache."""
    import pooch

    return Path(os.environ.get("HELIXWAVE_CACHE") or pooch.os_cache("helixwave")) / "fasta"


def _places(path: Path, suffix: str) -> tuple[Path, Path]:
    return Path(f"{path}{suffix}"), _cached(path, suffix)


def _cached(path: Path, suffix: str) -> Path:
    """A place in the cache for this very content: another size or date makes another place."""
    size, date = _version(path)
    identity = f"{path.resolve()}|{size}|{date}"
    key = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return cache_folder() / f"{key}-{path.name[-60:]}{suffix}"


def _plain_copy(path: Path, lengths: dict[str, int]) -> Path:
    """A plain FASTA with even lines in the cache, written once."""
    copy = _cached(path, ".fa")
    if copy.exists():
        return copy
    _refuse_full_disk(path, copy.parent, lengths)
    write_fasta(copy, _names_and_letters(path))
    return copy


def _names_and_letters(path: Path) -> Iterator[tuple[str, str]]:
    for header, lines in _raw_records(path):
        letters = b"".join(line.rstrip() for line in lines)
        yield _name_and_description(header)[0], letters.decode("ascii", "replace")


def _refuse_full_disk(path: Path, folder: Path, lengths: dict[str, int]) -> None:
    needed = sum(len(name.encode()) + 3 + length + length // _WIDTH for name, length in lengths.items())
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{path}: reading it by position needs a plain copy of {needed / 2**20:.0f} MiB in {folder}, where "
            f"{free / 2**20:.0f} MiB are free. Compress it with bgzip instead, or set HELIXWAVE_CACHE to another disk."
        )
