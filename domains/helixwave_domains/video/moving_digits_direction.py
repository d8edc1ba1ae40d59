"""In which direction a digit moves: clips that need no file, and that no single frame gives away."""

from pathlib import Path
from typing import Any

import numpy as np
from helixwave.data import Example, Picture
from helixwave.data.splits import PARTS
from helixwave.errors import InputError
from torch import nn

from helixwave_domains.video.moving_digits import digit_images, draw, expect_sizes

DIRECTIONS = {
    "right": (0, 1),
    "down right": (1, 1),
    "down": (1, 0),
    "down left": (1, -1),
    "left": (0, -1),
    "up left": (-1, -1),
    "up": (-1, 0),
    "up right": (-1, 1),
}
"""Pixels down and to the right."""


class MovingDigitsDirection:
    """The direction, one of eight, in which a handwritten digit crosses a black canvas, by whole pixels a frame.

    Clips are `[T, 1, size, size]` with ink from 0 to 1. A digit never reaches a border. The three parts have different
    digits; clips for training are drawn anew in each epoch. Where the ink is in the first and in the last frame tells
    the direction: this shows that a model follows motion, and is no hard problem. After `moving_digits`.

    Args:
        size: of the canvas, pixels.
        digit_size: of a digit, pixels.
        speed: the most pixels a frame.
        n_frame: frames of a clip.
        n_train, n_validation, n_test: clips.
        seed: which images belong to which part, and all clips of validation and test, follow from it.

    Raises:
        InputError: numbers that make no clip.
    """

    def __init__(
        self,
        *,
        size: int = 32,
        digit_size: int = 12,
        speed: int = 2,
        n_frame: int = 8,
        n_train: int = 1024,
        n_validation: int = 256,
        n_test: int = 512,
        seed: int = 0,
    ):
        counts = dict(zip(PARTS, (n_train, n_validation, n_test), strict=True))
        for name, value in {"speed": speed, **{f"n_{part}": count for part, count in counts.items()}}.items():
            if value < 1:
                raise InputError(f"data: {name} is {value}, expected at least 1")
        expect_sizes(1, size, digit_size)
        room = size - digit_size
        if not 2 <= n_frame <= room // speed + 1:
            raise InputError(
                f"data: n_frame is {n_frame}, expected 2 to {room // speed + 1}, in which a digit of data.speed={speed}"
                f" crosses the {room} pixels that data.size leaves it"
            )
        self.classes = list(DIRECTIONS)
        self.reads = {"channels": 1, "n_frame": n_frame, "size": size}
        self.size, self.digit_size, self.speed, self.n_frame, self.seed = size, digit_size, speed, n_frame, seed
        self.images = {part: images for part, (images, _) in digit_images(digit_size, seed=seed).items()}
        self.train, self.validation, self.test = (_Clips(self, part, counts[part]) for part in PARTS)

    def describe(self) -> dict[str, Any]:
        splits = zip(PARTS, (self.train, self.validation, self.test), strict=True)
        return {
            part: f"{len(split)} clips of {self.n_frame} frames, {len(self.images[part])} digits"
            for part, split in splits
        }

    def export(self, model: nn.Module, folder: Path) -> list[Picture]:
        return []

    def clip(self, part: str, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Frames `[T, 1, size, size]` of a digit of one part of the data, and the place of its direction."""
        image = self.images[part][rng.integers(len(self.images[part]))]
        label = int(rng.integers(len(DIRECTIONS)))
        step = np.array(DIRECTIONS[self.classes[label]]) * int(rng.integers(1, self.speed + 1))
        path = np.arange(self.n_frame)[:, None] * step
        # anywhere from where the whole path is on the canvas
        low, high = -path.min(0), self.size - self.digit_size - path.max(0)
        places = path + rng.integers(low, high + 1)
        return draw(image[None], places[:, None].astype(np.float64), self.size)[:, None], label


class _Clips:
    """Clips of one part."""

    padding: int | float = 0.0

    def __init__(self, source: MovingDigitsDirection, part: str, count: int):
        self.source, self.part, self.count = source, part, count

    def __len__(self) -> int:
        return self.count

    def length(self, index: int) -> int:
        return self.source.n_frame

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        drawn = rng or np.random.default_rng((self.source.seed, PARTS.index(self.part), index))
        frames, label = self.source.clip(self.part, drawn)
        return {"inputs": frames, "target": label}
