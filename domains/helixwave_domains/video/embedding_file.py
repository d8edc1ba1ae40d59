"""All embeddings of a folder in one file: an archive of NumPy, or a group of zarr."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.errors import InputError
from helixwave.files import atomic_write, disk_errors
from numpy.typing import NDArray

from helixwave_domains.video.embedding_run import archives_of, rows_of

SUFFIXES = (".npz", ".zarr")
"""How such files end."""

# vectors in a chunk
_CHUNK = 4096


def write_one_file(folder: Path, target: Path) -> None:
    """Put the archives of a folder together, as a whole or not at all.

    The file has `vectors` `[W, D]` with `start` and `stop` `[W]` in seconds, and `clip` `[W]`, the number of the clip
    in `files` `[N]`; `status` and `reason` `[N]` say which clips have no vectors.

    Args:
        folder: of `helixwave video embed`.
        target: the file; what is there is replaced.

    Raises:
        InputError: there is not one vector, the disk is full, or zarr is not there.
    """
    rows = rows_of(folder)
    facts: dict[str, Any] = {name: np.array([row[column] for row in rows]) for name, column in _FACTS.items()}
    if not (facts["status"] == "ok").any():
        raise InputError(f"{target}: none of the {len(rows)} clips has vectors. The first: {facts['reason'][0]}")
    if target.suffix == ".npz":
        pieces = [{**archive, "clip": _numbers(number, archive)} for number, archive in archives_of(folder)]
        columns: dict[str, Any] = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
        with atomic_write(target, "wb") as f:
            np.savez(f, **columns, **facts)
        return
    with disk_errors(target):
        _write_zarr(folder, target, facts, n=sum(int(row["windows"] or 0) for row in rows))


_FACTS = {"files": "file", "status": "status", "reason": "reason"}


def _write_zarr(folder: Path, target: Path, facts: dict[str, NDArray[Any]], *, n: int) -> None:
    zarr = _zarr(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    hidden = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        group = zarr.open_group(hidden / "new", mode="w", zarr_format=3)
        for name, values in facts.items():
            group.create_array(name, shape=values.shape, dtype="string")[:] = values.astype(object)
        arrays: dict[str, Any] = {}
        at = 0
        for number, archive in archives_of(folder):
            piece = {**archive, "clip": _numbers(number, archive)}
            for name, values in piece.items():
                if name not in arrays:
                    tail = values.shape[1:]
                    shape, chunks = (n, *tail), (min(n, _CHUNK), *tail)
                    arrays[name] = group.create_array(name, shape=shape, chunks=chunks, dtype=values.dtype)
                arrays[name][at : at + len(values)] = values
            at += len(archive["vectors"])
        if target.exists():
            os.replace(target, hidden / "old")
        os.replace(hidden / "new", target)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _numbers(number: int, archive: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
    return np.full(len(archive["vectors"]), number, np.int64)


def _zarr(target: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise InputError(f"{target}: needs zarr: pip install 'helixwave[video]'") from error
    return zarr
