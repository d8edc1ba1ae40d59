"""Tables of results on disk, written block by block: a zarr v3 group that any reader of zarr opens.

A block of rows is one chunk in each of the arrays, and a chunk is a file that is there as a whole or not at all. The
chunk of `status` is written last: with it, a block is done. All chunks carry a checksum. So a table that was being
written when the power went is gone on with, and several processes, on one machine or on many, write one table, each its
own blocks. Tables begun apart from the same inputs become one by copying their files into one folder.

Hidden states of all positions, whose number differs from row to row, stand in one array `[positions, D]` for each
block, in which a row begins at its `offset`.

Only this file and `helixwave.data.windows` import zarr.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from helixwave.errors import InputError
from helixwave.files import atomic_write, disk_errors
from numpy.typing import NDArray

if TYPE_CHECKING:
    import zarr

STATUS = "status"
MANIFEST = "manifest.json"
_FORMAT = 1
_FACTS = "helixwave_table"
# positions in a chunk
_POSITIONS = 2**14


class Column(NamedTuple):
    """An array of a table.

    Args:
        name: of the array.
        dtype: `string` or what numpy calls a number.
        width: of each row, `[N, width]`; None: `[N]`.
    """

    name: str
    dtype: str
    width: int | None = None


class Layout(NamedTuple):
    """What a table looks like.

    Args:
        rows: their number.
        rows_per_block: rows that are computed and written together.
        columns: the arrays, without `status`, which every table has.
        positions: names of groups with hidden states of all positions.
        d_model: of the hidden states.
    """

    rows: int
    rows_per_block: int
    columns: list[Column]
    positions: list[str]
    d_model: int


class Table:
    """A table that is there; `create` makes one.

    Args:
        folder: of the zarr group.

    Raises:
        InputError: there is no table of ours.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        try:
            facts = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))["attributes"][_FACTS]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{folder}: no table of embeddings or scores. Choose another output") from error
        if facts["format"] != _FORMAT:
            raise InputError(f"{folder}: a table of format {facts['format']}, this version reads format {_FORMAT}")
        self.rows, self.rows_per_block = facts["rows"], facts["rows_per_block"]
        self.manifest: dict[str, Any] = facts["manifest"]
        self.positions: list[str] = facts["positions"]
        self.columns: list[str] = facts["columns"]
        zarr = _zarr(folder)
        # what is not stored with an array: without it, a chunk of nothing but zeros or NaN would have no file
        with zarr.config.set({"array.write_empty_chunks": True}):
            self._group = zarr.open_group(folder, mode="r+", zarr_format=3)
            self._arrays: dict[str, Any] = {name: self._group[name] for name in self.columns}

    @property
    def n_block(self) -> int:
        """How many blocks there are."""
        return -(-self.rows // self.rows_per_block)

    def rows_of(self, block: int) -> range:
        """The rows of a block."""
        return range(block * self.rows_per_block, min((block + 1) * self.rows_per_block, self.rows))

    def is_marked(self, block: int) -> bool:
        """Whether a block was done when it was written."""
        return _chunk(self._arrays[STATUS], block).is_file()

    def is_done(self, block: int) -> bool:
        """Whether a block is there with all its checksums."""
        if not self.is_marked(block) or not all(_is_intact(array, block) for array in self._arrays.values()):
            return False
        return all(self._has_positions(name, block) for name in self.positions)

    def write(
        self,
        block: int,
        columns: Mapping[str, Sequence[Any] | NDArray[Any]],
        positions: Mapping[str, Sequence[NDArray[np.float32]]],
    ) -> None:
        """Write a block, whatever an interrupted process has left of it.

        Raises:
            InputError: the disk is full; what is done stays so.
        """
        assert columns.keys() == self._arrays.keys(), f"{[*columns]} are given, {[*self._arrays]} needed"
        rows = self.rows_of(block)
        with _resumable(self.folder):
            for array in [self._arrays[STATUS], *self._arrays.values()]:
                _remove(array, block)
            for name in self.positions:
                self._write_positions(name, block, positions[name])
            for name in [*(name for name in columns if name != STATUS), STATUS]:
                values = columns[name]
                values = values if isinstance(values, np.ndarray) else np.array(values, dtype=object)
                self._arrays[name][rows.start : rows.stop] = values

    def column(self, name: str) -> Iterator[Any]:
        """The values of a column, row by row, of which no more than a block is in memory."""
        for block in range(self.n_block):
            yield from self.values(name, block)

    def values(self, name: str, block: int) -> NDArray[Any]:
        """The values of a column in one block."""
        rows = self.rows_of(block)
        return np.asarray(self._arrays[name][rows.start : rows.stop])

    def positions_of(self, row: int, name: str = "positions") -> NDArray[np.float32]:
        """The hidden states `[T, D]` of a row."""
        prefix = name.removesuffix("positions")
        start, length = (int(self._arrays[prefix + part][row]) for part in ("offset", "length"))
        return np.asarray(self._group[f"{name}/{row // self.rows_per_block}"][start : start + length])

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Write `manifest.json`, which says that all blocks are done; who does it does not matter."""
        with _resumable(self.folder), atomic_write(self.folder / MANIFEST) as stream:
            json.dump({"rows": self.rows, **self.manifest, **facts}, stream, indent=2)
            stream.write("\n")

    def _write_positions(self, name: str, block: int, states: Sequence[NDArray[np.float32]]) -> None:
        length = sum(map(len, states))
        width = self._group[name].attrs["d_model"]
        # apart from its group, which other processes may be looking at
        array = _zarr(self.folder).create_array(
            self.folder / name / str(block),
            shape=(length, width),
            chunks=(_POSITIONS, width),
            zarr_format=3,
            overwrite=True,
            **_settings("float32"),
        )
        if states:
            array[:] = np.concatenate(states)

    def _has_positions(self, name: str, block: int) -> bool:
        try:
            array = self._group[f"{name}/{block}"]
        except (KeyError, ValueError):
            return False
        return all(_is_intact(array, chunk) for chunk in range(-(-array.shape[0] // _POSITIONS)))


def create(folder: Path, layout: Layout, manifest: Mapping[str, Any]) -> bool:
    """Make an empty table; False if another process was quicker, or one is there already.

    Raises:
        InputError: the disk is full, or nothing can be written there.
    """
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir():
        raise InputError(f"{folder}: {above} is a file, expected a folder. Choose another output")
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _write_empty(temporary / folder.name, layout, manifest)
            try:
                os.rename(temporary / folder.name, folder)
            except OSError:
                if not folder.is_dir():
                    raise
                return False
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return True


def remove(folder: Path) -> None:
    """Delete a table, which is gone at once for all others."""
    hidden = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    os.rename(folder, hidden / folder.name)
    shutil.rmtree(hidden)


def _write_empty(folder: Path, layout: Layout, manifest: Mapping[str, Any]) -> None:
    columns = [*layout.columns, Column(STATUS, "string")]
    facts = {
        "format": _FORMAT,
        "rows": layout.rows,
        "rows_per_block": layout.rows_per_block,
        "columns": [column.name for column in columns],
        "positions": layout.positions,
        "manifest": manifest,
    }
    group = _zarr(folder).open_group(folder, mode="w", zarr_format=3, attributes={_FACTS: facts})
    for name, dtype, width in columns:
        tail = () if width is None else (width,)
        group.create_array(name, shape=(layout.rows, *tail), chunks=(layout.rows_per_block, *tail), **_settings(dtype))
    for name in layout.positions:
        group.create_group(name, attributes={"d_model": layout.d_model})


def _settings(dtype: str) -> dict[str, Any]:
    """A checksum in every chunk, and a file for every chunk, also where all values are the same."""
    from zarr.codecs import Crc32cCodec, ZstdCodec

    # random digits do not compress
    codecs = [Crc32cCodec()] if dtype.startswith("float") else [ZstdCodec(), Crc32cCodec()]
    fill = {"fill_value": float("nan")} if dtype.startswith("float") else {}
    return {"dtype": dtype, "compressors": codecs, "config": {"write_empty_chunks": True}, **fill}


def _chunk(array: "zarr.Array[Any]", chunk: int) -> Path:
    """The file of a chunk of rows."""
    key = array.metadata.encode_chunk_key((chunk, *[0] * (array.ndim - 1)))
    return Path(array.store.root, array.path, key)  # type: ignore[attr-defined]


def _is_intact(array: "zarr.Array[Any]", chunk: int) -> bool:
    if not _chunk(array, chunk).is_file():
        return False
    try:
        array.get_block_selection((chunk, *[slice(None)] * (array.ndim - 1)))
    except ValueError:
        # of the checksum
        return False
    return True


def _remove(array: "zarr.Array[Any]", chunk: int) -> None:
    file = _chunk(array, chunk)
    for left in [file, *file.parent.glob(f"{file.name}.*.partial")]:
        left.unlink(missing_ok=True)


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    try:
        with disk_errors(folder):
            yield
    except InputError as error:
        raise InputError(f"{error} Nothing that is done is lost: --resume goes on from there.") from error


def _zarr(folder: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise InputError(f"{folder}: needs zarr: pip install 'helixwave[genomics]'") from error
    return zarr
