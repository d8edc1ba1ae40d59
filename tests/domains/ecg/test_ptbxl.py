"""Folds, labels and protocols of PTB-XL, on a small folder of its form."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.ecg.ptbxl import PtbXl

from tests.domains.ecg.record_files import write_record

STATEMENTS = """,description,diagnostic,form,rhythm,diagnostic_class,diagnostic_subclass
NORM,normal ECG,1.0,,,NORM,NORM
IMI,inferior infarction,1.0,,,MI,IMI
ASMI,anteroseptal infarction,1.0,,,MI,AMI
NDT,non-diagnostic T abnormalities,1.0,1.0,,STTC,STTC
LVOLT,low voltage,,1.0,,,
SR,sinus rhythm,,,1.0,,
AFIB,atrial fibrillation,,,1.0,,
"""
CODES: list[dict[str, float]] = [
    {"NORM": 100.0, "SR": 0.0},
    {"AFIB": 0.0},
    {"ASMI": 50.0, "NDT": 0.0, "LVOLT": 0.0},
    {"SR": 0.0, "NORM": 80.0, "LVOLT": 0.0},
    {"NDT": 15.0, "IMI": 0.0, "AFIB": 0.0},
]
N = 20


def write_ptbxl(folder: Path) -> None:
    """Twenty recordings, two in each fold."""
    lines = ["ecg_id,patient_id,scp_codes,strat_fold,filename_lr,filename_hr"]
    for i in range(N):
        name = f"records100/00000/{i:05d}_lr"
        write_record(folder / name, None, seconds=10)
        lines.append(f'{i},{i}.0,"{CODES[i % 5]}",{i % 10 + 1},{name},{name.replace("100", "500").replace("lr", "hr")}')
    (folder / "ptbxl_database.csv").write_text("\n".join(lines) + "\n")
    (folder / "scp_statements.csv").write_text(STATEMENTS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_ptbxl(tmp_path)
    return tmp_path


def load(folder: Path, **arguments: Any) -> PtbXl:
    return PtbXl(folder=str(folder), **arguments)


SETS: dict[str, Callable[[str], str | None]] = {
    "all": lambda code: code,
    "diagnostic": lambda code: code if code in ("NORM", "IMI", "ASMI", "NDT") else None,
    "subdiagnostic": {"NORM": "NORM", "IMI": "IMI", "ASMI": "AMI", "NDT": "STTC"}.get,
    "superdiagnostic": {"NORM": "NORM", "IMI": "MI", "ASMI": "MI", "NDT": "STTC"}.get,
    "form": lambda code: code if code in ("NDT", "LVOLT") else None,
    "rhythm": lambda code: code if code in ("SR", "AFIB") else None,
}


@pytest.mark.parametrize("labels", SETS)
def test_labels_are_those_of_the_published_sets(labels: Any, folder: Path) -> None:
    own = [{SETS[labels](code) for code in CODES[i % 5]} - {None} for i in range(N)]
    expected: dict[str, list[set[str | None]]] = {"train": [], "validation": [], "test": []}
    for i, found in enumerate(own):
        if found:
            part = "test" if i % 10 == 9 else "validation" if i % 10 == 8 else "train"
            expected[part].append(found)
    data = load(folder, labels=labels)
    assert data.classes == sorted(set.union(*own))  # type: ignore[type-var]
    for part, sets in expected.items():
        targets = getattr(data, part).targets
        assert [{data.classes[i] for i in np.flatnonzero(row)} for row in targets] == sets
    left_out = data.describe()[f"recordings without a label of the set {labels}, left out"]
    assert left_out == sum(not found for found in own) == {"all": 0, "form": 8}.get(labels, 4)


@pytest.mark.parametrize(
    ("protocol", "starts", "aggregate"),
    [("benchmark", [*range(0, 751, 125)], "max"), ("s4", [0, 250, 500, 750], "mean")],
)
def test_crops_are_those_of_the_protocol(protocol: Any, starts: list[int], aggregate: str, folder: Path) -> None:
    test = load(folder, protocol=protocol).test
    assert test.starts[test.groups == 0].tolist() == starts
    assert test.aggregate == aggregate
    assert test.example(0, None)["inputs"].shape == (250, 12)


def test_inputs_are_standardised_by_one_mean_and_deviation(folder: Path) -> None:
    data = load(folder)
    samples = np.concatenate([signal.ravel() for signal in data.train.signals]).astype(np.float64)
    assert data.preprocessing["mean"] == pytest.approx(samples.mean(), abs=1e-8)
    assert data.preprocessing["deviation"] == pytest.approx(samples.std())
    crop = data.train.signals[0][:, :250]
    np.testing.assert_allclose(
        data.train.example(0, None)["inputs"], ((crop - samples.mean()) / samples.std()).T, rtol=1e-4, atol=1e-5
    )


def test_what_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rate is 250, the files of PTB-XL have 100 or 500"):
        load(folder, rate=250.0)
    with pytest.raises(InputError, match=r"none of the 16 recordings for train can be used.*00000_hr"):
        load(folder, rate=500.0)
    with pytest.raises(InputError, match=r"ptbxl_database\.csv is not there"):
        load(folder / "records100")
    (folder / "scp_statements.csv").write_text(",description\nNORM,x\n")
    with pytest.raises(InputError, match="it has no column diagnostic"):
        load(folder)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ('"__import__(1)",1,a', "line 2: cannot read scp_codes"),
        ('"[1]",1,a', "line 2: expected codes with likelihoods and a fold"),
        ("{},11,a", "line 2: expected codes with likelihoods and a fold"),
        ("{},1,../a", "line 2: filename_lr is '../a', expected a place in the folder"),
    ],
)
def test_rows_that_make_no_sense(cells: str, message: str, folder: Path) -> None:
    (folder / "ptbxl_database.csv").write_text(f"scp_codes,strat_fold,filename_lr\n{cells}\n")
    with pytest.raises(InputError, match=message):
        load(folder)
