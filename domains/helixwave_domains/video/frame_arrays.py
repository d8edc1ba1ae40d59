"""Frames as arrays of numbers in `.npy`, `.npz` and zarr, read piece by piece where the file allows it."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.errors import InputError
from helixwave.files import reading

from helixwave_domains.video.clip import Facts, Picture, VideoStream, expect_rate
from helixwave_domains.video.sampling import SAME, Times

_NAME = "frames"


class FrameArray:
    """An array of uint8, `[T, H, W, 3]` in RGB or `[T, H, W]` in grey; in an archive or group the one named `frames`.

    Args:
        path: of the array.
        rate: frames a second; an archive may say it itself, as `rate`.

    Raises:
        InputError: no such array, or no rate.
    """

    def __init__(self, path: Path, rate: float | None):
        self.path = path
        frames, said = _opened(path)
        shape, kind = tuple(frames.shape), str(frames.dtype)
        if kind != "uint8" or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] != 3) or not np.prod(shape):
            raise InputError(f"{path}: it holds {kind} {list(shape)}, expected uint8 [T, H, W, 3] or [T, H, W]")
        self.rate = expect_rate(path, said if rate is None else rate, "an array of frames")
        stream = VideoStream(0, kind, shape[2], shape[1], self.rate, shape[0])
        self.facts = Facts(path, "array", stream, (stream,))

    def stamps(self) -> Times:
        """One after the other, at the declared rate."""
        return np.arange(self.facts.stream.n_frame or 0) / self.rate

    def rotation(self) -> int:
        """None."""
        return 0

    def decoded(self, start: float) -> Iterator[tuple[float, Callable[[], Picture]]]:
        """Frames from the one that is seen at `start` on."""
        frames, _ = _opened(self.path)
        n = frames.shape[0]
        for number in range(max(0, min(int(start * self.rate + SAME), n - 1)), n):
            yield number / self.rate, partial(_picture, frames, number)


def _picture(frames: Any, number: int) -> Picture:
    picture = np.asarray(frames[number])
    return np.repeat(picture[:, :, None], 3, axis=2) if picture.ndim == 2 else picture


def _opened(path: Path) -> tuple[Any, float | None]:
    """The array, of which nothing is read yet where the file allows it, and the rate that the file says."""
    with reading(path, "no array that can be read", "Is it complete?"):
        if path.is_dir():
            return _zarr_array(path)
        if path.suffix.lower() == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False), None
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                return archive, None
            found, names = {name: archive[name] for name in (_NAME, "rate") if name in archive}, archive.files
    if _NAME not in found:
        raise InputError(f"{path}: it has {', '.join(names) or 'nothing'}, expected an array named {_NAME}")
    return found[_NAME], float(found["rate"]) if "rate" in found else None


def _zarr_array(path: Path) -> tuple[Any, float | None]:
    try:
        import zarr
    except ImportError as error:
        raise InputError(f"{path}: needs zarr: pip install 'helixwave[video]'") from error
    found: Any = zarr.open(path, mode="r")
    array = found if isinstance(found, zarr.Array) else found[_NAME]
    rate = array.attrs.get("rate", found.attrs.get("rate"))
    return array, None if rate is None else float(rate)
