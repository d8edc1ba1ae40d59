"""Which files are ECGs, of which format, and what a new format needs."""

import re
import shutil

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.ecg.conversion import convert
from helixwave_domains.ecg.formats import ECG_FORMATS, Declared, find_recordings, format_of, read_recording, writers

from tests.domains.ecg.written_formats import FORMATS, small_recording


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A record of each format that is written, a folder below, a hidden file and files that are no ECG."""
    place = tmp_path_factory.mktemp("ecgs")
    for name in FORMATS:
        convert(small_recording(), place / f"{name[1:]}{name}")
    (place / "below").mkdir()
    convert(small_recording(), place / "below/rec.hea")
    (place / "labels.csv").write_text("name,label\na,1\n")
    (place / "readme.md").write_text("# ECGs\n")
    (place / ".hidden.csv").write_text("I (mV)\n1\n")
    return place


def test_every_record_of_the_real_data_is_found_once_and_read(data_folder):
    places = ["cinc2021_sample", "cpsc2021_sample", "ecg_formats", "mitdb"]
    found = find_recordings([data_folder / place for place in places])
    assert len(found.paths) == 50 + 10 + 5 + 1
    assert not found.skipped
    kinds = {path.name: type(format_of(path)).__name__ for path in found.paths if path.suffix != ".hea"}
    assert sorted(kinds.values()) == ["DICOM", "EDF", "HL7", "Sierra", "Sierra"]


def test_a_folder_has_its_recordings_and_names_what_it_skips(folder):
    found = find_recordings([folder])
    assert [path.name for path in found.paths if path.parent == folder] == sorted(f"{end[1:]}{end}" for end in FORMATS)
    assert folder / "below/rec.hea" in found.paths
    assert [path.name for path in found.skipped] == ["labels.csv", "readme.md"]
    for path in found.paths:
        assert read_recording(path).leads == ("I", "V2")


def test_a_record_counts_once_however_it_is_named(folder):
    names = ["hea", "hea.hea", "hea.dat", "he*.hea", "*.dat"]
    assert find_recordings([folder / name for name in names]).paths == [folder / "hea.hea"]
    assert find_recordings([str(folder / "**/rec.hea")]).paths == [folder / "below/rec.hea"]


def test_segments_belong_to_their_record(tmp_path, folder):
    for end in (".hea", ".dat"):
        shutil.copy(folder / f"hea{end}", tmp_path / f"hea{end}")
    (tmp_path / "all.hea").write_text("all/2 2 100 2000\nhea 1000\nhea 1000\n")
    found = find_recordings([tmp_path])
    assert found.paths == [tmp_path / "all.hea"]
    assert not found.skipped
    np.testing.assert_array_equal(
        read_recording(found.paths[0]).load(1000, 2000), read_recording(folder / "hea").signal
    )


def test_links_that_lead_nowhere_are_skipped(tmp_path):
    convert(small_recording(), tmp_path / "a.edf")
    for name in ("b.edf", "c.hea"):
        (tmp_path / name).symlink_to(tmp_path / "gone")
    found = find_recordings([tmp_path])
    assert found.paths == [tmp_path / "a.edf"]
    assert found.skipped == [tmp_path / "b.edf", tmp_path / "c.hea"]


def test_what_is_not_there_or_no_ecg(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "empty.xyz").touch()
    cases = {
        f"{tmp_path}/a.hea: no such file or folder": lambda: find_recordings([tmp_path / "a.hea"]),
        f"{tmp_path}/*.edf: no such file or folder": lambda: find_recordings([tmp_path / "*.edf"]),
        f"{tmp_path}: none of its 2 files is an ECG": lambda: find_recordings([tmp_path]),
        "no ECG format knows it, it begins with b'nothing'": lambda: read_recording(tmp_path / "notes.txt"),
        "no ECG format knows it, it is empty": lambda: read_recording(tmp_path / "empty.xyz"),
        f"{tmp_path}: a folder, expected a file": lambda: read_recording(tmp_path),
        "No such file or directory": lambda: read_recording(tmp_path / "b.edf"),
    }
    for message, call in cases.items():
        with pytest.raises(InputError, match=re.escape(message)):
            call()


def test_to_register_a_format_is_all_it_takes(tmp_path, monkeypatch):
    class Beep:
        name, suffixes, written = "Beep", (".beep",), (".beep",)

        def recognises(self, path, head):
            return head == b"BEEP"

        def read(self, path, declared):
            return small_recording(format=self.name, source=path)

        def write(self, recording, path):
            path.write_bytes(b"BEEP")
            return ["everything is lost"]

    monkeypatch.setattr(ECG_FORMATS, "_local", {"beep": Beep})
    assert convert(small_recording(), tmp_path / "a.beep") == ["everything is lost"]
    assert find_recordings([tmp_path]).paths == [tmp_path / "a.beep"]
    assert read_recording(tmp_path / "a.beep", Declared()).format == "Beep"
    assert ".beep" in writers()


def test_every_format_has_a_name_and_endings():
    formats = [ECG_FORMATS[name]() for name in ECG_FORMATS]
    assert len({known.name for known in formats}) == len(formats) >= 10
    assert all(suffix.startswith(".") for known in formats for suffix in known.suffixes)
