"""The user's own recordings and their table."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.ecg.label_tables import read_label_table
from helixwave_domains.ecg.labelled_records import LabelledRecords

from tests.domains.ecg.record_files import write_record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve records of six patients."""
    for i in range(12):
        write_record(tmp_path / "ecg" / f"r{i}", None)
    return tmp_path


def table(folder: Path, header: str, row: str) -> str:
    """A table of all records; `row` is made with `i`, the number of a record."""
    lines = [header, *(filled(row, i) for i in range(12))]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "labels.csv")


def filled(row: str, i: int) -> str:
    return row.format(i=i, odd=i % 2, patient=i // 2, name="ab"[i % 2])


def load(path: str, **arguments: Any) -> LabelledRecords:
    return LabelledRecords(table=path, rate=100.0, window=1.0, **{"validation": 0.2, "test": 0.2, **arguments})


def test_one_class_each(folder: Path) -> None:
    data = load(table(folder, "file,label", "ecg/r{i}.hea,{name}"))
    assert data.classes == ["a", "b"]
    for part in ("train", "validation", "test"):
        split = getattr(data, part)
        for name, target in zip(data.names[part], split.targets, strict=True):
            assert data.classes[target] == "ab"[int(name[5:-4]) % 2]
    assert data.test.example(0, None)["inputs"].shape == (100, 12)


def test_patients_are_on_one_side(folder: Path) -> None:
    data = load(table(folder, "record,patient_id,label", "ecg/r{i},p{patient},{name}"))
    patients = [{int(name[5:]) // 2 for name in data.names[part]} for part in ("train", "validation", "test")]
    assert not patients[0] & patients[1] | patients[0] & patients[2] | patients[1] & patients[2]
    assert set.union(*patients) == set(range(6))
    assert data.describe()["patients in training and test"] == 0


def test_several_labels_in_one_column(folder: Path) -> None:
    path = table(folder, "record,label", "ecg/r{i},x;{name}")
    (folder / "labels.csv").write_text((folder / "labels.csv").read_text().replace("r3,x;b", "r3,-"))
    found = read_label_table(Path(path), None, target="labels", labels=None)
    assert found.classes == ["a", "b", "x"]
    expected = [[i % 2 == 0, i % 2 == 1, True] if i != 3 else [False] * 3 for i in range(12)]
    np.testing.assert_array_equal(found.targets, np.array(expected, dtype=np.float32))
    assert load(path, target="labels").train.targets.dtype == np.float32


def test_columns_of_labels_with_unknown_cells(folder: Path) -> None:
    path = table(folder, "record\tAF\tMI", "ecg/r{i}\t{odd}\t")
    found = read_label_table(Path(path), None, target="labels", labels=["MI", "AF"])
    assert found.classes == ["MI", "AF"]
    assert np.isnan(found.targets[:, 0]).all()
    assert found.targets[:, 1].tolist() == [0, 1] * 6


def test_the_table_may_give_the_split(folder: Path) -> None:
    path = table(folder, "record,label,split", "ecg/r{i},{name},train")
    text = (folder / "labels.csv").read_text().replace("r0,a,train", "r0,a,test").replace("r1,b,train", "r1,b,val")
    (folder / "labels.csv").write_text(text)
    data = load(path)
    assert data.names["test"] == ["ecg/r0"]
    assert data.names["validation"] == ["ecg/r1"]
    assert len(data.train) == 10


def test_recordings_may_lie_elsewhere(folder: Path) -> None:
    other = folder / "tables"
    other.mkdir()
    path = table(other, "record,label", "r{i},{name}")
    assert len(load(path, folder=str(folder / "ecg")).names["test"]) > 0


def test_a_recording_that_cannot_be_read_is_named(folder: Path) -> None:
    path = table(folder, "record,label", "ecg/r{i},{name}")
    (folder / "ecg" / "r5.dat").unlink()
    data = load(path)
    assert list(data.left_out) == ["ecg/r5"]
    assert "r5" in data.left_out["ecg/r5"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("record,label\n", "the table has no row"),
        ("name,label\necg/r0,a\n", "no column record, recording, path, file, filename or ecg, found name, label"),
        ("record,x\necg/r0,a\n", "no column label, found record, x. Pass data.target=labels"),
        ("record,label\necg/r0,\n", "line 2: the label is empty. Write -"),
        ("record,label\n,a\n", "line 2 names no file"),
        ("record,label\necg/none.edf,a\n", "line 2: no file .*none.edf. Correct the table"),
        ("record,label\n../labels.csv,a\n", "line 2: ../labels.csv lies outside of"),
        ("record,label\necg/r0,a\necg/r0,b\n", "the recording 'ecg/r0' has 2 rows, expected one"),
        ("record,label\necg/r0,a;b\n", "line 2 has several labels. Pass data.target=labels"),
        ("record,label\necg/r0,a,c\n", "line 2 has more cells than the header"),
        ("record,label\necg/r0,a\necg/r1,a\n", "all recordings have the label a, nothing to learn"),
    ],
)
def test_tables_that_make_no_sense(text: str, message: str, folder: Path) -> None:
    (folder / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        load(str(folder / "labels.csv"))


def test_columns_of_labels_that_make_no_sense(folder: Path) -> None:
    path = table(folder, "record,AF,label", "ecg/r{i},2,a")
    with pytest.raises(InputError, match=r"line 2: AF is '2', expected 0, 1 or nothing"):
        load(path, target="labels", labels=["AF"])
    with pytest.raises(InputError, match=r"no column named 'af'\. Known: AF, label"):
        load(path, target="labels", labels=["af"])
    with pytest.raises(InputError, match=r"Pass data\.target=labels with it"):
        load(path, labels=["AF"])


def test_no_table_and_no_text(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no table .*none\.csv. Pass data.table=PATH"):
        load(str(folder / "none.csv"))
    (folder / "labels.csv").write_bytes(b"record,label\n\xff\xfe\n")
    with pytest.raises(InputError, match="no table in UTF-8"):
        load(str(folder / "labels.csv"))
