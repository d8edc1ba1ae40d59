"""Bootstrap intervals beside scikit-learn and a loop."""

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.ecg.ptbxl_metrics import bootstrap_counts, macro_auroc_interval, macro_aurocs
from sklearn.metrics import roc_auc_score


def draw(n=60, digits=1, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 4)) < [0.05, 0.2, 0.5, 0.9]
    labels[:2] = [[True] * 4, [False] * 4]
    return labels, np.round(rng.normal(size=labels.shape) + labels, digits)


def test_each_resample_has_the_score_that_scikit_learn_gives_it():
    labels, scores = draw()
    counts = np.concatenate(list(bootstrap_counts(labels, 20, seed=1)))
    expected = []
    for count in counts:
        rows = np.repeat(np.arange(len(labels)), count)
        expected.append(roc_auc_score(labels[rows], scores[rows], average="macro"))
    np.testing.assert_allclose(macro_aurocs(labels, scores, counts), expected, atol=1e-12)


def test_resamples_have_all_recordings_and_every_class():
    labels, _ = draw()
    counts = np.concatenate(list(bootstrap_counts(labels, 300, seed=0)))
    assert counts.shape == (300, len(labels))
    assert (counts.sum(axis=1) == len(labels)).all()
    assert (counts @ labels > 0).all()
    assert (counts @ ~labels > 0).all()


def test_the_interval_is_that_of_a_loop_over_resamples():
    labels, scores = draw(n=150)
    found = macro_auroc_interval(labels, scores, resamples=400)
    assert found.value == pytest.approx(roc_auc_score(labels, scores, average="macro"), abs=1e-12)
    rng, expected = np.random.default_rng(5), []
    while len(expected) < 400:
        rows = rng.integers(0, len(labels), len(labels))
        if labels[rows].any(0).all() and not labels[rows].all(0).any():
            drawn = np.bincount(rows, minlength=len(labels))[None]
            expected.append(macro_aurocs(labels, scores, drawn)[0])
    # two samples of 400 from one distribution
    spread = np.std(expected)
    assert [found.low, found.high] == pytest.approx(np.quantile(expected, [0.05, 0.95]), abs=0.35 * spread)


def test_the_seed_gives_the_interval_and_a_class_that_never_occurs_is_left_out():
    labels, scores = draw()
    found = macro_auroc_interval(labels, scores, resamples=50, seed=3)
    assert macro_auroc_interval(labels, scores, resamples=50, seed=3) == found
    assert macro_auroc_interval(labels, scores, resamples=50, seed=4) != found
    more = [np.column_stack([each, np.zeros(len(each), dtype=each.dtype)]) for each in (labels, scores)]
    assert macro_auroc_interval(*more, resamples=50, seed=3) == found


def test_what_has_no_interval_is_refused():
    labels, scores = draw()
    with pytest.raises(InputError, match=r"labels have the shape \[60, 4\], probabilities \[60, 3\]"):
        macro_auroc_interval(labels, scores[:, 1:])
    with pytest.raises(InputError, match="without NaN"):
        macro_auroc_interval(labels, scores * np.nan)
    with pytest.raises(InputError, match="no class occurs and is missing at least once"):
        macro_auroc_interval(np.ones_like(labels), scores)
    # each class is one recording of its own: a resample has all of them only as a permutation
    with pytest.raises(InputError, match=r"have every class\. Leave the rarest classes out"):
        macro_auroc_interval(np.eye(40, dtype=bool), np.eye(40), resamples=1)
