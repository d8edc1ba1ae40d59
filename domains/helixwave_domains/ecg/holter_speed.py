"""How fast, and in how much memory, a day of ECG is predicted.

    python -m helixwave_domains.ecg.holter_speed --hours 24

The recording is two leads of real pieces put one after another, written as WFDB and read from there, by an untrained
model of the default recipe's size: its speed does not depend on its weights.
"""

import argparse
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from helixwave.checkpoint import build_model
from helixwave.console import console
from helixwave.errors import InputError

from helixwave_domains.ecg.conversion import convert
from helixwave_domains.ecg.formats import read_recording
from helixwave_domains.ecg.leads import with_leads
from helixwave_domains.ecg.predictor import Prediction, Predictor, Serving
from helixwave_domains.ecg.preprocessing import Preprocessing
from helixwave_domains.ecg.quality import assess
from helixwave_domains.ecg.recording import Recording, Signal
from helixwave_domains.ecg.simulated import real_ecg

BACKBONE = {"d_model": 64, "n_layer": 4, "blocks": [{"name": "bimamba"}]}
_KIBI = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Cost:
    """What a prediction took.

    Args:
        hours: of the recording.
        cpu_seconds: of the process.
        mebibytes: by which its memory grew at its peak.
        windows: that were read.
    """

    hours: float
    cpu_seconds: float
    mebibytes: float
    windows: int

    @property
    def times_real_time(self) -> float:
        return 3600 * self.hours / self.cpu_seconds


def tiled(recording: Recording, hours: float) -> Recording:
    """A recording over and over, read piece by piece, ending in the middle of a piece."""
    n, wanted = recording.n_sample, round(3600 * hours * recording.rate) + 17

    def load(start: int, stop: int) -> Signal:
        pieces, at = [], start
        while at < stop:
            inside = at % n
            last = min(n, inside + stop - at)
            pieces.append(recording.load(inside, last))
            at += last - inside
        return np.concatenate(pieces, axis=1)

    return Recording(
        recording.leads, recording.rate, wanted, load, recording.source, "tiled", recording.names, recording.units
    )


def predictor(leads: tuple[str, ...], rate: float = 100.0, window: float = 10.0) -> Predictor:
    """An untrained model of the default recipe's size."""
    config = {
        "model": {"name": "ecg_model", "channels": len(leads)},
        "backbone": BACKBONE,
        "classes": ["AF", "other"],
        "preprocessing": Preprocessing(rate, list(leads), window).config(),
    }
    return Predictor(build_model(config), Serving(resample=True))


def measure(used: Predictor, path: Path) -> tuple[Cost, Prediction]:
    """Predict a file and assess its quality, as the command does."""
    read_recording(path)
    before, began = _peak(), time.process_time()
    prediction = used.predict(path)
    assess(prediction.recording)
    seconds = time.process_time() - began
    hours = prediction.recording.seconds / 3600
    return Cost(hours, seconds, (_peak() - before) / 2**20, len(prediction.starts)), prediction


def _peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIBI


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument(
        "--record", type=Path, help="Real pieces: a recording. Default: the ECG that comes with pydicom."
    )
    asked = parser.parse_args()
    source = read_recording(asked.record) if asked.record else _shipped()
    source = with_leads(source, source.leads[:2])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "holter.hea"
        convert(tiled(source, asked.hours), path)
        # the first window pays for what is imported and built once
        used = predictor(source.leads)
        used.predict(source)
        cost, _ = measure(used, path)
    console.print(
        f"{cost.hours:.2f} h at {source.rate:g} Hz, {len(source.leads)} leads, {cost.windows} windows: "
        f"{cost.cpu_seconds:.1f} s cpu, {cost.times_real_time:,.0f}x real time, {cost.mebibytes:.0f} MiB more memory"
    )


def _shipped() -> Recording:
    """The real ECG that comes with pydicom."""
    path = real_ecg()
    if path is None:
        raise InputError("pydicom's ECG is not there. Pass --record FILE")
    return read_recording(path)


if __name__ == "__main__":
    main()
