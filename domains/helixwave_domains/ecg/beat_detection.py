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
# seconds that are looked through at a time, and what is read around them
_PIECE, _AROUND = 300.0, 10.0
# seconds after a beat in which no other can begin
_REFRACTORY = 0.15
# codes of WFDB that stand for a beat
_BEATS = frozenset("NLRBAaJSVrFejnE/fQ?")
# preferred, as R stands out in it
_LEAD = "II"


def detect(lead: NDArray[np.float32], rate: float) -> NDArray[np.int64]:
    """Samples of the R peaks of one lead `[T]` in millivolts; none where nothing beats.

    NaN is read as the lead's median. Source: the gradient method of Makowski et al., "NeuroKit2: A Python toolbox for
    neurophysiological signal processing", 2021.

    Raises:
        InputError: NeuroKit2 is not there.
    """
    known = lead[~np.isnan(lead)]
    if len(known) < _LEAST * rate or known.std() < _LEAST_SPREAD:
        return np.empty(0, dtype=np.int64)
    filled = np.nan_to_num(lead, nan=float(np.median(known))).astype(np.float64)
    neurokit = neurokit2()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cleaned = neurokit.ecg_clean(filled, sampling_rate=round(rate))
        found = neurokit.ecg_findpeaks(cleaned, sampling_rate=round(rate))["ECG_R_Peaks"]
    return np.unique(np.asarray(found, dtype=np.int64))


def r_peaks(recording: Recording) -> tuple[NDArray[np.int64], str]:
    """Samples of the R peaks of a recording, and where they come from: its annotations, or else the detector.

    Looked for in lead II or, without it, the first lead.

    Raises:
        InputError: NeuroKit2 is needed and not there.
    """
    marked = [mark.sample for mark in recording.annotations if mark.symbol in _BEATS]
    if marked:
        return np.unique(np.array(marked, dtype=np.int64)), "from the annotations of the file"
    place = lead_of_beats(recording.leads)
    return _detected(recording, place), f"found in lead {recording.leads[place]} by NeuroKit2"


def _detected(recording: Recording, place: int) -> NDArray[np.int64]:
    """R peaks of a lead, looked for in pieces with what is around them, so that a day takes no more memory."""
    step, around = (round(seconds * recording.rate) for seconds in (_PIECE, _AROUND))
    found = []
    for start in range(0, recording.n_sample, step):
        first = max(start - around, 0)
        lead = recording.load(first, min(start + step + around, recording.n_sample))[place]
        peaks = detect(lead, recording.rate) + first
        found.append(peaks[(peaks >= start) & (peaks < start + step)])
    peaks = np.concatenate([np.empty(0, dtype=np.int64), *found])
    # a peak at a border may have been seen a little further by either side
    return peaks[np.diff(peaks, prepend=-recording.n_sample) > _REFRACTORY * recording.rate]


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
