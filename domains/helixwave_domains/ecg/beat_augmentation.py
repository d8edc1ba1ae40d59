"""Beats as another recorder or another moment might have shown them."""

from dataclasses import dataclass

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.ecg.beat_preprocessing import interval_channels
from helixwave_domains.ecg.preprocessing import Inputs


@dataclass(frozen=True)
class BeatAugmentation:
    """What is drawn for a training beat. Zeros leave it as it is.

    Args:
        shift: samples by which the window is moved at most, in either direction.
        amplitude: deviation of the logarithm of a factor.
        noise: the largest deviation of white noise in millivolts.
        wander: deviation of the slope and of the bend of a baseline that is added, in millivolts at the window's ends.
        jitter: deviation of the logarithm of a factor of both intervals.
        interval_noise: deviation of noise that is added to the channels of the intervals.
        mixup: a beat is mixed with another one with a weight from Beta(mixup, mixup). Source: Zhang et al., "mixup:
            Beyond Empirical Risk Minimization", 2018.

    Raises:
        InputError: a value below zero.
    """

    shift: int = 0
    amplitude: float = 0.0
    noise: float = 0.0
    wander: float = 0.0
    jitter: float = 0.0
    interval_noise: float = 0.0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise InputError(f"data: {name} is {value}, expected 0 or more")

    def share(self, rng: np.random.Generator) -> float:
        """The weight of a beat that is mixed with another."""
        return float(rng.beta(self.mixup, self.mixup)) if self.mixup else 1.0

    def lead(self, lead: Inputs, rng: np.random.Generator) -> Inputs:
        """A lead `[T, 1]`, moved, of another size, on another baseline, and noisier."""
        first = int(rng.integers(2 * self.shift + 1))
        moved = np.pad(lead, ((self.shift, self.shift), (0, 0)), mode="edge")[first : first + len(lead)]
        noise = rng.uniform(0, self.noise) * rng.standard_normal(lead.shape)
        slope, bend = self.wander * rng.standard_normal(2)
        time = np.linspace(-1, 1, len(lead))[:, None]
        baseline = slope * time + bend * (time**2 - 1 / 3)
        return (np.exp(self.amplitude * rng.standard_normal()) * moved + baseline + noise).astype(np.float32)

    def intervals(self, seconds: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        """What is read of the intervals before and after a beat in seconds `[2]`, at another heart rate: `[3]`."""
        channels = interval_channels(seconds * np.exp(self.jitter * rng.standard_normal()))
        return channels + self.interval_noise * rng.standard_normal(len(channels))
