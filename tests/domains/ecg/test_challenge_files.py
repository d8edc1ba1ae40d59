"""Output files and headers of the challenges, read, written and scored as the official evaluation does."""

import csv
import math

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.ecg.challenge import challenge_scores, label_matrix
from helixwave_domains.ecg.challenge_screen import run_score
from helixwave_domains.ecg.score_files import (
    ChallengeOutput,
    challenge_columns,
    read_challenge_csv,
    read_header_labels,
    score_folders,
    write_challenge_csv,
)
from helixwave_domains.ecg.snomed import class_names

AF, NSR, CRBBB, RBBB = "164889003", "426783006", "713427006", "59118001"


@pytest.fixture
def folders(tmp_path):
    """Two recordings with their outputs: A has both right, B neither."""
    labels, outputs = tmp_path / "labels", tmp_path / "outputs"
    labels.mkdir()
    outputs.mkdir()
    (labels / "A.hea").write_text(f"A 12 500 5000\n#Dx: {AF},{CRBBB}\n")
    (labels / "B.hea").write_text(f"B 12 500 5000\n# Dx: {NSR}, 999\n")
    columns = f"{RBBB},{NSR},{AF}"
    (outputs / "A.csv").write_text(f"#A\n{columns}\n1,0,True\n0.9,0.1,0.8\n")
    (outputs / "B.csv").write_text(f"#B\n{columns}\n0,0,1\n0.2,0.4,0.6\n")
    return labels, outputs


def test_what_is_written_is_read(tmp_path):
    rng = np.random.default_rng(0)
    columns = challenge_columns(["NSR", "CLBBB|LBBB", "SR of PTB-XL"])
    assert columns == [NSR, "733534002|164909002", "SR of PTB-XL"]
    output = ChallengeOutput("A0001", tuple(columns), np.array([True, False, True]), rng.random(3))
    write_challenge_csv(tmp_path / "A0001.csv", output)
    for year in (2020, 2021):
        found = read_challenge_csv(tmp_path / "A0001.csv", year)
        assert (found.record, found.columns) == (output.record, output.columns)
        assert (found.outputs == output.outputs).all()
        assert (found.probabilities == output.probabilities).all()


@pytest.mark.parametrize(("year", "expected"), [(2020, [1, 0, 1, 0, 0]), (2021, [1, 1, 1, 0, 0])])
def test_cells_are_read_as_in_the_year(tmp_path, year, expected):
    (tmp_path / "a.csv").write_text("#a\na, b, c, d, e\n1, 1.0, t, 0.9, yes\n0.5, nan, -, inf, 1e-3\n")
    found = read_challenge_csv(tmp_path / "a.csv", year)
    assert found.outputs.tolist() == expected
    assert found.probabilities.tolist() == pytest.approx([0.5, math.nan, 0, math.inf, 0.001], nan_ok=True)


def test_labels_stand_behind_dx_with_or_without_a_space(tmp_path):
    path = tmp_path / "a.hea"
    for text, expected in [
        ("#Dx: 1,2\n", ["1", "2"]),
        ("# Dx: 1, 2\n", ["1", "2"]),
        ("#Dx:\n", []),
        ("# Age: 5\n", None),
    ]:
        path.write_text(f"a 1 500 10\na.mat 16 1000/mV 16 0 0 0 0 I\n{text}")
        assert read_header_labels(path) == expected


def test_folders_have_the_scores_of_their_arrays(folders):
    found = score_folders(*folders)
    named = [class_names(2021).index(name) for name in ("CRBBB|RBBB", "NSR", "AF")]
    flags, numbers = np.zeros((2, 26), bool), np.zeros((2, 26))
    flags[:, named], numbers[:, named] = [[1, 0, 1], [0, 0, 1]], [[0.9, 0.1, 0.8], [0.2, 0.4, 0.6]]
    expected = challenge_scores(label_matrix([[AF, CRBBB], [NSR]]), flags, numbers)
    assert found.scores.macro == pytest.approx(expected.macro)
    assert found.scores.macro["accuracy"] == 0.5
    assert found.labels.sum(axis=0)[named].tolist() == [1, 1, 1]
    assert found.notes == ()


def test_columns_may_differ_from_file_to_file(folders):
    expected = score_folders(*folders)
    (folders[1] / "B.csv").write_text(f"#B\n{AF},999,{CRBBB},{NSR}\n1,1,0,0\n0.6,1,0.2,0.4\n")
    assert score_folders(*folders).scores.macro == expected.scores.macro


