"""Handwritten digits that move over a canvas and bounce off its borders: clips that need no file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.data import Example, Picture
from helixwave.errors import InputError
from sklearn.datasets import load_digits
from torch import nn

PARTS = ["train", "validation", "test"]
# shares of the images: the first for training, the second for validation, the rest for testing
_CUTS = (0.7, 0.85)


class MovingDigits:
    """The frames that follow, of digits that move in straight lines and bounce off the borders of a black canvas.

    Inputs are `context` frames `[T, 1, size, size]` with ink from 0 to 1, the target is the frames behind them. The
    digits are the 1,797 that come with scikit-learn; training, validation and test have different ones. Clips for
    training are drawn anew in each epoch. Digits start anywhere, at rates of whole pixels a frame, and where two of
    them overlap the darker ink counts. After Srivastava et al., "Unsupervised Learning of Video Representations using
    LSTMs", 2015, who move MNIST's digits.

    Args:
        n_digit: digits in a clip.
        size: of the canvas, pixels.
        digit_size: of a digit, pixels.
        speed: the most pixels a frame, down and across.
        context: frames that are given.
        train_horizon: frames that follow in training.
        horizon: frames that follow in validation and test.
        n_train, n_validation, n_test: clips.
        seed: which images belong to which part, and all clips of validation and test, follow from it.

    Raises:
        InputError: a number that makes no clip.
    """

    def __init__(
        self,
        *,
        n_digit: int = 1,
        size: int = 64,
        digit_size: int = 28,
        speed: int = 2,
        context: int = 10,
        train_horizon: int = 10,
        horizon: int = 40,
        n_train: int = 512,
        n_validation: int = 32,
        n_test: int = 128,
        seed: int = 0,
    ):
        counts = dict(zip(PARTS, (n_train, n_validation, n_test), strict=True))
        asked = {"speed": speed, "context": context, "train_horizon": train_horizon, "horizon": horizon}
        for name, value in {**asked, **{f"n_{part}": count for part, count in counts.items()}}.items():
            if value < 1:
                raise InputError(f"data: {name} is {value}, expected at least 1")
        expect_sizes(n_digit, size, digit_size)
        self.classes = ["ink"]
        self.images = digit_images(digit_size, seed=seed)
        self.n_digit, self.size, self.speed, self.seed = n_digit, size, speed, seed
        self.train, self.validation, self.test = (
            _Clips(self, part, counts[part], context, train_horizon if part == "train" else horizon) for part in PARTS
        )

    def describe(self) -> dict[str, Any]:
        splits = zip(PARTS, (self.train, self.validation, self.test), strict=True)
        return {
            part: f"{len(split)} clips of {split.context} + {split.horizon} frames, {len(self.images[part][1])} digits"
            for part, split in splits
        }

    def export(self, model: nn.Module, folder: Path) -> list[Picture]:
        return []

    def clip(self, part: str, n_frame: int, rng: np.random.Generator) -> np.ndarray:
        """Frames `[T, size, size]` of digits of one part of the data."""
        images, _ = self.images[part]
        chosen = images[rng.integers(len(images), size=self.n_digit)]
        frames, _ = moving_clip(rng, chosen, n_frame, size=self.size, velocities=_whole(rng, self.n_digit, self.speed))
        return frames


def moving_clip(
    rng: np.random.Generator, images: np.ndarray, n_frame: int, *, size: int = 64, velocities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Digits that start at whole pixels anywhere, and move and bounce.

    A border reflects exactly: ink that would be `d` pixels behind it is `d` pixels before it, and a border is never
    passed. Between pixels a digit is drawn by linear interpolation.

    Args:
        rng: the starts are drawn from it.
        images: ink from 0 to 1, `[n, side, side]`.
        n_frame: how many frames.
        size: of the canvas, pixels.
        velocities: pixels a frame, down and to the right, `[n, 2]`.

    Returns:
        frames `[T, size, size]`, float32 from 0 to 1, and where the uppermost and leftmost ink of each digit is,
        `[T, n, 2]`.
    """
    inked = [trimmed(image) for image in images]
    room = size - np.array([image.shape for image in inked])
    starts = rng.integers(room + 1)
    places = bounced(starts + np.arange(n_frame)[:, None, None] * np.asarray(velocities), room)
    return draw(inked, places, size), places


