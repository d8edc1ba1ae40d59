"""What pictures show, compared with the numbers behind them, and the tables beside a report."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from helixwave.calibration import reliability
from helixwave.data import Picture
from helixwave.files import write_table
from helixwave.objectives import Classification, MultiLabel
from helixwave.pictures import (
    accuracy_picture,
    calibration_picture,
    class_curves,
    confusion_picture,
    label_curves,
    precision_recall_picture,
    roc_picture,
    scatter_picture,
)
from matplotlib.figure import Figure
from scipy.stats import binomtest
from sklearn import metrics


def test_reliability_by_hand() -> None:
    """Four bins: the second is empty, an edge counts below."""
    found = reliability(np.array([0.1, 0.25, 0.6, 0.75, 0.9, 1.0]), np.array([0, 1, 1, 0, 1, 1]), n_bin=4)
    assert found.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.count.tolist() == [2, 0, 2, 2]
    assert found.probability[[0, 2, 3]].tolist() == pytest.approx([0.175, 0.675, 0.95])
    assert found.share[[0, 2, 3]].tolist() == pytest.approx([0.5, 0.5, 1.0])
    assert np.isnan(found.share[1])
    assert np.isnan(found.interval[:, 1]).all()
    # 2/6 * 0.325 + 2/6 * 0.175 + 2/6 * 0.05
    assert found.error == pytest.approx((0.325 + 0.175 + 0.05) / 3)


def test_interval_by_hand() -> None:
    """Wilson's interval of 8 in 10, as textbooks give it."""
    found = reliability(np.full(10, 0.8), np.arange(10) < 8, n_bin=1)
    assert found.interval[:, 0].tolist() == pytest.approx([0.490, 0.943], abs=1e-3)


def test_probabilities_that_are_true_have_a_small_error_and_others_a_large_one() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random(20_000)
    assert reliability(probability, rng.random(20_000) < probability).error < 0.02
    assert reliability(probability, rng.random(20_000) < probability**3).error > 0.15
    assert reliability(np.array([]), np.array([])).error == 0


def test_roc_and_precision_are_those_of_a_loop_over_thresholds() -> None:
    rng = np.random.default_rng(1)
    truth, p = rng.integers(0, 2, 40), rng.random((40, 2)).round(1)
    roc, precision = (draw(class_curves(truth, p, ["a", "b"])) for draw in (roc_picture, precision_recall_picture))
    points = set()
    for threshold in np.unique(p[:, 1]):
        chosen = p[:, 1] >= threshold
        recall = (truth[chosen] == 1).sum() / (truth == 1).sum()
        points.add((recall, (truth[chosen] == 1).mean()))
        false_rate = (truth[chosen] == 0).sum() / (truth == 0).sum()
        x, y = roc.table["false_positive_rate"], roc.table["true_positive_rate"]
        assert np.interp(false_rate, x, y) >= recall - 1e-12
    drawn = set(zip(precision.table["recall"].tolist(), precision.table["precision"].tolist(), strict=True))
    assert drawn == points | {(0.0, 1.0)}
    line = precision.figure.axes[0].lines[0]
    assert line.get_label() == f"{metrics.average_precision_score(truth, p[:, 1]):.3f} b"
    assert roc.figure.axes[0].lines[0].get_label() == f"{metrics.roc_auc_score(truth, p[:, 1]):.3f} b"


def test_curves_of_labels_leave_out_what_is_not_known() -> None:
    truth = np.array([[0, 1], [1, np.nan], [1, np.nan], [0, 1.0]])
    curves = label_curves(truth, np.arange(8).reshape(4, 2) / 8, ["a", "b"])
    assert curves["a"][0].tolist() == [False, True, True, False]
    assert curves["b"][1].tolist() == [1 / 8, 7 / 8]
    assert set(roc_picture(curves).table["name"]) == {"a"}


def test_many_curves_have_no_legend() -> None:
    rng = np.random.default_rng(0)
    truth, p = rng.integers(0, 2, (50, 13)), rng.random((50, 13))
    assert roc_picture(label_curves(truth, p, list("abcdefghijklm"))).figure.axes[0].get_legend() is None


