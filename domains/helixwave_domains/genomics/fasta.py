"""FASTA files: plain, gzip or BGZF, read from front to back or by position.

Going through the records touches nothing on the disk. The first `fetch` looks for the index (see `fasta_index`) and
writes it if there is none. What cannot be read by position as it is (plain gzip, lines of differing length) gets a
plain copy in the cache, once. `HELIXWAVE_CACHE` moves the cache.
"""

import importlib.util
import os
import shutil
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helixwave.errors import InputError
from helixwave.files import atomic_write

from helixwave_domains.genomics.alphabet import check_letters
from helixwave_domains.genomics.fasta_index import (
    IndexEntry,
    block_index_file,
    cached_place,
    index_file,
    scan,
    stored_index,
    version,
)
from helixwave_domains.genomics.sources import (
    BYTE_ORDER_MARK,
    existing_file,
    hint_for_record,
    is_bgzf,
    is_gzip,
    open_binary,
    text,
)

if TYPE_CHECKING:
    import pyfaidx

# what zlib, Biopython and pyfaidx raise for a broken block
_DAMAGE = (zlib.error, struct.error, EOFError, RuntimeError, LookupError, ValueError)
_WIDTH = 70
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


class FastaFile:
    """A checked FASTA file; made by `read_fasta`. Safe to hand to worker processes."""

    def __init__(self, path: Path, entries: dict[str, IndexEntry], seekable: bool):
        self.path = path
        self.lengths = {name: entry.length for name, entry in entries.items()}
        self._entries = entries
        self._seekable = seekable
        self._version = version(path)
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
        return read_records(self.path)

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
        if version(path) != self._version:
            raise InputError(f"{path}: changed since it was opened. Run again.")
        if not self._seekable:
            path = _plain_copy(path, self.lengths)
            entries = stored_index(path) or scan(path)[0]
        return pyfaidx.Faidx(
            str(path),
            indexname=str(index_file(path, entries)),
            gzi_indexname=str(block_index_file(path)) if is_bgzf(path) else None,
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
    stored = stored_index(path) if seekable else None
    if stored is not None:
        return FastaFile(path, stored, seekable=True)
    entries, regular = scan(path)
    return FastaFile(path, entries, seekable and regular)


def read_records(path: Path | str) -> Iterator[Record]:
    """The records of a FASTA from front to back, checked as they come; unlike in a `FastaFile`, names may repeat.

    Raises:
        InputError: the file is not there, empty, damaged or no FASTA, or a record has no name, no sequence or a letter
            that is none of DNA's.
    """
    path = existing_file(path, "FASTA file")
    _refuse_other_formats(path)
    for number, (name, description, letters) in enumerate(_raw_records(path), start=1):
        if not name:
            raise InputError(f"{path}: record {number} has no name. Write '>name' there.")
        if not letters:
            raise InputError(
                f"{path}: record {number}, {name!r}, has no sequence. Remove it, or check the lines below."
            )
        check_letters(letters, f"{path}: {name}")
        yield Record(name, description, letters.decode("ascii").upper())


def write_fasta(path: Path | str, sequences: Iterable[tuple[str, str]], *, width: int = _WIDTH) -> None:
    """Write `(name, letters)` as a FASTA with lines of `width` letters."""
    with atomic_write(path) as stream:
        for name, letters in sequences:
            stream.write(f">{name}\n")
            stream.writelines(letters[i : i + width] + "\n" for i in range(0, len(letters), width))


def _refuse_other_formats(path: Path) -> None:
    with open_binary(path) as stream:
        start = stream.read(2**16).removeprefix(BYTE_ORDER_MARK).lstrip()
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
    name = path.name.lower()
    if is_bgzf(path):
        return name.endswith((".gz", ".bgz")) and importlib.util.find_spec("Bio") is not None
    return not is_gzip(path) and not name.endswith((".gz", ".bgz", ".bz2", ".zip"))


def _raw_records(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Name, description and letters of each record, the letters unchecked and in the case they have."""
    header = b""
    lines: list[bytes] = []
    with open_binary(path) as stream:
        for line in stream:
            if line.startswith(b">"):
                if header:
                    yield *_name_and_description(header), b"".join(lines)
                header, lines = line, []
            elif header:
                lines.append(line.rstrip())
            else:
                # a byte order mark, or blank lines above the first record
                _, sign, rest = line.partition(b">")
                header = sign + rest
        yield *_name_and_description(header), b"".join(lines)


def _name_and_description(header: bytes) -> tuple[str, str]:
    name, *description = header[1:].strip().split(maxsplit=1) or [b""]
    return text(name), text(b" ".join(description))


def _plain_copy(path: Path, lengths: dict[str, int]) -> Path:
    """A plain FASTA with even lines in the cache, written once."""
    copy = cached_place(path, ".fa")
    if not copy.exists():
        _refuse_full_disk(path, copy.parent, lengths)
        write_fasta(copy, ((name, letters.decode("ascii", "replace")) for name, _, letters in _raw_records(path)))
    return copy


def _refuse_full_disk(path: Path, folder: Path, lengths: dict[str, int]) -> None:
    needed = sum(len(name.encode()) + 3 + length + length // _WIDTH for name, length in lengths.items())
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{path}: reading it by position needs a plain copy of {needed / 2**20:.0f} MiB in {folder}, where "
            f"{free / 2**20:.0f} MiB are free. Compress it with bgzip instead, or set HELIXWAVE_CACHE to another disk."
        )
