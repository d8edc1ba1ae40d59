"""R peaks of a recording, by NeuroKit2. Only this file imports it."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.ecg.recording import Recording

# a lead that moves less holds no beats, in millivolts
_LEAST_SPREAD = 0.01
# seconds that a detector needs to find out what a beat is
_LEAST = 2.0
# preferred, as R stands out in it
_LEAD = "II"


def r_peaks(signal: NDArray[np.float32], rate: float) -> NDArray[np.int64]:
    """Samples of the R peaks of one lead `[T]` in millivolts; none where nothing beats.

    NaN is read as the lead's median. Source: the gradient method of Makowski et al., "NeuroKit2: A Python toolbox for
    neurophysiological signal processing", 2021.

    Raises:
        InputError: NeuroKit2 is not there.
    """
    known = signal[~np.isnan(signal)]
    if len(known) < _LEAST * rate or known.std() < _LEAST_SPREAD:
        return np.empty(0, dtype=np.int64)
    lead = np.nan_to_num(signal, nan=float(np.median(known))).astype(np.float64)
    neurokit = neurokit2()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cleaned = neurokit.ecg_clean(lead, sampling_rate=round(rate))
        found = neurokit.ecg_findpeaks(cleaned, sampling_rate=round(rate))["ECG_R_Peaks"]
    return np.unique(np.asarray(found, dtype=np.int64))


def beats_of(recording: Recording) -> NDArray[np.int64]:
    """Samples of the R peaks of a recording, in lead II or, without it, its first lead."""
    return r_peaks(recording.signal[lead_of_beats(recording.leads)], recording.rate)


def lead_of_beats(leads: Sequence[str]) -> int:
    """The place of the lead in which beats are looked for."""
    return leads.index(_LEAD) if _LEAD in leads else 0


def neurokit2() -> Any:
    """The package.

    Raises:
        InputError: it is not there.
    """
    try:
        import neurokit2 as package
    except ImportError as error:
        raise InputError("finding or simulating beats needs NeuroKit2: pip install 'helixwave[ecg]'") from error
    return package
