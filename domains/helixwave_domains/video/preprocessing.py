"""From the frames of a video to what a model reads: the number, rate, size and scale that its checkpoint names."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from helixwave.errors import InputError
from helixwave.registry import check_arguments
from helixwave.signature import signature_of
from numpy.typing import NDArray

from helixwave_domains.video.sampling import SAME, dense_times, uniform_times

Frames = NDArray[np.uint8]
"""Frames of a video as a person sees them, upright and in RGB: `[T, H, W, 3]`."""

Inputs = NDArray[np.float32]
"""What a model reads of one clip: `[T, C, H, W]`."""

# ITU-R BT.601, section 2.5.1: how bright red, green and blue are
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Preprocessing:
    """How a clip is read by a model, stored in its checkpoint. Training and prediction go through the same code.

    Args:
        n_frame: that the model reads at once.
        rate: frames a second that `dense` sampling reads, whatever the video has; `uniform` makes no use of it.
        size: of the square that is read, in pixels: the shorter side is resized to it, the middle is cut out.
        channels: 3 for red, green and blue, 1 for grey.
        mean, deviation: of pixels from 0 to 1, one for each channel or one for all.
        sampling: `uniform` spreads the frames evenly over the clip (Wang et al., "Temporal segment networks", 2016,
            section 3.1); `dense` takes them `1 / rate` seconds apart.

    Raises:
        InputError: a value that makes no sense.
    """

    n_frame: int = 16
    rate: float = 8.0
    size: int = 112
    channels: int = 3
    mean: list[float] | None = None
    deviation: list[float] | None = None
    sampling: Literal["uniform", "dense"] = "uniform"

    def __post_init__(self) -> None:
        _require(1 <= self.n_frame <= 1_000_000, "n_frame", self.n_frame, "1 to 1,000,000 frames")
        _require(0 < self.rate <= 10_000, "rate", self.rate, "frames a second, more than 0 and at most 10,000")
        _require(1 <= self.size <= 8192, "size", self.size, "1 to 8,192 pixels")
        _require(self.channels in (1, 3), "channels", self.channels, "1 (grey) or 3 (RGB)")
        _require(self.sampling in ("uniform", "dense"), "sampling", self.sampling, "uniform or dense")
        # frozen: the constants of most published networks of actions, about those of all natural pictures
        object.__setattr__(self, "mean", [0.45] if self.mean is None else list(self.mean))
        object.__setattr__(self, "deviation", [0.225] if self.deviation is None else list(self.deviation))
        for name in ("mean", "deviation"):
            value = getattr(self, name)
            _require(len(value) in (1, self.channels), name, value, f"one number, or {self.channels}")
        _require(min(self.deviation or []) > 0, "deviation", self.deviation, "numbers above 0")

    @property
    def seconds(self) -> float | None:
        """How long `dense` windows are; None: as long as the clip."""
        return self.n_frame / self.rate if self.sampling == "dense" else None

    def times(self, start: float, stop: float, rng: np.random.Generator | None = None) -> NDArray[np.float64]:
        """When frames are read of a window from `start` to `stop` seconds `[n_frame]`; `dense` windows may have fewer.

        Args:
            start, stop: of the window.
            rng: draws each frame of `uniform` sampling within its part of the window; None: the middle of it.
        """
        if self.sampling == "uniform":
            return uniform_times(start, stop, self.n_frame, rng)
        times = dense_times(start, self.rate, self.n_frame)
        return times[: max(1, int(np.searchsorted(times, stop - SAME)))]

    def resized(self, frames: Frames) -> Frames:
        """The middle square of frames `[T, H, W, 3]`, and grey if the model reads that: `[T, size, size, C]`."""
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
            found = f"{frames.dtype} {list(frames.shape)}"
            raise InputError(f"frames: they are {found}, expected uint8 [T, H, W, 3]")
        pictures = torch.from_numpy(np.require(frames, requirements=["C", "W"])).permute(0, 3, 1, 2)
        square = _centre(_shorter_side(pictures, self.size), self.size)
        if self.channels == 1:
            weights = torch.tensor(_LUMA)[:, None, None]
            square = (square * weights).sum(1, keepdim=True).round().to(torch.uint8)
        return np.ascontiguousarray(square.permute(0, 2, 3, 1).numpy())

    def normalised(self, pixels: Frames) -> Inputs:
        """What `resized` made, in the scale of the model: `[T, size, size, C]` -> `[T, C, size, size]`."""
        mean, deviation = self._scale()
        scaled = (pixels.astype(np.float32) / 255 - mean) / deviation
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

    def unscaled(self, inputs: Inputs) -> NDArray[np.float32]:
        """Pixels from 0 to 1 of what a model reads, `[T, C, size, size]` both."""
        mean, deviation = (value.reshape(-1, 1, 1) for value in self._scale())
        return inputs * deviation + mean

    def _scale(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return np.asarray(self.mean, np.float32), np.asarray(self.deviation, np.float32)

    def scaled(self, frames: Frames) -> Inputs:
        """What a model reads of frames `[T, H, W, 3]`: `[T, C, size, size]`."""
        return self.normalised(self.resized(frames))

    def config(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return asdict(self)


def preprocessing_from(config: Mapping[str, Any], *, where: str) -> Preprocessing:
    """What `Preprocessing.config` gave, checked.

    Raises:
        InputError: an unknown or missing key, or a value of another type.
    """
    check_arguments(where, signature_of(Preprocessing), config)
    return Preprocessing(**config)


def _shorter_side(pictures: torch.Tensor, size: int) -> torch.Tensor:
    """Pictures `[T, 3, H, W]` whose shorter side has `size` pixels."""
    height, width = pictures.shape[2:]
    short = min(height, width)
    if short == size:
        return pictures
    wanted = [max(size, round(side * size / short)) for side in (height, width)]
    return F.interpolate(pictures, size=wanted, mode="bilinear", antialias=True)


def _centre(pictures: torch.Tensor, size: int) -> torch.Tensor:
    top, left = ((side - size) // 2 for side in pictures.shape[2:])
    return pictures[:, :, top : top + size, left : left + size]


def _require(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise InputError(f"preprocessing.{name} is {value!r}, expected {expected}")
