"""What is printed of files, for people and for programs."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helixwave_domains.ecg.conversion import convert
from helixwave_domains.ecg.formats import Declared
from helixwave_domains.ecg.info import show_info
from helixwave_domains.ecg.recording import held

from tests.domains.ecg.written_formats import small_recording


@pytest.fixture
def folder(tmp_path):
    """A record with a flat lead, a broken one, and a file that is no ECG."""
    signal = small_recording().signal.copy()
    signal[1] = 0
    convert(replace(small_recording(), load=held(signal)), tmp_path / "good.hea")
    (tmp_path / "broken.hea").write_text("broken 1 100 9\nbroken.dat 16 [1]\n")
    (tmp_path / "readme.md").write_text("# ECGs\n")
    return tmp_path


def test_people_read_all_that_is_known(folder, capsys):
    assert not show_info([folder])
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for line in (
        "format WFDB",
        "length 10 s, 1000 samples at 100 Hz",
        "units uV (header)",
        "labels 426783006",
        'marks + (AFIB 1, N 1, " a remark 1',
        "age 61",
        "sex female",
        f"skipped, no ECG: {folder}/readme.md",
    ):
        assert line in lines
    assert any(line.startswith("V2 V2 uV 0.00 0.0 10.00 0 0.000 flat") for line in lines)
    assert f"{folder}/broken.hea: 'broken.dat 16 [1]' names no channel" in out


def test_programs_read_a_line_a_file(folder, capsys):
    assert not show_info([folder], as_json=True)
    broken, good = map(json.loads, capsys.readouterr().out.splitlines())
    assert set(broken) == {"file", "error"}
    assert (good["rate"], good["samples"], good["labels"]) == (100, 1000, ["426783006"])
    assert [(lead["lead"], lead["units"], lead["flags"]) for lead in good["leads"]] == [
        ("I", "uV (header)", []),
        ("V2", "uV (header)", ["flat"]),
    ]
    assert good["annotations"] == {"+ (AFIB": 1, "N": 1, '" a remark': 1}


def test_what_is_not_a_number_is_null(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.full((1, 500), np.nan))
    assert show_info([tmp_path / "a.npy"], Declared("mV", 100, ["I"]), as_json=True)
    assert json.loads(capsys.readouterr().out)["leads"][0]["amplitude"] is None


def test_notes_and_declared_units_are_shown(tmp_path, capsys):
    np.save(tmp_path / "a.npy", small_recording().signal)
    assert show_info([tmp_path / "a.npy"], Declared("mV", 100, ["MLII", "V2"]))
    out = capsys.readouterr().out
    assert "MLII is taken for lead II" in out
    assert "mV (declared)" in out
