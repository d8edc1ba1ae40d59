"""Each finding on signals made for it, and none of the absurd ones on real records."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helixwave_domains.ecg import quality
from helixwave_domains.ecg.formats import find_recordings, read_recording
from helixwave_domains.ecg.quality import assess
from helixwave_domains.ecg.recording import Recording, held

RATE = 250.0
TIME = np.arange(round(40 * RATE)) / RATE


def heart(noise: float = 0.005) -> np.ndarray:
    """Beats of 1 mV once a second with a little noise."""
    beats = np.exp(-(((TIME % 1) - 0.5) ** 2) / (2 * 0.02**2)) + 0.2 * np.exp(
        -(((TIME % 1) - 0.75) ** 2) / (2 * 0.05**2)
    )
    return beats + np.random.default_rng(0).normal(0, noise, len(TIME))


def recording(signal: np.ndarray, rate: float = RATE) -> Recording:
    signal = np.atleast_2d(signal).astype(np.float32)
    leads = ("II", "V5")[: len(signal)]
    return Recording(leads, rate, signal.shape[1], held(signal), Path("ecg"), "test", leads, ("mV",) * len(leads))


def of(signal: np.ndarray, rate: float = RATE) -> quality.LeadQuality:
    return assess(recording(signal, rate))["II"]


def test_a_good_lead_has_no_flag():
    found = of(heart())
    assert found.flags == ()
    assert (found.missing, found.flat, found.saturated, found.outside) == (0, 0, 0, 0)
    assert found.amplitude == pytest.approx(1, abs=0.05)


def test_missing_values():
    signal = heart()
    signal[10:110] = np.nan
    found = of(signal)
    assert found.flags == ("missing values",)
    assert found.missing == 100 / len(signal)


def test_a_lead_without_a_value_is_missing_and_nothing_else():
    found = of(np.full(len(TIME), np.nan))
    assert (found.flags, found.missing) == (("missing values",), 1)
    assert np.isnan(found.amplitude)


def test_flat():
    signal = heart()
    signal[500:750] = signal[500]
    signal[2000:2200] = 0.3
    found = of(signal)
    # 250 samples are the second that is asked for, 200 are not
    assert found.flags == ("flat",)
    assert (found.flat, found.longest_flat) == (250 / len(signal), 1)
    whole = of(np.zeros(len(TIME)))
    assert (whole.flags, whole.flat, whole.longest_flat) == (("flat",), 1, 40)


@pytest.mark.parametrize("sign", [1, -1])
def test_saturated(sign):
    signal = np.clip(heart(), None, 0.6)
    runs = np.split(signal, np.flatnonzero(np.diff(signal == 0.6)) + 1)
    expected = sum(len(run) for run in runs if run[0] == 0.6 and len(run) >= 5)
    found = of(sign * signal)
    assert found.flags == ("saturated",)
    assert found.saturated == expected / len(signal) > 0


def test_out_of_range():
    signal = heart()
    signal[700] = 10.5
    signal[900] = -11
    found = of(signal)
    assert found.flags == ("out of range",)
    assert found.outside == 2 / len(signal)


@pytest.mark.parametrize(
    ("factor", "flags"), [(1e-3, {"wrong unit suspected"}), (1e3, {"wrong unit suspected", "out of range"})]
)
def test_wrong_unit(factor, flags):
    assert set(of(heart() * factor).flags) - {"50 Hz hum", "60 Hz hum"} == flags


def test_an_offset_of_the_electrodes_is_no_wrong_unit():
    assert of(heart() + 8).flags == ()


def test_too_short():
    found = of(heart()[:499])
    assert "too short" in found.flags
    assert "too short" not in of(heart()[:500]).flags


def test_baseline_wander_is_the_share_of_its_power():
    slow = np.sin(2 * np.pi * 0.25 * TIME)
    fast = np.sin(2 * np.pi * 5 * TIME)
    for weight in (0.5, 1, 2):
        assert of(weight * slow + fast).wander == pytest.approx(weight**2 / (weight**2 + 1), abs=0.01)
    assert of(heart() + 1.5 * slow).flags == ("baseline wander",)


@pytest.mark.parametrize("frequency", [50, 60])
@pytest.mark.parametrize("amplitude", [0.03, 0.2])
def test_hum_is_its_amplitude(frequency, amplitude):
    found = of(heart() + amplitude * np.sin(2 * np.pi * (frequency + 0.02) * TIME))
    assert found.flags == (f"{frequency} Hz hum",)
    assert found.hum_frequency == frequency
    assert found.hum == pytest.approx(amplitude, rel=0.1)


def test_hum_that_does_not_show_is_no_flag():
    assert of(heart() + 0.01 * np.sin(2 * np.pi * 50 * TIME)).flags == ()
    # 100 Hz cannot tell 50 Hz from anything
    assert of(heart()[::3], 100).hum == 0


def test_pieces_do_not_change_what_is_found(monkeypatch):
    signal = heart()
    signal[1990:2260] = 0.1
    signal[3000:3100] = np.nan
    signal = np.stack([np.clip(signal, -1, 0.7), signal + np.sin(TIME)])
    whole = assess(recording(signal))
    read = []

    def load(start, stop):
        read.append(stop - start)
        return signal[:, start:stop].astype(np.float32)

    monkeypatch.setattr(quality, "_BLOCK", 1)
    parts = assess(replace(recording(signal), load=load))
    assert max(read) == 8 * RATE
    for lead, found in whole.items():
        assert parts[lead].flags == found.flags
        for name in ("missing", "flat", "longest_flat", "saturated", "outside", "amplitude"):
            assert getattr(parts[lead], name) == getattr(found, name)
        assert parts[lead].wander == pytest.approx(found.wander)


def test_real_records_have_none_of_the_absurd_flags(data_folder):
    found = find_recordings(
        [
            data_folder / "cpsc2021_sample",
            data_folder / "ecg_formats",
            *sorted((data_folder / "cinc2021_sample").glob("*.hea"))[::4],
        ]
    )
    flags = [set(lead.flags) for path in found.paths for lead in assess(read_recording(path)).values()]
    assert len(flags) > 200
    assert not set().union(*flags) & {"wrong unit suspected", "too short", "missing values", "saturated"}
    assert sum("flat" in flag for flag in flags) <= 6


def test_leads_of_zeros_are_found(data_folder):
    found = assess(read_recording(data_folder / "cinc2021_sample/JS20004.hea"))
    assert [lead for lead, lead_quality in found.items() if "flat" in lead_quality.flags] == ["V2", "V4", "V6"]