def test_what_is_wrong_is_told_and_scored_as_officially(folders):
    labels, outputs = folders
    (labels / "C.hea").write_text("C 12 500 5000\n")
    (outputs / "C.csv").write_text("#B\nx,y\n1,1\n1,1\n")
    (outputs / "D.csv").write_text("#D\n")
    found = score_folders(labels, outputs)
    assert found.notes == (
        "output files that name another record in their first line: 1 (C.csv), scored by the file's name",
        "output files with none of the scored classes: 1 (C.csv), scored as without any class",
        "headers without a Dx line: 1 (C.hea), scored as without a diagnosis",
        "output files that belong to no header: 1 (D.csv), not scored",
    )
    assert found.scores.macro["accuracy"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#B\na,b\n1,0\n", "2 lines below the record, expected 3"),
        ("#B\na,b\n1\n0.5,0.5\n", "its lines have 2, 1, 2 values, expected as many in each"),
        ("", "the first line has no record name"),
    ],
)
def test_a_malformed_file_is_refused_in_2021_and_negative_in_2020(folders, text, message):
    labels, outputs = folders
    (outputs / "B.csv").write_text(text)
    with pytest.raises(InputError, match=rf"B\.csv: {message}.*no score then; write it again"):
        score_folders(labels, outputs, 2021)
    found = score_folders(labels, outputs, 2020)
    assert found.notes == ("malformed output files: 1 (B.csv), scored as without any class",)
    (outputs / "B.csv").write_text(f"#B\n{AF}\n0\n0\n")
    assert score_folders(labels, outputs, 2020).scores.macro == found.scores.macro


def test_a_missing_output_file_makes_scores_impossible(folders):
    labels, outputs = folders
    (outputs / "A.csv").unlink()
    with pytest.raises(InputError, match=r"1 of 2 recordings have no output file, such as A\.csv"):
        score_folders(labels, outputs)
    with pytest.raises(InputError, match=r"there is no \.hea file"):
        score_folders(outputs, outputs)
    with pytest.raises(InputError, match="there is no such folder"):
        score_folders(labels / "none", outputs)
    with pytest.raises(InputError, match="year 2022"):
        score_folders(labels, outputs, 2022)


def test_names_that_would_be_read_as_several_are_refused(tmp_path):
    output = ChallengeOutput("A", ("x,y",), np.array([True]), np.array([0.5]))
    with pytest.raises(InputError, match="'x,y' cannot stand in a challenge CSV file"):
        write_challenge_csv(tmp_path / "A.csv", output)
    assert not list(tmp_path.iterdir())


def test_scores_are_shown_and_written(folders, tmp_path, capsys):
    found = run_score(*folders, 2020, tmp_path / "scores.csv")
    shown = capsys.readouterr().out
    assert "PhysioNet/CinC Challenge 2020" in shown
    assert "CRBBB|RBBB" in shown
    assert f"challenge metric {found.scores.macro['challenge']:.3f}, accuracy 0.500" in shown
    with open(tmp_path / "scores.csv") as f:
        rows = list(csv.DictReader(f))
    assert [row["class"] for row in rows] == [*class_names(2020), "macro"]
    assert [row["auroc"] for row in rows[:2]] == ["", f"{found.scores.by_class['auroc'][1]:.10g}"]
    assert float(rows[-1]["challenge"]) == pytest.approx(found.scores.macro["challenge"])
    assert {row["challenge"] for row in rows[:-1]} == {""}
    assert rows[1]["recordings"] == "1"


def test_real_headers_are_read_and_their_own_labels_score_one(data_folder, tmp_path):
    headers = sorted((data_folder / "cinc2021_sample").glob("*.hea"))
    labels = label_matrix([read_header_labels(header) or [] for header in headers])
    assert labels.any(axis=1).sum() > len(headers) // 2
    columns = tuple(challenge_columns(class_names(2021)))
    for header, row in zip(headers, labels, strict=True):
        write_challenge_csv(
            tmp_path / f"{header.stem}.csv", ChallengeOutput(header.stem, columns, row, row.astype(float))
        )
    found = score_folders(data_folder / "cinc2021_sample", tmp_path)
    assert found.notes == ()
    assert {found.scores.macro[name] for name in ("auroc", "auprc", "f", "accuracy", "challenge")} == {1.0}
