"""Leads: what files call them, which follow from others, and how recordings are brought to the leads of a model."""

from pathlib import Path

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.ecg.leads import (
    LEADS,
    canonical_lead,
    expect_leads,
    lead_number,
    missing_leads,
    order_leads,
    with_leads,
)
from helixwave_domains.ecg.recording import Recording, held


def made(leads: tuple[str, ...], signal: np.ndarray) -> Recording:
    """A recording of these leads at 100 Hz."""
    units = ("mV (header)",) * len(leads)
    return Recording(leads, 100.0, signal.shape[1], held(signal.astype(np.float32)), Path("ecg"), "test", leads, units)


def twelve() -> Recording:
    """Twelve leads of noise whose limb leads obey Einthoven's and Goldberger's equations."""
    signal = np.random.default_rng(0).normal(size=(12, 50)).astype(np.float32)
    one, two = signal[0], signal[1]
    signal[2], signal[3], signal[4], signal[5] = two - one, -(one + two) / 2, one - two / 2, two - one / 2
    return made(LEADS, signal)


@pytest.mark.parametrize(
    ("name", "lead"),
    [
        *[(lead, lead) for lead in LEADS],
        *[(lead.lower(), lead) for lead in LEADS],
        *[(f"MDC_ECG_LEAD_{lead.upper()}", lead) for lead in LEADS],
        *[(f"Lead {lead} (Einthoven)", lead) for lead in LEADS],
        ("MLII", "II"),
        ("ECG I", "I"),
        ("EKG II", "II"),
        ("ECG LEAD V1", "V1"),
        (" Lead  III ", "III"),
        ("LeadII", "II"),
        ("ECG_aVF", "aVF"),
        ("LeadV3", "V3"),
        ("AVR", "aVR"),
        ("DI", "I"),
        ("DIII", "III"),
        ("2:1", "I"),
        ("2:61", "III"),
        ("2:62", "aVR"),
        ("2:8", "V6"),
        ("5.6.3-9-1", "I"),
        ("5.6.3-9-64", "aVF"),
    ],
)
def test_names_of_the_standard_leads(name, lead):
    assert canonical_lead(name) == lead


@pytest.mark.parametrize("name", ["-aVR", "aVR-", "VR", "V7", "V3R", "ECG", "ECG1", "", "2:9", "resp", "I-II", "CM5"])
def test_other_names_are_no_standard_leads(name):
    assert canonical_lead(name) is None


def test_leads_are_ordered_and_each_is_read_once():
    places, leads, notes = order_leads(["resp", "V2", "MLII", "I", "II"])
    assert (places, leads) == ([3, 2, 1, 0], ("I", "II", "V2", "resp"))
    assert notes == [
        "MLII is taken for lead II",
        "II (channel 5) is lead II once more: only channel 3 is read",
    ]


def test_channels_of_one_unknown_name_are_told_apart():
    assert order_leads(["ECG", "ECG", "V1"]) == ([2, 0, 1], ("V1", "ECG", "ECG (channel 2)"), [])


def test_numbers_of_leads():
    assert [lead_number(lead) for lead in ("I", "III", "aVR", "V1", "ECG")] == [1, 61, 62, 3, None]
    assert all(canonical_lead(f"2:{lead_number(lead)}") == lead for lead in LEADS)


@pytest.mark.parametrize(
    ("leads", "message"),
    [
        ([], "preprocessing.leads is empty, expected at least one of I, II"),
        (["I", "AVR"], "preprocessing.leads: no lead named 'AVR'. Did you mean 'aVR'?"),
        (["I", "V1", "I"], "preprocessing.leads: I stands there 2 times, expected once"),
    ],
)
def test_leads_of_a_model_are_checked(leads, message):
    with pytest.raises(InputError, match="^" + message.replace(".", r"\.").replace("?", r"\?")):
        expect_leads("preprocessing.leads", leads)


@pytest.mark.parametrize("pair", [(a, b) for i, a in enumerate(LEADS[:6]) for b in LEADS[i + 1 : 6]], ids="-".join)
def test_limb_leads_follow_from_any_two(pair):
    whole = twelve()
    part = made(pair, whole.signal[[LEADS.index(lead) for lead in pair]])
    assert missing_leads(part, LEADS) == list(LEADS[6:])
    limb = with_leads(part, LEADS[:6])
    np.testing.assert_allclose(limb.signal, whole.signal[:6], atol=2e-6)
    np.testing.assert_allclose(limb.load(7, 31), whole.signal[:6, 7:31], atol=2e-6)
    assert limb.names.count("computed") == 4
    assert limb.notes[-1].endswith(f"computed from {' and '.join(pair)}")


def test_reordering_changes_no_value():
    whole = twelve()
    wanted = LEADS[::-1]
    assert with_leads(whole, LEADS) is whole
    turned = with_leads(whole, wanted)
    np.testing.assert_array_equal(turned.signal, whole.signal[::-1])
    assert turned.leads == turned.names == wanted


def test_missing_leads_are_refused_or_missing_values():
    whole = twelve()
    part = made(("II", "V1"), whole.signal[[1, 6]])
    assert missing_leads(part, ["I", "II", "V1", "V2"]) == ["I", "V2"]
    with pytest.raises(InputError, match=r"^ecg: it has no leads I, V2, only II, V1\. Pass --missing-leads zero"):
        with_leads(part, ["I", "II", "V1", "V2"])
    filled = with_leads(part, ["I", "II", "V1", "V2"], missing="zero")
    assert np.isnan(filled.signal[[0, 3]]).all()
    np.testing.assert_array_equal(filled.signal[1:3], part.signal)
    assert filled.units == ("missing", "mV (header)", "mV (header)", "missing")


def test_a_missing_value_does_not_spread_to_other_leads():
    whole = twelve()
    signal = whole.signal.copy()
    signal[6, 3] = np.nan
    turned = with_leads(made(LEADS, signal), ("V2", "V1", "III"))
    assert np.isnan(turned.signal).sum() == 1
