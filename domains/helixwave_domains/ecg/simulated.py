"""Simulated rhythms as a data set that needs no file, and the real ECG that comes with pydicom to look at."""

import importlib.util
from pathlib import Path
from typing import Any, Literal

import numpy as np
from helixwave.data import Picture
from helixwave.data.splits import PARTS
from helixwave.errors import InputError
from helixwave.files import write_table

from helixwave_domains.ecg.formats import read_recording
from helixwave_domains.ecg.records import Labelled, RecordData, read_as
from helixwave_domains.ecg.simulated_rhythms import RHYTHMS, simulate

_REAL = "data/test_files/waveform_ecg.dcm"


class SimulatedECG(RecordData):
    """Six rhythms in twelve leads of ten seconds, simulated: what is learnt here is not known to hold for patients.

    The waves are those of McSharry et al., "A dynamical model for generating synthetic electrocardiogram signals",
    2003; rates, heights, noise and the movement of the baseline are drawn anew for each recording.

    Args:
        train, validation, test: recordings of each rhythm.
        seed: of all that is drawn.
        rate: samples a second, a divisor of 1000.
        leads, window, scale, mean, deviation, highpass, lowpass: see `Preprocessing`; leads also as a number, constants
            that are null are those of all training samples.
        stride: seconds between the crops that are evaluated; null: one after the other.
    """

    def __init__(
        self,
        *,
        train: int = 80,
        validation: int = 20,
        test: int = 40,
        seed: int = 0,
        rate: float = 100.0,
        leads: list[str] | int = 12,
        window: float = 10.0,
        scale: Literal["window", "constants", "none"] = "window",
        mean: float | None = None,
        deviation: float | None = None,
        highpass: float | None = None,
        lowpass: float | None = None,
        stride: float | None = None,
    ):
        counts = dict(zip(PARTS, (train, validation, test), strict=True))
        if min(counts.values()) < 1:
            raise InputError(f"data: {counts}, expected at least one recording of each rhythm")
        if 1000 % rate:
            raise InputError(f"data: rate is {rate:g}, expected a divisor of 1000 such as 100, 200, 250 or 500")
        reading = read_as(
            rate=rate,
            leads=leads,
            window=window,
            scale=scale,
            mean=mean,
            deviation=deviation,
            highpass=highpass,
            lowpass=lowpass,
            stride=stride,
        )
        parts = {
            part: [_simulated(seed, place, kind, i, int(rate)) for kind in range(len(RHYTHMS)) for i in range(count)]
            for place, (part, count) in enumerate(counts.items())
        }
        super().__init__(list(RHYTHMS), parts, reading, facts={"origin": "simulated, no patients"})

    def export(self, model: Any, folder: Path) -> list[Picture]:
        """Also the page and the probabilities of a real ECG, the one that comes with pydicom."""
        pictures = super().export(model, folder)
        real = real_ecg()
        return pictures if real is None else [*pictures, _page(model, real, folder)]


def real_ecg() -> Path | None:
    """The DICOM file of an ECG that comes with pydicom; None: it is not there."""
    found = importlib.util.find_spec("pydicom")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / _REAL
    return path if path.is_file() else None


def _simulated(seed: int, part: int, kind: int, number: int, rate: int) -> Labelled:
    name = list(RHYTHMS)[kind]
    recording = simulate(name, np.random.default_rng((seed, part, kind, number)), rate)
    return Labelled(f"simulated {name} {number}", lambda: recording, kind)


def _page(model: Any, path: Path, folder: Path) -> Picture:
    """What the model says of a real ECG."""
    from helixwave_domains.ecg.prediction_page import draw_prediction
    from helixwave_domains.ecg.predictor import Predictor, Serving
    from helixwave_domains.ecg.quality import assess

    recording = read_recording(path)
    predictor = Predictor(model, Serving(resample=True, missing_leads="zero"))
    prediction = predictor.predict(recording)
    found = prediction.probabilities
    write_table(folder / "real_ecg.tsv", {"rhythm": found, "probability": found.values()})
    caption = (
        "The only real ECG here, a test file of pydicom, read by the model of this run, which knows simulated rhythms "
        "alone: it shows how a page looks and says nothing of the patient."
    )
    return Picture("A real ECG", caption, draw_prediction(predictor, prediction, assess(recording)))
