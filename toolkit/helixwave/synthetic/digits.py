"""Handwritten digits, read one pixel at a time."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from helixwave.data import Example, Picture
from helixwave.data.batches import IGNORED
from helixwave.errors import InputError

_SIDE = 8


class SequentialDigits:
    """The 1,797 handwritten digits that come with scikit-learn as 64 pixels in a row, one answer at the last of them.

    Split at random, each digit with the same share in each part. Source: Alpaydin and Kaynak, "Optical Recognition of
    Handwritten Digits", UCI Machine Learning Repository, 1998; one pixel at a time as in Le et al., "A Simple Way to
    Initialize Recurrent Networks of Rectified Linear Units", 2015, section 4.2.

    Args:
        validation, test: shares of the images.
        shift: in training, each image is moved by up to so many pixels in either direction.
        seed: the split follows from it.
    """

    def __init__(self, *, validation: float = 0.1, test: float = 0.2, shift: int = 1, seed: int = 0):
        if min(validation, test) <= 0 or validation + test >= 1:
            raise InputError(f"data: validation {validation} and test {test}, expected shares that leave some to train")
        self.classes = [str(digit) for digit in range(10)]
        pixels, labels = load_digits(return_X_y=True)
        numbers = np.arange(len(labels))
        rest, held_out = train_test_split(numbers, test_size=test, stratify=labels, random_state=seed)
        share = validation / (1 - test)
        fitted, chosen = train_test_split(rest, test_size=share, stratify=labels[rest], random_state=seed)
        # at most 16 dots of ink in a pixel
        pixels = (pixels / 16).astype(np.float32)
        self.train, self.validation, self.test = (
            Images(pixels[i], labels[i], shift) for i in (fitted, chosen, held_out)
        )

    def describe(self) -> dict[str, Any]:
        return {part: f"{len(getattr(self, part))} images" for part in ("train", "validation", "test")}

    def export(self, model: nn.Module, folder: Path) -> list[Picture]:
        return []


class Images:
    """Images as signals of one channel.

    Args:
        pixels: ink from 0 to 1, `[M, 64]`, row after row.
        labels: digits `[M]`.
        shift: where examples are augmented, they are moved by up to so many pixels in either direction.
    """

    padding: int | float = 0.0

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, shift: int):
        self.pixels, self.labels, self.shift = pixels, labels, shift

    def __len__(self) -> int:
        return len(self.labels)

    def length(self, index: int) -> int:
        return self.pixels.shape[1]

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        target = np.full(self.pixels.shape[1], IGNORED)
        target[-1] = self.labels[index]
        pixels = self.pixels[index] if rng is None else self._moved(self.pixels[index], rng)
        return {"inputs": pixels[:, None], "target": target}

    def _moved(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        padded = np.pad(pixels.reshape(_SIDE, _SIDE), self.shift)
        down, right = rng.integers(2 * self.shift + 1, size=2)
        return padded[down : down + _SIDE, right : right + _SIDE].ravel()
