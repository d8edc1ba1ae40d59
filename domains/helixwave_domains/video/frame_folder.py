"""A folder of pictures, one for each frame; only this file imports Pillow."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.errors import InputError

from helixwave_domains.video.clip import Facts, Picture, VideoStream, expect_rate
from helixwave_domains.video.sampling import SAME, Times

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""How files of pictures end."""


class FrameFolder:
    """Pictures of one size in the natural order of their names: `frame2.png` before `frame10.png`.

    Args:
        path: of the folder.
        rate: pictures a second.

    Raises:
        InputError: no picture in it, or no rate.
    """

    def __init__(self, path: Path, rate: float | None):
        self.path = path
        self.pictures = pictures_in(path)
        if not self.pictures:
            raise InputError(f"{path}: none of its files is a picture ({', '.join(SUFFIXES)})")
        self.rate = expect_rate(path, rate, "a folder of pictures")
        height, width = self._read(0).shape[:2]
        stream = VideoStream(0, self.pictures[0].suffix[1:].lower(), width, height, self.rate, len(self.pictures))
        self.facts = Facts(path, "folder of pictures", stream, (stream,))

    def stamps(self) -> Times:
        """One after the other, at the declared rate."""
        return np.arange(len(self.pictures)) / self.rate

    def rotation(self) -> int:
        """None."""
        return 0

    def decoded(self, start: float) -> Iterator[tuple[float, Callable[[], Picture]]]:
        """Pictures from the one that is seen at `start` on.

        Raises:
            InputError: one cannot be read, or has another size than the first.
        """
        first = max(0, min(int(start * self.rate + SAME), len(self.pictures) - 1))
        for number in range(first, len(self.pictures)):
            yield number / self.rate, partial(self._same_size, number)

    def _same_size(self, number: int) -> Picture:
        picture, stream = self._read(number), self.facts.stream
        if picture.shape[:2] != (stream.height, stream.width):
            found, first = f"{picture.shape[1]}x{picture.shape[0]}", f"{stream.width}x{stream.height}"
            raise InputError(f"{self.pictures[number]}: it has {found} pixels, the first of the folder {first}")
        return picture

    def _read(self, number: int) -> Picture:
        path = self.pictures[number]
        try:
            with _pillow(path).open(path) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"{path}: no picture that can be read: {error}") from error


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order, hidden files apart."""
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    return sorted(found, key=lambda path: natural(path.name))


def natural(name: str) -> list[tuple[int, str]]:
    """A key by which `2` comes before `10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def _pillow(path: Path) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError(f"{path}: needs Pillow: pip install 'helixwave[video]'") from error
    return Image
