"""CSV, TSV, Parquet and NumPy: what they say, what must be declared, and what is wrong."""

import re

import numpy as np
import pandas as pd
import pytest
from helixwave.errors import InputError
from helixwave_domains.ecg.formats.arrays import Archive, Array
from helixwave_domains.ecg.formats.channels import Declared, millivolts
from helixwave_domains.ecg.formats.tables import Parquet, Table

ALL = {"units": "uV", "rate": 250, "leads": ["I", "II"]}
SIGNAL = np.array([[1, 2, 3, 4], [-1, -2, -3, -4]])


@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("mV", 1),
        ("mv", 1),
        ("uV", 1e-3),
        ("µV", 1e-3),
        ("μV", 1e-3),
        ("Microvolts", 1e-3),
        ("V", 1e3),
        ("nV", 1e-6),
        ("4.88uV", 0.00488),
        ("1e-4 V", 0.1),
        ("mmHg", None),
        ("", None),
        ("1", None),
    ],
)
def test_units(unit, scale):
    assert millivolts(unit) == (scale if scale is None else pytest.approx(scale))


@pytest.mark.parametrize(
    "text",
    [
        "time (s),V1 (uV),I (mV)\n0.000,500,1\n0.004,1000,2\n0.008,,3\n",
        "time_ms\tV1 [uV]\tI [mV]\n".replace("time_ms", "t (ms)") + "0\t500\t1\n4\t1000\t2\n8\tnan\t3\n",
        "Time;V1 (uV);ECG I (mV)\n0,000;500,0;1\n0,004;1000;2\n0,008;;3\n",
        "\ufefftime (s), V1 (uV), I (mV)\n0.000, 500, 1\n0.004, 1000, 2\n0.008, , 3\n",
    ],
    ids=["commas", "tabs", "decimal commas", "spaces and a byte order mark"],
)
def test_a_table_that_says_everything(tmp_path, text):
    path = tmp_path / "ecg.csv"
    path.write_text(text)
    assert Table().recognises(path, path.read_bytes())
    found = Table().read(path, Declared())
    assert (found.leads, found.rate, found.n_sample) == (("I", "V1"), 250, 3)
    np.testing.assert_allclose(found.signal, [[1, 2, 3], [0.5, 1, np.nan]])


def test_a_table_of_numbers_alone_needs_everything_declared(tmp_path):
    path = tmp_path / "ecg.csv"
    path.write_text("1,-1\n2,-2\n3,-3\n4,-4\n")
    assert Table().recognises(path, path.read_bytes())
    found = Table().read(path, Declared(**ALL))
    assert (found.leads, found.rate, found.units) == (("I", "II"), 250, ("uV (declared)",) * 2)
    np.testing.assert_allclose(found.signal, SIGNAL / 1000)
    for left_out in ALL:
        with pytest.raises(InputError, match=f"Pass --{left_out}"):
            Table().read(path, Declared(**{key: value for key, value in ALL.items() if key != left_out}))


def test_a_table_of_something_else_is_no_ecg(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("name,age\na,1\n")
    assert not Table().recognises(path, path.read_bytes())
    assert not Table().recognises(tmp_path / "notes.txt", b"1,2\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty, expected a head of names and rows of numbers"),
        ("I (mV)\n", "it has no rows"),
        ("time,I (mV)\n0,1\n1,x\n", "row 3, column 'I (mV)' is 'x', expected a number"),
        ("time,I (mV)\n0,1\n1,2\n3,3\n4,3\n", "the times are not even (from row 3 on)"),
        ("time,I (mV)\n0,1\n0,2\n", "the times are not even"),
        ("time,I\n0,1\n1,2\n", "I has no units. Pass --units"),
        ("I (mV),II (mV)\n1,2\n", "it does not say its sampling rate. Pass --rate"),
    ],
)
def test_tables_that_are_wrong(tmp_path, text, message):
    path = tmp_path / "ecg.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        Table().read(path, Declared())


def test_parquet(tmp_path):
    path = tmp_path / "ecg.parquet"
    pd.DataFrame({"time": [0, 0.5, 1], "II": [1, 2, None], "I": [3, 4, 5]}).to_parquet(path)
    assert Parquet().recognises(path, path.read_bytes())
    found = Parquet().read(path, Declared(units="mV"))
    assert (found.leads, found.rate) == (("I", "II"), 2)
    np.testing.assert_allclose(found.signal, [[3, 4, 5], [1, 2, np.nan]])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="not readable as Parquet"):
        Parquet().read(path, Declared())


@pytest.mark.parametrize("signal", [SIGNAL.astype("<i2"), SIGNAL.T, SIGNAL.astype(">f4")])
def test_arrays_either_way(tmp_path, signal):
    path = tmp_path / "ecg.npy"
    np.save(path, signal)
    found = Array().read(path, Declared(**ALL))
    np.testing.assert_allclose(found.signal, SIGNAL / 1000)
    np.testing.assert_allclose(found.load(1, 3), SIGNAL[:, 1:3] / 1000)


def test_one_lead_needs_one_axis(tmp_path):
    path = tmp_path / "ecg.npy"
    np.save(path, SIGNAL[0])
    found = Array().read(path, Declared(units="mV", rate=100, leads=["II"]))
    np.testing.assert_allclose(found.signal, SIGNAL[:1])


@pytest.mark.parametrize(
    ("signal", "declared", "message"),
    [
        (SIGNAL, {}, "the 2 channels have no names. Pass --leads with 2 names"),
        (SIGNAL, {**ALL, "leads": ["I", "II", "V1"]}, "shape [2, 4], none of which are the 3 leads"),
        (SIGNAL, {**ALL, "units": "furlong"}, "I is in 'furlong', expected mV, uV, V"),
        (SIGNAL, {**ALL, "rate": -1}, "the sampling rate is -1 Hz, expected more than 0"),
        (SIGNAL[None], ALL, "shape [1, 2, 4], expected [leads, samples]"),
        (np.zeros((0, 2)), ALL, "shape [0, 2], expected [leads, samples]"),
        (np.zeros((70, 70)), {}, "shape [70, 70], expected [leads, samples]"),
        (SIGNAL * 1j, ALL, "of type complex128, expected numbers"),
        (np.array(["a"]), ALL, "of type <U1, expected numbers"),
    ],
)
def test_arrays_that_are_wrong(tmp_path, signal, declared, message):
    path = tmp_path / "ecg.npy"
    np.save(path, signal)
    with pytest.raises(InputError, match=re.escape(message)):
        Array().read(path, Declared(**declared))


def test_pickled_arrays_are_refused(tmp_path):
    path = tmp_path / "ecg.npy"
    np.save(path, np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match="not readable as NumPy"):
        Array().read(path, Declared(**ALL))


def test_archives(tmp_path):
    path = tmp_path / "ecg.npz"
    np.savez(path, signal=SIGNAL.T, rate=250, leads=["V1", "I"], units=["uV", "mV"])
    found = Archive().read(path, Declared())
    assert (found.leads, found.rate, found.labels) == (("I", "V1"), 250, None)
    np.testing.assert_allclose(found.signal, [SIGNAL[1], SIGNAL[0] / 1000])
    np.savez(path, ecg=SIGNAL)
    with pytest.raises(InputError, match="it has ecg, expected an array named signal"):
        Archive().read(path, Declared())
