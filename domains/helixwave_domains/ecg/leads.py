"""Names of leads: what files call them, which follow from others, and the sets that models read."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from helixwave.errors import InputError, nearest

from helixwave_domains.ecg.recording import Recording, Signal

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The twelve standard leads in the order in which recordings and models have them."""

LEAD_SETS: dict[int, tuple[str, ...]] = {
    12: LEADS,
    6: LEADS[:6],
    4: ("I", "II", "III", "V2"),
    3: ("I", "II", "V2"),
    2: ("I", "II"),
    1: ("I",),
}
"""The reduced sets of the PhysioNet/CinC Challenge 2021, and a single lead."""

# Einthoven's and Goldberger's equations: each limb lead from I and II
_LIMB = {
    "I": (1.0, 0.0),
    "II": (0.0, 1.0),
    "III": (-1.0, 1.0),
    "aVR": (-0.5, -0.5),
    "aVL": (1.0, -0.5),
    "aVF": (-0.5, 1.0),
}

# an adapted position of the electrodes on the trunk, as in Holter recordings
_MODIFIED = {"MLI": "I", "MLII": "II", "MLIII": "III"}
_NAMES = {lead.upper(): lead for lead in LEADS} | _MODIFIED | {"DI": "I", "DII": "II", "DIII": "III"}
# the codes of ISO/IEEE 11073-10102 (`2:1`) and of SCP-ECG (`5.6.3-9-1`), which number the leads alike
_NUMBERS = {number: lead for lead, number in zip(LEADS, (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8), strict=True)}
_CODE = re.compile(r"(?:2:|5\.6\.3-9-)(\d+)")
# what may stand before and behind the name of a lead: `MDC_ECG_LEAD_I`, `ECG I`, `Lead I (Einthoven)`
_PREFIX = re.compile(r"^(?:MDC_ECG_LEAD_|(?:ECG|EKG|LEAD)(?:[\s:_]+|(?=[IVA])))+")
_SUFFIX = re.compile(r"\s*\([^()]*\)$")


def canonical_lead(name: str) -> str | None:
    """The standard lead that a file calls `name`, such as `aVR` for `MDC_ECG_LEAD_AVR`; None for any other name.

    Unaugmented limb leads (`VR`), inverted ones (`-aVR`) and chest leads at other places are no standard leads.
    """
    plain = " ".join(name.split()).upper()
    code = _CODE.fullmatch(plain)
    if code:
        return _NUMBERS.get(int(code[1]))
    return _NAMES.get(_PREFIX.sub("", _SUFFIX.sub("", plain)))


def lead_number(lead: str) -> int | None:
    """The number of a standard lead in ISO/IEEE 11073-10102, as in 61 for III; None for any other lead."""
    return next((number for number, known in _NUMBERS.items() if known == lead), None)


def expect_leads(where: str, leads: Sequence[str]) -> None:
    """Raise InputError unless `leads` are standard ones, each once, and at least one."""
    if not leads:
        raise InputError(f"{where} is empty, expected at least one of {', '.join(LEADS)}")
    for lead in leads:
        if lead not in LEADS:
            raise InputError(f"{where}: no lead named {lead!r}. {nearest(lead, LEADS)}")
    twice = [lead for lead in LEADS if list(leads).count(lead) > 1]
    if twice:
        raise InputError(f"{where}: {twice[0]} stands there {list(leads).count(twice[0])} times, expected once")


def order_leads(names: Sequence[str]) -> tuple[list[int], tuple[str, ...], list[str]]:
    """In which order a recording has the leads that a file calls `names`.

    Returns:
        the places in `names`, standard leads first and in their order; what these are called; notes on what was taken
        for granted: a lead that is there twice is read once, its first time.
    """
    notes: list[str] = []
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        lead = canonical_lead(name) or name
        if lead in places and lead not in LEADS:
            lead = f"{name} (channel {place + 1})"
        if lead in places:
            notes.append(
                f"{name} (channel {place + 1}) is lead {lead} once more: only channel {places[lead] + 1} is read"
            )
            continue
        places[lead] = place
        if name.strip().upper() in _MODIFIED:
            notes.append(f"{name} is taken for lead {lead}")
    leads = (*(lead for lead in LEADS if lead in places), *(lead for lead in places if lead not in LEADS))
    return [places[lead] for lead in leads], leads, notes


