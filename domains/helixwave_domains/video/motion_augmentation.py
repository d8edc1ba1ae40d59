"""Motion as another person, another camera or another moment might have shown it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

Series = NDArray[np.float32]
"""Channels of a series `[T, C]`, NaN where a value is missing."""


@dataclass(frozen=True)
class Geometry:
    """What becomes of the channels when all is turned or seen in a mirror.

    Args:
        vectors: the channels of each vector in the plane or in space, turned alike.
        mirrored: the channels that change their sign in a mirror.
    """

    vectors: Sequence[Sequence[int]] = ()
    mirrored: Sequence[int] = ()


@dataclass(frozen=True)
class MotionAugmentation:
    """What is drawn for a training series. Zeros leave it as it is.

    Args:
        crop: a stretch of the series is read, from the whole down to without this share of it.
        speed: deviation of the logarithm of a factor of how fast it runs.
        rotation: degrees by which vectors are turned at most, in the plane or about an axis drawn in space.
        mirror: the probability of a mirror image, such as that of the other arm.
        amplitude: deviation of the logarithm of a factor of all values.
        jitter: deviation of white noise, in deviations of each channel over the training series.

    Raises:
        InputError: a value below zero, a crop that leaves nothing, or no probability.
    """

    crop: float = 0.0
    speed: float = 0.0
    rotation: float = 0.0
    mirror: float = 0.0
    amplitude: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 0:
                raise InputError(f"data: {field.name} is {value}, expected 0 or more")
        if self.crop >= 1:
            raise InputError(f"data: crop is {self.crop}, expected less than 1")
        if self.mirror > 1:
            raise InputError(f"data: mirror is {self.mirror}, expected a probability")

    def drawn(
        self, series: Series, rng: np.random.Generator, geometry: Geometry, deviation: NDArray[np.float32]
    ) -> Series:
        """A series `[T, C]` as it might have been, `[T', C]`; `deviation` is that of its channels `[C]`."""
        values = _cropped(series, 1 - self.crop * rng.random(), rng.random())
        values = _played(values, np.exp(self.speed * rng.standard_normal()))
        values = _turned(values, self.rotation * rng.uniform(-1, 1), rng, geometry.vectors)
        if rng.random() < self.mirror:
            values = _mirrored(values, geometry.mirrored)
        values = values * np.exp(self.amplitude * rng.standard_normal())
        return (values + self.jitter * deviation * rng.standard_normal(values.shape)).astype(np.float32)


def _cropped(series: Series, share: float, place: float) -> Series:
    """A share of the steps, at least one, at a place from 0 (the beginning) to 1 (the end)."""
    kept = max(1, round(share * len(series)))
    start = round(place * (len(series) - kept))
    return series[start : start + kept]


def _played(series: Series, factor: float) -> Series:
    """Faster or slower by a factor, linear between steps; next to a missing value none is known."""
    if factor == 1 or len(series) == 1:
        return series
    times = np.linspace(0, len(series) - 1, max(2, round(len(series) / factor)))
    before = np.minimum(times.astype(int), len(series) - 2)
    part = (times - before)[:, None]
    # a step that is met exactly does not depend on the next one
    mixed = (1 - part) * series[before] + part * series[before + 1]
    return np.where(part == 0, series[before], np.where(part == 1, series[before + 1], mixed)).astype(np.float32)


def _turned(series: Series, degrees: float, rng: np.random.Generator, vectors: Sequence[Sequence[int]]) -> Series:
    """All vectors turned by one angle, those in space about one axis."""
    if degrees == 0 or not vectors:
        return series
    angle, turned = np.deg2rad(degrees), series.copy()
    axis = rng.standard_normal(3)
    for channels in vectors:
        turn = plane_rotation(angle) if len(channels) == 2 else space_rotation(angle, axis)
        turned[:, list(channels)] = series[:, list(channels)] @ turn.T
    return turned


def _mirrored(series: Series, channels: Sequence[int]) -> Series:
    seen = series.copy()
    seen[:, list(channels)] *= -1
    return seen


def plane_rotation(angle: float) -> NDArray[np.float64]:
    """The matrix that turns by an angle in radians `[2, 2]`."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def space_rotation(angle: float, axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix that turns by an angle in radians about an axis of any length, by Rodrigues' formula `[3, 3]`."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
