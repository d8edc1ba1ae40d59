"""Writing files so that a reader never sees half of one, and the folder for those that can be had again."""

import errno
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import IO, Any

from helixwave.errors import InputError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def atomic_write(path: Path | str, mode: str = "w", encoding: str = "utf-8") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` that takes its place when the block ends without an error.

    Raises:
        InputError: the disk is full; the temporary file is gone and `path` is as it was before.
    """
    path = Path(path)
    binary = "b" in mode
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, mode, encoding=None if binary else encoding, newline=None if binary else "") as f:
                yield f
                f.flush()
                os.fsync(f.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def write_table(path: Path | str, columns: Mapping[str, Iterable[Any]]) -> None:
    """Write columns of one length as TSV; numbers with fractions to six digits, NaN as an empty cell."""
    with atomic_write(path) as f:
        f.write("\t".join(map(_cell, columns)) + "\n")
        for row in zip(*columns.values(), strict=True):
            f.write("\t".join(map(_cell, row)) + "\n")


def _cell(value: object) -> str:
    if isinstance(value, Real) and not isinstance(value, Integral):
        return "" if math.isnan(value) else f"{value:.6g}"
    # white space inside a name would begin another cell or row
    return " ".join(str(value).split())


@contextmanager
def reading(path: Path, otherwise: str, advice: str) -> Iterator[None]:
    """Turn whatever a library raises over a damaged file into one line: what it is then, and what to do."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    # damaged bytes make the libraries raise anything from IndexError to their own classes
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: {otherwise} ({said}). {advice}") from error


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write at `path` into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise InputError(
                f"{path}: the disk is full ({_free(path)} free). Free some space and run again."
            ) from error
        if isinstance(error, PermissionError):
            raise InputError(f"{path}: no permission to write there. Choose another folder.") from error
        raise


def cache_folder() -> Path:
    """Where files lie that can be had again: `HELIXWAVE_CACHE`, or the user's cache."""
    import pooch

    return Path(os.environ.get("HELIXWAVE_CACHE") or pooch.os_cache("helixwave"))


def _free(path: Path) -> str:
    folder = next((parent for parent in path.resolve().parents if parent.exists()), Path("/"))
    return f"{shutil.disk_usage(folder).free / 2**20:.1f} MiB"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
