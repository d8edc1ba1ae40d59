"""Simulated twelve-lead rhythms: no patients, and good for trying things out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helixwave_domains.ecg.ecgsyn import Shape, waves
from helixwave_domains.ecg.leads import LEADS, with_leads
from helixwave_domains.ecg.recording import Recording, held

_INDEPENDENT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
# how far the height of a wave may lie from the usual one, as the deviation of its logarithm
_SPREAD = 0.3
# millivolts of P, Q, R, S and T in an ordinary ECG
_USUAL = {
    "I": (0.07, -0.04, 0.60, -0.12, 0.20),
    "II": (0.11, -0.06, 0.90, -0.15, 0.28),
    "V1": (0.04, 0.00, 0.20, -0.90, -0.03),
    "V2": (0.05, 0.00, 0.45, -1.30, 0.45),
    "V3": (0.05, 0.00, 0.80, -0.90, 0.45),
    "V4": (0.06, -0.04, 1.30, -0.50, 0.42),
    "V5": (0.06, -0.06, 1.25, -0.25, 0.34),
    "V6": (0.06, -0.06, 1.00, -0.10, 0.25),
}
# a beat from a ventricle: no P wave, a broad QRS complex, T against it
_ECTOPIC = {
    "I": (0.0, 0.0, 0.8, -0.1, -0.3),
    "II": (0.0, 0.0, 1.2, -0.1, -0.4),
    "V1": (0.0, 0.0, -1.0, 0.1, 0.4),
    "V2": (0.0, 0.0, -1.3, 0.2, 0.5),
    "V3": (0.0, 0.0, -0.6, 0.2, 0.3),
    "V4": (0.0, 0.0, 0.8, -0.2, -0.3),
    "V5": (0.0, 0.0, 1.2, -0.2, -0.4),
    "V6": (0.0, 0.0, 1.1, -0.1, -0.4),
}
_BROAD = Shape(widths=(0.25, 0.2, 0.28, 0.2, 0.4))
# where fibrillation of the atria is seen best
_FIBRILLATION = np.array([0.4, 0.8, 1.0, 0.5, 0.3, 0.2, 0.2, 0.2])

SECONDS = 10.0

Rng = np.random.Generator


def _sinus(rng: Rng, low: float, high: float) -> NDArray[np.float64]:
    """R peaks of a rate in beats a minute that changes a little, with the breath and at random."""
    interval = 60 / rng.uniform(low, high)
    n = int((SECONDS + 4) / interval) + 3
    breath = 0.03 * np.sin(2 * np.pi * (0.25 * interval * np.arange(n) + rng.random()))
    return np.cumsum(interval * (1 + breath + 0.01 * rng.standard_normal(n))) - 2


def _fibrillating(rng: Rng) -> NDArray[np.float64]:
    """R peaks without any order, 70 to 150 a minute; two ventricular beats are at least 0.3 s apart."""
    interval = 60 / rng.uniform(70, 150)
    n = int((SECONDS + 6) / interval) + 12
    return np.cumsum(np.maximum(interval * rng.gamma(40, 1 / 40, n), 0.3)) - 2


class Rhythm:
    """The parts of one simulated ECG.

    Args:
        peaks: seconds of its R peaks; None: the heart stands still.
        ectopic: which beats come from a ventricle.
        atria: millivolts of the waves of fibrillating atria, 0 where there are P waves.
    """

    def __init__(
        self,
        peaks: NDArray[np.float64] | None,
        *,
        ectopic: NDArray[np.bool_] | None = None,
        atria: float = 0.0,
    ):
        self.peaks, self.ectopic, self.atria = peaks, ectopic, atria

    def signal(self, rng: Rng, rate: int) -> NDArray[np.float64]:
        """Millivolts of the leads I, II and V1 to V6 `[8, T]`, with noise and a wandering baseline."""
        n = round(SECONDS * rate)
        signal = np.zeros((len(_INDEPENDENT), n))
        if self.peaks is not None:
            signal += self._beats(rng, rate)
        if self.atria:
            signal += self.atria * _FIBRILLATION[:, None] * _flutter(rng, n, rate)
        return signal + _disturbance(rng, n, rate)

    def _beats(self, rng: Rng, rate: int) -> NDArray[np.float64]:
        assert self.peaks is not None
        usual = np.array([_USUAL[lead] for lead in _INDEPENDENT]) * rng.lognormal(0, _SPREAD, (len(_INDEPENDENT), 5))
        usual *= rng.lognormal(0, _SPREAD)
        if self.atria:
            usual[:, 0] = 0
        ectopic = np.zeros(len(self.peaks), dtype=bool) if self.ectopic is None else self.ectopic
        beats = usual @ waves(self.peaks, SECONDS, rate, kept=~ectopic)
        if ectopic.any():
            broad = np.array([_ECTOPIC[lead] for lead in _INDEPENDENT]) * rng.choice([-1, 1]) * rng.lognormal(0, 0.2)
            beats += broad @ waves(self.peaks, SECONDS, rate, shape=_BROAD, kept=ectopic)
        return beats


def _premature(rng: Rng) -> Rhythm:
    """A sinus rhythm in which one or two beats come early from a ventricle, with a pause behind them."""
    peaks = _sinus(rng, 60, 95)
    ectopic = np.zeros(len(peaks), dtype=bool)
    inside = np.flatnonzero((peaks > 1) & (peaks < SECONDS - 1))
    for beat in rng.choice(inside[::3], size=min(int(rng.integers(1, 3)), len(inside[::3])), replace=False):
        ectopic[beat] = True
        peaks[beat] -= rng.uniform(0.25, 0.4) * (peaks[beat] - peaks[beat - 1])
    return Rhythm(peaks, ectopic=ectopic)


RHYTHMS: dict[str, Callable[[Rng], Rhythm]] = {
    "sinus rhythm": lambda rng: Rhythm(_sinus(rng, 60, 100)),
    "sinus bradycardia": lambda rng: Rhythm(_sinus(rng, 35, 59)),
    "sinus tachycardia": lambda rng: Rhythm(_sinus(rng, 101, 160)),
    "atrial fibrillation": lambda rng: Rhythm(_fibrillating(rng), atria=rng.uniform(0.03, 0.1)),
    "ventricular premature beats": _premature,
    "asystole": lambda rng: Rhythm(None),
}
"""Rates in beats a minute are those by which the rhythms are defined: 60 to 100 is a sinus rhythm, less is a
bradycardia and more is a tachycardia."""


def simulate(name: str, rng: Rng, rate: int) -> Recording:
    """Ten seconds of twelve leads; limb leads obey the equations of Einthoven and Goldberger.

    Args:
        name: one of `RHYTHMS`.
        rng: decides the heart, the electrodes and the noise.
        rate: samples a second, a divisor of 1000.
    """
    signal = RHYTHMS[name](rng).signal(rng, rate).astype(np.float32)
    said = ("mV (simulated)",) * len(_INDEPENDENT)
    recording = Recording(
        leads=_INDEPENDENT,
        rate=float(rate),
        n_sample=signal.shape[1],
        load=held(signal),
        source=Path(f"simulated {name}"),
        format="simulated",
        names=_INDEPENDENT,
        units=said,
        labels=(name,),
        notes=("simulated by the model of McSharry et al., 2003: no patient",),
    )
    return with_leads(recording, LEADS)


def _flutter(rng: Rng, n: int, rate: int) -> NDArray[np.float64]:
    """Waves of 5 to 9 a second whose rate and height never stay the same, `[n]`."""
    time = np.arange(n) / rate
    drift = np.cumsum(rng.standard_normal(n)) * 0.3 / np.sqrt(rate)
    height = 1 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.1, 0.6) * time + 2 * np.pi * rng.random())
    return height * np.sin(2 * np.pi * rng.uniform(5, 9) * time + drift)


def _disturbance(rng: Rng, n: int, rate: int) -> NDArray[np.float64]:
    """Noise of muscles and the movement of the baseline with the breath `[8, n]`."""
    time = np.arange(n) / rate
    shape = (len(_INDEPENDENT), 1)
    wander = sum(
        rng.uniform(0, 0.15, shape) * np.sin(2 * np.pi * (rng.uniform(0.05, 0.4, shape) * time + rng.random(shape)))
        for _ in range(3)
    )
    return wander + rng.uniform(0.005, 0.12) * rng.standard_normal((len(_INDEPENDENT), n))