def test_tables_have_what_is_shown() -> None:
    truth, p = np.array([0, 0, 1, 2]), np.eye(3)[[0, 1, 1, 2]]
    confusion = confusion_picture(truth, p, ["a", "b", "c"])
    assert {k: list(v) for k, v in confusion.table.items()} == {
        "true": ["a", "b", "c"],
        "a": [1, 0, 0],
        "b": [1, 1, 0],
        "c": [0, 0, 1],
    }
    calibration = calibration_picture(np.array([0.95, 0.97]), np.array([True, False]), "All")
    assert calibration.table["count"].tolist() == [0] * 14 + [2]
    assert calibration.table["came_true"][-1] == 0.5
    assert calibration.figure.axes[0].get_title(loc="left") == "ECE 0.460"
    scatter = scatter_picture(np.array([[1.0], [2.0]]), np.array([[1.5], [2.5]]), ["length"])
    assert scatter.table["length predicted"].tolist() == [1.5, 2.5]


def test_accuracy_has_the_interval_that_scipy_gives() -> None:
    rng = np.random.default_rng(0)
    truth, probabilities = rng.integers(0, 2, 50), rng.random((50, 3))
    drawn = accuracy_picture(truth, probabilities, ["a", "b", "never"])
    right = probabilities.argmax(1) == truth
    rows = [right, right[truth == 0], right[truth == 1]]
    for i, row in enumerate(rows):
        wanted = binomtest(int(row.sum()), len(row)).proportion_ci(method="wilson")
        found = [drawn.table[name][i] for name in ("count", "share", "low", "high")]
        assert found == pytest.approx([len(row), row.mean(), wanted.low, wanted.high], abs=1e-4)
    assert drawn.table["count"][-1] == 0
    assert np.isnan([drawn.table[name][-1] for name in ("share", "low", "high")]).all()
    assert f"{right.mean():.3f} of 50 were predicted right, 95 % interval " in drawn.caption


@pytest.mark.parametrize("n_class", [2, 3])
def test_objectives_draw_curves_and_calibration(n_class: int) -> None:
    rng = torch.Generator().manual_seed(0)
    outputs, target = torch.randn(40, n_class, generator=rng), torch.randint(0, n_class, (40,), generator=rng)
    judge = Classification([f"c{i}" for i in range(n_class)])
    drawn = judge.pictures(*judge.scored(outputs, target))
    names = ["confusion_matrix", "accuracy", "receiver_operating_characteristic", "precision_and_recall", "calibration"]
    assert [picture.table_name for picture in drawn] == [f"{name}.tsv" for name in names]
    confidence, correct = outputs.softmax(-1).max(-1).values, outputs.argmax(-1) == target
    assert (
        drawn[-1].figure.axes[0].get_title(loc="left")
        == f"ECE {reliability(confidence.numpy(), correct.numpy()).error:.3f}"
    )
    labels = MultiLabel(["a", "b"])
    drawn = labels.pictures(torch.randn(20, 2, generator=rng), torch.randint(0, 2, (20, 2), generator=rng).float())
    assert [picture.title for picture in drawn][1:] == ["Precision and recall", "Calibration"]
    assert drawn[-1].table["count"].sum() == 40


def test_table_is_read_back(tmp_path: Path) -> None:
    columns = {"na\tme": ["a", "b\nc", "d  e"], "x": np.array([1 / 3, np.nan, 2.0], np.float32), "n": np.arange(3)}
    write_table(tmp_path / "tables" / "t.tsv", columns)
    rows = list(csv.reader((tmp_path / "tables" / "t.tsv").read_text().splitlines(), delimiter="\t"))
    assert rows == [["na me", "x", "n"], ["a", "0.333333", "0"], ["b c", "", "1"], ["d e", "2", "2"]]


@pytest.mark.parametrize(
    ("title", "name"), [("Genome track of chr1/2", "genome_track_of_chr1_2.tsv"), ("../Über", "ber.tsv")]
)
def test_no_title_names_a_file_elsewhere(title: str, name: str) -> None:
    assert Picture(title, "", Figure()).table_name == name
