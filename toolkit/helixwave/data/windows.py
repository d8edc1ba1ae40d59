"""Long sequences of tokens on disk, of which windows are read: a zarr v3 group that any reader of zarr opens.

All sequences stand one after the other in one array of one uncompressed chunk, so that the chunk's file is the array: a
window is read through a memory map in a microsecond, where going through zarr takes a thousand, nothing but the windows
read takes up memory, and worker processes share it. Only this file and those that write embeddings import zarr.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from helixwave.errors import InputError
from helixwave.files import disk_errors

_ARRAY = "tokens"


def write_windows(folder: Path, length: int, pieces: Iterable[np.ndarray], facts: dict[str, Any]) -> None:
    """Write a store as a whole or not at all; what another process has put there in the meantime stays.

    Args:
        length: of all pieces together.
        pieces: tokens in uint8, asked for one by one.
        facts: what JSON can hold, read when the last piece has been written.

    Raises:
        InputError: the disk is full, or the package zarr is not there.
    """
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _write(temporary, length, pieces, facts)
            if not folder.exists():
                os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def read_windows(folder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The tokens of a store `[length]`, mapped into memory, and its facts.

    Raises:
        InputError: it is damaged.
    """
    try:
        facts = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        shape = json.loads((folder / _ARRAY / "zarr.json").read_text(encoding="utf-8"))["shape"]
        tokens = np.memmap(folder / _ARRAY / "c" / "0", dtype=np.uint8, mode="r", shape=tuple(shape))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder}: a damaged window store ({error}). Delete it and run again") from error
    return tokens, facts


def _write(folder: Path, length: int, pieces: Iterable[np.ndarray], facts: dict[str, Any]) -> None:
    try:
        import zarr
    except ImportError as error:
        raise InputError(f"{folder}: a large genome needs zarr: pip install 'helixwave[genomics]'") from error
    group = zarr.open_group(folder, mode="w", zarr_format=3)
    group.create_array(_ARRAY, shape=(length,), chunks=(length,), dtype="uint8", compressors=None, filters=None)
    chunk = folder / _ARRAY / "c" / "0"
    chunk.parent.mkdir(parents=True)
    with chunk.open("wb") as f:
        for piece in pieces:
            piece.tofile(f)
        f.flush()
        os.fsync(f.fileno())
        assert f.tell() == length, f"{f.tell()} tokens were written, {length} announced"
    group.attrs.update(facts)
