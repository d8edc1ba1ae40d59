"""Beats in the classes of AAMI EC57."""

import numpy as np
import pytest
import torch
from helixwave.errors import InputError
from helixwave_domains.ecg.aami import AAMI_CLASSES, BEATS, NON_BEATS, aami_beat_scores, aami_class, beat_scores
from helixwave_domains.ecg.beat_objective import EcgBeats
from helixwave_domains.ecg.class_pictures import beat_pictures
from sklearn.metrics import accuracy_score, precision_recall_fscore_support


def test_every_symbol_of_the_format_is_a_beat_or_none():
    wfdb = pytest.importorskip("wfdb.io.annotation", reason="wfdb is not installed")
    symbols = {label.symbol for label in wfdb.ann_labels} - {" "}
    assert set(BEATS) | NON_BEATS == symbols
    assert not set(BEATS) & NON_BEATS
    assert set(BEATS.values()) == set(AAMI_CLASSES)


def test_bundle_branch_blocks_are_n_and_paced_beats_are_q():
    assert [aami_class(symbol) for symbol in "NLRejAaJSVEF/fQ+"] == [*"NNNNNSSSSVVFQQQ", None]


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth, predicted = rng.choice(list("NNNNLAVF/"), 300), rng.choice(list("NNNLAV/"), 300)
    found = aami_beat_scores(truth, predicted)
    groups = [[BEATS[symbol] for symbol in symbols] for symbols in (truth, predicted)]
    expected = precision_recall_fscore_support(*groups, labels=list(AAMI_CLASSES), zero_division=np.nan)
    for name, values in zip(("ppv", "sensitivity", "f1"), expected[:3], strict=True):
        np.testing.assert_allclose(found.by_class[name], values)
        # fusion beats are never predicted: there is no predictive value, and in the mean it is 0
        assert found.macro[name] == pytest.approx(np.nan_to_num(values).mean())
    assert found.count.tolist() == expected[3].tolist()
    assert found.macro["accuracy"] == pytest.approx(accuracy_score(*groups))


def test_a_class_without_beats_does_not_enter_the_mean():
    found = beat_scores(["a", "a"], ["a", "b"], ["a", "b", "c"])
    assert found.by_class["sensitivity"].tolist() == pytest.approx([0.5, np.nan, np.nan], nan_ok=True)
    assert found.by_class["f1"].tolist() == pytest.approx([2 / 3, 0, np.nan], nan_ok=True)
    assert found.macro == pytest.approx({"sensitivity": 0.5, "ppv": 1, "f1": 2 / 3, "accuracy": 0.5})


def test_symbols_are_also_shown_in_the_classes_of_aami():
    each, grouped = beat_pictures(["N", "L", "V"], ["L", "L", "V"], ["N", "L", "V"])
    assert each.table["sensitivity"].tolist() == [0, 1, 1]
    assert list(grouped.table["class"]) == list(AAMI_CLASSES)
    assert grouped.table["beats"].tolist() == [2, 0, 1, 0, 0]
    assert "100.0 % of all beats" in grouped.caption
    assert len(beat_pictures(["AFIB"], ["N"], ["N", "AFIB"])) == 1


def test_a_run_on_beats_reports_their_classes():
    judge = EcgBeats(["N", "L", "V"])
    target = torch.tensor([0, 1, 2, 2])
    assert judge.score(torch.eye(3).log_softmax(-1), torch.arange(3))[judge.monitor] == 1
    titles = [picture.title for picture in judge.pictures(torch.eye(3)[[0, 0, 2, 2]].log_softmax(-1), target)]
    assert titles[:3] == ["Beats of each class", "Beats in the classes of AAMI EC57", "Confusion matrix"]


def test_what_is_no_beat_is_refused():
    with pytest.raises(InputError, match="annotation: no symbol 'Z'"):
        aami_class("Z")
    with pytest.raises(InputError, match=r"the symbol '\+' marks no beat"):
        aami_beat_scores(["N"], ["+"])
    with pytest.raises(InputError, match="1 true and 2 predicted"):
        aami_beat_scores(["N"], ["N", "N"])
    with pytest.raises(InputError, match=r"'x' is not among the classes\. Known: a, b"):
        beat_scores(["x"], ["a"], ["a", "b"])
