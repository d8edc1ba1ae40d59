"""A recording whose values every format keeps exactly, and the formats."""

from pathlib import Path

import numpy as np
from helixwave_domains.ecg.recording import Annotation, Recording, held

FORMATS = (".csv", ".dcm", ".edf", ".hea", ".npz", ".parquet", ".tsv")


def small_recording(**more) -> Recording:
    """Two leads of 10 s in whole microvolts, with everything that a recording can have."""
    signal = np.round(np.random.default_rng(3).normal(0, 0.5, (2, 1000)), 3).astype(np.float32)
    facts = {
        "leads": ("I", "V2"),
        "rate": 100.0,
        "n_sample": 1000,
        "load": held(signal),
        "source": Path("small"),
        "format": "test",
        "names": ("I", "V2"),
        "units": ("mV (header)",) * 2,
        "annotations": (Annotation(3, "+", "(AFIB"), Annotation(20, "N"), Annotation(500, '"', "a remark")),
        "labels": ("426783006",),
        "facts": {"age": 61.0, "sex": "female"},
    }
    return Recording(**{**facts, **more})
