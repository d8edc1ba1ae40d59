"""The text of a CSV file: its encoding, its separator, its header, and on which line a row stands."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from helixwave.errors import InputError


@dataclass(frozen=True)
class CsvText:
    """Rows of cells between commas, semicolons or tabs, below a header.

    Args:
        path: of the file, for messages.
        data: its text, no longer compressed.
        encoding: of the text.
        notes: what was assumed about it.
    """

    path: Path
    data: bytes
    encoding: str
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path, data: bytes) -> "CsvText":
        """The text in the bytes of a file: plain or gzip; UTF-8, else Latin-1.

        Raises:
            InputError: they are no text, damaged, or empty.
        """
        if data.startswith(b"\x1f\x8b"):
            try:
                data = gzip.decompress(data)
            except (OSError, EOFError, zlib.error) as error:
                raise InputError(f"{path}: damaged gzip file ({error}). Copy it again") from error
        if b"\0" in data[:4096] or data.startswith(b"PK"):
            raise InputError(f"{path}: is no text in UTF-8 and no Parquet. Save it as CSV in UTF-8")
        if not data.strip():
            raise InputError(f"{path}: is empty. Expected a header and a row for each step")
        try:
            data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            return cls(path, data, "latin-1", (f"line {line} is not UTF-8: the file was read as Latin-1",))
        return cls(path, data, "utf-8-sig")

    @cached_property
    def separator(self) -> str:
        """The one that is most often in the first line."""
        first = self.data.lstrip().partition(b"\n")[0].decode(self.encoding)
        return max(",;\t", key=first.count)

    @cached_property
    def header(self) -> list[str]:
        """Names of the columns.

        Raises:
            InputError: a name is there twice.
        """
        names = [name.strip() for name in next(self._rows())[1]]
        if doubled := [name for name in names if names.count(name) > 1]:
            raise InputError(f"{self.path}: the header has {doubled[0]!r} twice. Expected each name once")
        return names

    def line(self, row: int) -> int:
        """On which line of the file a row below the header ends."""
        return next(line for number, (line, _) in enumerate(self._rows()) if number == row + 1)

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Lines and cells, blank lines left out; a cell in quotes may hold line ends."""
        stream = io.TextIOWrapper(io.BytesIO(self.data), self.encoding, newline="")
        reader = csv.reader(stream, delimiter=self.separator)
        return ((reader.line_num, cells) for cells in reader if len(cells) > 1 or "".join(cells).strip())