def missing_leads(recording: Recording, wanted: Sequence[str]) -> list[str]:
    """The leads among `wanted` that a recording neither has nor gives by Einthoven's and Goldberger's equations."""
    derivable = _LIMB if len(_limb_pair(recording)) == 2 else ()
    return [lead for lead in wanted if lead not in recording.leads and lead not in derivable]


def with_leads(recording: Recording, wanted: Sequence[str], missing: Literal["error", "zero"] = "error") -> Recording:
    """The same recording with the leads `wanted`, in this order; limb leads follow from any two others.

    Args:
        recording: with the leads of its file.
        wanted: names of leads.
        missing: leads that are not there are an error, or NaN, which models read as zeros.

    Raises:
        InputError: a lead is neither there nor follows from others.
    """
    lost = missing_leads(recording, wanted)
    if lost and missing == "error":
        raise InputError(
            f"{recording.source}: it has no {_listed(lost)}, only {', '.join(recording.leads)}."
            " Pass --missing-leads zero to read zeros instead (in Python: missing_leads='zero', in a recipe: "
            "data.missing_leads=zero)"
        )
    if tuple(wanted) == recording.leads:
        return recording
    pair = _limb_pair(recording)
    made = [lead for lead in wanted if lead not in recording.leads and lead not in lost]
    notes = list(recording.notes)
    if made:
        notes.append(f"{_listed(made)} computed from {' and '.join(pair)}")
    if lost:
        notes.append(f"no {_listed(lost)} in the file: missing values")
    return replace(
        recording,
        leads=tuple(wanted),
        load=_Mixed(recording, _mixing(recording.leads, wanted, pair)),
        names=tuple(_from_file(recording, recording.names, lead, made) for lead in wanted),
        units=tuple(_from_file(recording, recording.units, lead, made) for lead in wanted),
        notes=tuple(notes),
    )


class _Mixed:
    """Leads that are weighted sums of those of a recording; a lead without a weight is missing."""

    def __init__(self, recording: Recording, weights: Signal):
        self.recording, self.weights = recording, weights

    def __call__(self, start: int, stop: int) -> Signal:
        signal = self.recording.load(start, stop)
        mixed = np.full((len(self.weights), signal.shape[1]), np.nan, np.float32)
        for row, weights in zip(mixed, self.weights, strict=True):
            used = np.flatnonzero(weights)
            if len(used):
                row[:] = sum(weights[place] * signal[place] for place in used)
        return mixed


def _mixing(leads: Sequence[str], wanted: Sequence[str], pair: Sequence[str]) -> Signal:
    """What each of the wanted leads has of those that are there."""
    weights = np.zeros((len(wanted), len(leads)), np.float32)
    for row, lead in zip(weights, wanted, strict=True):
        if lead in leads:
            row[leads.index(lead)] = 1
        elif lead in _LIMB and len(pair) == 2:
            row[[leads.index(one) for one in pair]] = np.linalg.solve(
                np.array([_LIMB[one] for one in pair]).T, _LIMB[lead]
            )
    return weights


def _limb_pair(recording: Recording) -> tuple[str, ...]:
    """The first two limb leads, from which all others follow."""
    return tuple(lead for lead in _LIMB if lead in recording.leads)[:2]


def _from_file(recording: Recording, texts: Sequence[str], lead: str, made: Sequence[str]) -> str:
    if lead in recording.leads:
        return texts[recording.leads.index(lead)]
    return "computed" if lead in made else "missing"


def _listed(leads: Sequence[str]) -> str:
    return f"{'lead' if len(leads) == 1 else 'leads'} {', '.join(leads)}"