def bounced(places: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Places on a line without end, folded into 0 to `room` as mirrors at both ends would."""
    folded = np.mod(places, 2 * np.maximum(room, 1))
    return np.where(room > 0, np.minimum(folded, 2 * room - folded), 0)


def trimmed(image: np.ndarray) -> np.ndarray:
    """An image without the rows and columns at its sides that have no ink."""
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def draw(images: Sequence[np.ndarray], places: np.ndarray, size: int) -> np.ndarray:
    """Images `[h, w]` with their upper left corners at `places` `[T, n, 2]`, as frames `[T, size, size]`."""
    # a row and a column more, which an image between pixels reaches but with no ink
    frames = np.zeros((len(places), size + 1, size + 1), dtype=np.float32)
    corners = np.floor(places).astype(int)
    for frame, frame_corners, parts in zip(frames, corners, places - corners, strict=True):
        for image, (top, left), (down, right) in zip(images, frame_corners, parts, strict=True):
            inked = _shifted(_shifted(image, down).T, right).T
            window = frame[top : top + inked.shape[0], left : left + inked.shape[1]]
            np.maximum(window, inked, out=window)
    return frames[:, :size, :size]


def digit_images(side: int, *, seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images `[M, side, side]`, ink from 0 to 1, and digits `[M]` of each part; no image is in two of them."""
    digits = load_digits()
    pixels, labels = digits.images / 16, digits.target
    stretch = _interpolation(pixels.shape[-1], side)
    images = (stretch @ pixels @ stretch.T).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(images))
    chosen = np.split(order, [round(cut * len(order)) for cut in _CUTS])
    return {part: (images[numbers], labels[numbers]) for part, numbers in zip(PARTS, chosen, strict=True)}


def expect_sizes(n_digit: int, size: int, digit_size: int) -> None:
    """Raise InputError unless digits of this size can be drawn."""
    if n_digit < 1:
        raise InputError(f"data: n_digit is {n_digit}, expected at least 1")
    if not 8 <= digit_size <= size:
        raise InputError(f"data: digit_size is {digit_size}, expected 8 to {size}, which is data.size")


class _Clips:
    """Clips of one part, cut into what is given and what follows."""

    padding: int | float = 0.0

    def __init__(self, source: MovingDigits, part: str, count: int, context: int, horizon: int):
        self.source, self.part, self.count = source, part, count
        self.context, self.horizon = context, horizon

    def __len__(self) -> int:
        return self.count

    def length(self, index: int) -> int:
        return self.context

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        rng = rng or np.random.default_rng((self.source.seed, PARTS.index(self.part), index))
        frames = self.source.clip(self.part, self.context + self.horizon, rng)[:, None]
        return {"inputs": frames[: self.context], "target": frames[self.context :]}


def _whole(rng: np.random.Generator, n: int, speed: int) -> np.ndarray:
    """Whole pixels a frame, `[n, 2]`: anything up to `speed` in both directions but standing still."""
    side = 2 * speed + 1
    standing = side**2 // 2
    drawn = rng.integers(side**2 - 1, size=n)
    return np.stack(np.divmod(drawn + (drawn >= standing), side), axis=-1) - speed


def _shifted(image: np.ndarray, part: float) -> np.ndarray:
    """Moved down by a part of a pixel, with a row more."""
    return (1 - part) * np.pad(image, ((0, 1), (0, 0))) + part * np.pad(image, ((1, 0), (0, 0)))


def _interpolation(short: int, long: int) -> np.ndarray:
    """The matrix `[long, short]` that stretches a line of pixels, their centres moving apart evenly."""
    centres = (np.arange(long) + 0.5) * short / long - 0.5
    return np.stack([np.interp(centres, np.arange(short), row) for row in np.eye(short)], axis=-1)
