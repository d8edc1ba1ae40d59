"""WFDB records: every sample against the bytes of the file, and headers as they are found in the wild."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.ecg.formats.channels import Declared
from helixwave_domains.ecg.formats.wfdb_record import WFDB
from helixwave_domains.ecg.leads import LEADS
from helixwave_domains.ecg.recording import Annotation

DIGITS = np.random.default_rng(1).integers(-2000, 2000, (300, 2)).astype("<i2")


def read(path: Path, **declared):
    return WFDB().read(path, Declared(**declared))


def record(folder: Path, lines: str, digits: np.ndarray = DIGITS) -> Path:
    """`rec.hea` of these lines and `rec.dat` of these digits."""
    (folder / "rec.dat").write_bytes(digits.astype("<i2").tobytes())
    (folder / "rec.hea").write_bytes(lines.encode())
    return folder / "rec.hea"


def simple(folder: Path, spec: str = "1000(0)/mV", comments: str = "") -> Path:
    return record(folder, f"rec 2 100 300\nrec.dat 16 {spec} 16 0 0 0 0 I\nrec.dat 16 {spec} 16 0 0 0 0 V2\n{comments}")


@pytest.mark.parametrize("name", ["cinc2021_sample", "cpsc2021_sample"])
def test_records_of_the_challenges_equal_their_bytes(data_folder, name):
    headers = sorted((data_folder / name).glob("*.hea"))
    assert len(headers) == {"cinc2021_sample": 50, "cpsc2021_sample": 10}[name]
    for header in headers:
        lines = header.read_text().splitlines()
        leads, rate, n = map(int, lines[0].split()[1:4])
        specs = [re.split(r"[()/]", line.split()[2]) for line in lines[1 : leads + 1]]
        raw = next(header.with_suffix(end) for end in (".mat", ".dat") if header.with_suffix(end).exists()).read_bytes()
        skipped = 24 if name == "cinc2021_sample" else 0
        digits = np.frombuffer(raw, "<i2", offset=skipped).reshape(n, leads)
        gains, zeros = (np.array([float(spec[place]) for spec in specs]) for place in (0, 1))
        found = read(header)
        assert found.leads == LEADS[:leads]
        assert (found.rate, found.n_sample) == (rate, n)
        assert {unit.lower() for unit in found.units} == {"mv (header)"}
        np.testing.assert_allclose(found.signal, ((digits - zeros) / gains).T, atol=1e-5)
        codes = re.search(r"^#\s*Dx:\s*(\S+)", header.read_text(), re.MULTILINE)
        assert found.labels == (tuple(codes[1].split(",")) if codes else None)


def test_format_212_equals_its_bits(data_folder):
    raw = np.frombuffer((data_folder / "mitdb/100.dat").read_bytes(), np.uint8).astype(int).reshape(-1, 3)
    # two samples of 12 bits in three bytes, the high bits of both in the middle one
    both = np.stack([raw[:, 0] | (raw[:, 1] & 15) << 8, raw[:, 2] | (raw[:, 1] >> 4) << 8])
    expected = (np.where(both > 2047, both - 4096, both) - 1024) / 200
    found = read(data_folder / "mitdb/100")
    assert (found.leads, found.names, found.rate, found.n_sample) == (("II", "V5"), ("MLII", "V5"), 360, 650_000)
    assert "MLII is taken for lead II" in found.notes
    assert found.facts == {"age": 69, "sex": "male"}
    for start, stop in ((0, 3), (101, 102), (311_111, 311_500), (649_990, 650_000), (7, 7)):
        np.testing.assert_allclose(found.load(start, stop), expected[:, start:stop], atol=1e-6)
    assert len(found.annotations) == 2274
    assert found.annotations[:2] == (Annotation(18, "+", "(N"), Annotation(77, "N"))


@pytest.mark.parametrize(
    ("spec", "scale"),
    [
        ("1000(0)/mV", 1),
        ("1000(0)/mv", 1),
        ("1000/mV", 1),
        ("1(0)/uV", 1),
        ("1/µV", 1),
        ("1e6/V", 1),
        ("200", 5),
        ("0", 5),
        ("", 5),
    ],
)
def test_gains_and_units(tmp_path, spec, scale):
    found = read(simple(tmp_path, spec)) if spec else read(record(tmp_path, "rec 2 100\nrec.dat 16\nrec.dat 16\n"))
    np.testing.assert_allclose(found.signal, DIGITS.T / 1000 * scale, rtol=1e-6)
    assert any("has no gain" in note for note in found.notes) == (spec in ("0", ""))


def test_the_baseline_is_the_zero_of_the_converter_unless_it_is_said(tmp_path):
    lines = "rec 2 100\nrec.dat 16 200/mV 11 1024 0 0 0 I\nrec.dat 16 200(100)/mV 11 1024 0 0 0 II\n"
    found = read(record(tmp_path, lines))
    np.testing.assert_allclose(found.signal, (DIGITS - [1024, 100]).T / 200, atol=1e-6)
    assert found.n_sample == 300


def test_missing_samples_are_nan(tmp_path):
    digits = DIGITS.copy()
    digits[5, 1] = -32768
    found = read(record(tmp_path, simple(tmp_path).read_text(), digits)).signal
    assert np.isnan(found[1, 5])
    assert np.isnan(found).sum() == 1


@pytest.mark.parametrize(
    ("comments", "labels", "facts"),
    [
        (
            "# Dx: 426783006,  270492004\n# Age: 61\n# Sex: Female",
            ("426783006", "270492004"),
            {"age": 61, "sex": "female"},
        ),
        ("#Dx: 1\n#Age: NaN\n#Sex: Unknown", ("1",), {}),
        ("# Dx: Unknown", None, {}),
        ("# Dx:", None, {}),
        ("# Name: Jane Doe", None, {}),
        ("", None, {}),
    ],
)
def test_comments(tmp_path, comments, labels, facts):
    found = read(simple(tmp_path, comments=comments))
    assert (found.labels, found.facts) == (labels, facts)


def test_a_record_is_named_by_any_of_its_files(tmp_path):
    import wfdb

    header = simple(tmp_path)
    for ending, sample in (("atr", 10), ("qrs", 20)):
        wfdb.wrann("rec", ending, np.array([sample]), ["N"], fs=100, write_dir=str(tmp_path))
    for name, sample in (("rec.hea", 10), ("rec.dat", 10), ("rec", 10), ("rec.qrs", 20)):
        found = read(tmp_path / name)
        assert found.source == header
        assert found.annotations == (Annotation(sample, "N"),)


def test_channels_of_another_rate_and_other_quantities_are_left_out_and_named(tmp_path):
    lines = (
        "rec 3 50 100\nrec.dat 16x2 1000/mV 16 0 0 0 0 II\nrec.dat 16 100/mmHg 16 0 0 0 0 ABP\n"
        "rec.dat 16x2 10/degC 16 0 0 0 0 Temp\n"
    )
    digits = np.arange(500)
    found = read(record(tmp_path, lines, digits))
    frames = digits.reshape(100, 5)
    assert (found.leads, found.rate, found.n_sample) == (("II",), 100, 200)
    np.testing.assert_allclose(found.load(3, 10), frames[:, :2].reshape(1, -1)[:, 3:10] / 1000)
    assert found.notes == ("ABP is left out: it has another rate", "Temp is left out: no ECG")


def test_segments_and_gaps_are_joined(tmp_path):
    names = {"a": ("I", "II"), "b": ("II",)}
    for name, leads in names.items():
        digits = DIGITS[:100, : len(leads)] + (1 if name == "b" else 0)
        (tmp_path / f"{name}.dat").write_bytes(digits.astype("<i2").tobytes())
        lines = [f"{name}.dat 16 1000/mV 16 0 0 0 0 {lead}" for lead in leads]
        (tmp_path / f"{name}.hea").write_text("\n".join([f"{name} {len(leads)} 100 100", *lines]))
    (tmp_path / "layout.hea").write_text("layout 2 100 0\n~ 0 1000/mV 16 0 0 0 0 I\n~ 0 1000/mV 16 0 0 0 0 II\n")
    (tmp_path / "all.hea").write_text("all/4 2 100 250\nlayout 0\na 100\n~ 50\nb 100\n")
    found = read(tmp_path / "all.hea")
    expected = np.full((2, 250), np.nan)
    expected[:, :100] = DIGITS[:100].T / 1000
    expected[1, 150:] = (DIGITS[:100, 0] + 1) / 1000
    assert (found.leads, found.n_sample) == (("I", "II"), 250)
    assert "2 segments and 1 gaps are joined" in found.notes
    np.testing.assert_allclose(found.signal, expected, rtol=1e-6)
    np.testing.assert_allclose(found.load(90, 160), expected[:, 90:160], rtol=1e-6)


def test_format_8_does_not_depend_on_where_reading_begins(tmp_path):
    steps = np.random.default_rng(2).integers(-9, 9, 300).astype("i1")
    (tmp_path / "rec.dat").write_bytes(steps.tobytes())
    (tmp_path / "rec.hea").write_text("rec 1 100 300\nrec.dat 8 1000/mV 16 0 5 0 0 I\n")
    expected = (5 + np.cumsum(steps, dtype=int)) / 1000
    np.testing.assert_allclose(read(tmp_path / "rec").load(200, 210)[0], expected[200:210], rtol=1e-6)


def test_what_is_declared_counts_more_than_the_header_and_is_noted(tmp_path):
    found = read(simple(tmp_path, "1(0)/mV"), units="uV", rate=250, leads=["V1", "V2"])
    assert (found.leads, found.rate, found.units[0]) == (("V1", "V2"), 250, "uV (declared)")
    np.testing.assert_allclose(found.signal, DIGITS.T / 1000, rtol=1e-6)
    assert set(found.notes) == {
        "I is declared to be lead V1",
        "units uV are declared, the file says mV",
        "a rate of 250 Hz is declared, the file says 100 Hz",
    }


@pytest.mark.parametrize("name", ["/etc/passwd", "../rec.dat", "..\\rec.dat", "a/../../rec.dat", "s3://bucket/rec.dat"])
def test_a_header_that_points_outside_its_folder_is_refused(tmp_path, name):
    header = record(tmp_path, f"rec 1 100 300\n{name} 16 1000/mV 16 0 0 0 0 I\n")
    with pytest.raises(InputError, match=re.escape(f"{header}: it names {name}, which is outside its folder")):
        read(header)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "nothing begins no WFDB header"),
        ("# only a comment\n", "nothing begins no WFDB header"),
        ("\x00\x01garbage\n", "begins no WFDB header"),
        ("rec 2 100 300\nrec.dat 16 1000/mV 16 0 0 0 0 I\n", "it names 1 channels, its first line says 2"),
        ("rec 0 100 300\n", "it names 0 channels"),
        ("rec 1 100 300\nrec.dat mp3 1000/mV\n", "names no channel"),
        ("rec 1 100 300\nother.dat 16 1000/mV\n", "it names other.dat, which is not there"),
        ("rec 1 0 300\nrec.dat 16 1000/mV 16 0 0 0 0 I\n", "the sampling rate is 0 Hz"),
        ("rec 1 100 300\nrec.dat 16 1000/mmHg 16 0 0 0 0 ABP\n", "no channel is an ECG, only ABP"),
        ("rec 1 100 300\nrec.dat 16 1000/mmHg 16 0 0 0 0 II\n", "II is in 'mmHg', expected mV, uV, V"),
        ("rec/2 1 100 300\n~ 100\n~ 200\n", "none of its segments has a signal"),
    ],
)
def test_headers_that_are_wrong(tmp_path, lines, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read(record(tmp_path, lines))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 3, 1199])
def test_files_that_are_too_short(tmp_path, size):
    header = simple(tmp_path)
    (tmp_path / "rec.dat").write_bytes(DIGITS.tobytes()[:size])
    with pytest.raises(InputError, match=rf"rec\.dat: {size} bytes, expected 1200\. Is the file complete\?"):
        read(header)


def test_damaged_annotations_are_an_error(tmp_path):
    header = simple(tmp_path)
    header.with_suffix(".atr").write_bytes(struct.pack("<3H", 0xEC12, 7, 9))
    with pytest.raises(InputError, match=r"rec\.atr: not readable as WFDB annotations"):
        read(header)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.hea: no such file"):
        read(tmp_path / "nothing.hea")
