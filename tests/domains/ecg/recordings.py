"""Recordings for tests."""

from pathlib import Path

import numpy as np
from helixwave_domains.ecg.recording import Recording, held


def recording_of(signal, leads=("I", "II"), rate=500.0, **more):
    """A recording in memory."""
    signal = np.asarray(signal, dtype=np.float32)
    facts = {
        "source": Path("test.hea"),
        "format": "WFDB",
        "names": tuple(leads),
        "units": ("mV (header)",) * len(leads),
    }
    return Recording(tuple(leads), rate, signal.shape[1], held(signal), **{**facts, **more})
