"""Diagnoses of the challenges."""

from pathlib import Path

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.ecg.cinc2021 import CinC2021, scored_labels
from helixwave_domains.ecg.snomed import class_names

from tests.domains.ecg.record_files import write_record

CODES = ["426783006", "164889003,59118001", "713427006", "1234567", "10370003,284470004,63593006"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "g1").mkdir()
    for i in range(10):
        write_record(tmp_path / "g1" / f"R{i}", CODES[i % len(CODES)])
    return tmp_path


def load(folder: Path, **arguments: object) -> CinC2021:
    settings = {"folder": str(folder), "rate": 100.0, "window": 1.0, "validation": 0.2, "test": 0.3, **arguments}
    return CinC2021(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (("164889003",), {"AF"}),
        (("59118001",), {"CRBBB|RBBB"}),
        (("713427006", "59118001"), {"CRBBB|RBBB"}),
        (("284470004", "999"), {"PAC|SVPB"}),
        (("999",), set()),
    ],
)
def test_codes_become_scored_classes(codes: tuple[str, ...], expected: set[str]) -> None:
    target = scored_labels(codes, 2021)
    assert {class_names(2021)[i] for i in np.flatnonzero(target)} == expected


def test_recordings_have_the_labels_of_their_headers(folder: Path) -> None:
    data = load(folder)
    assert len(data.classes) == 26
    names = [name for part in ("train", "validation", "test") for name in data.names[part]]
    assert sorted(names) == [f"g1/R{i}" for i in range(10)]
    for part in ("train", "validation", "test"):
        for name, target in zip(data.names[part], getattr(data, part).targets, strict=True):
            codes = CODES[int(name[-1]) % len(CODES)]
            np.testing.assert_array_equal(target, scored_labels(tuple(codes.split(",")), 2021))
    assert data.describe()["recordings without a scored diagnosis, kept"] == 2
    assert data.test.example(0, None)["inputs"].shape == (100, 12)
    assert len(load(folder, year=2020).classes) == 24


def test_other_rates_are_left_out_or_resampled(folder: Path) -> None:
    write_record(folder / "St", CODES[0], rate=257)
    assert "257 Hz, the model reads 100 Hz" in load(folder).left_out["St"]
    assert not load(folder, resample=True).left_out


def test_a_header_without_diagnoses_or_damaged_is_left_out(folder: Path) -> None:
    write_record(folder / "none", None)
    (folder / "bad.hea").write_text("not a header\n")
    data = load(folder)
    assert data.left_out["none"] == "its header has no '# Dx:'"
    assert "bad.hea" in data.left_out["bad"]


def test_the_split_can_be_given(folder: Path) -> None:
    table = folder / "split.csv"
    parts = ["train"] * 5 + ["val"] * 2 + ["test"] * 3
    table.write_text("record,split\n" + "".join(f"g1/R{i},{part}\n" for i, part in enumerate(parts)))
    data = load(folder, split=str(table))
    assert data.names == {
        "train": [f"g1/R{i}" for i in range(5)],
        "validation": ["g1/R5", "g1/R6"],
        "test": ["g1/R7", "g1/R8", "g1/R9"],
    }
    table.write_text("record,split\ng1/R1,train\n")
    with pytest.raises(InputError, match=r"no row for the record g1/R0 \(9 of 10 have none\)"):
        load(folder, split=str(table))
    table.write_text("name,part\n")
    with pytest.raises(InputError, match="expected record and split"):
        load(folder, split=str(table))
    with pytest.raises(InputError, match="no table"):
        load(folder, split=str(folder / "nothing.csv"))


def test_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no WFDB record"):
        load(tmp_path)
    write_record(tmp_path / "x", None)
    with pytest.raises(InputError, match=r"none of 1 records can be used. x: its header has no '# Dx:'"):
        load(tmp_path)


def test_the_sample_of_the_challenge(data_folder: Path) -> None:
    data = CinC2021(folder=str(data_folder / "cinc2021_sample"))
    assert sum(len(part.signals) for part in (data.train, data.validation, data.test)) == 50
    assert not data.left_out
    assert data.test.example(0, None)["inputs"].shape == (5000, 12)
