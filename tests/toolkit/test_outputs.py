"""Outputs of pieces put together, and how sure they may be."""

import math

import numpy as np
import pytest
import torch
from helixwave.calibration import best_thresholds, fit_temperature
from helixwave.outputs import first_of, grouped_outputs, readable

GROUPS = torch.tensor([1, 0, 1, 2, 1, 0])


@pytest.mark.parametrize("how", ["mean", "max"])
@pytest.mark.parametrize("predicts", ["class", "labels", "numbers"])
def test_groups_are_put_together_as_probabilities(predicts, how):
    outputs = 3 * torch.randn(6, 4, dtype=torch.float64)
    made = readable(grouped_outputs(outputs, GROUPS, predicts, how), predicts)
    for group in range(3):
        rows = [readable(outputs[i], predicts) for i in range(6) if GROUPS[i] == group]
        expected = sum(rows) / len(rows) if how == "mean" else torch.stack(rows).amax(0)
        if predicts == "class":
            expected = expected / expected.sum()
        torch.testing.assert_close(made[group], expected, rtol=1e-9, atol=1e-12)


def test_a_group_of_one_keeps_its_logits():
    outputs = torch.tensor([[-30.0, 2.0], [30.0, 0.0]], dtype=torch.float64)
    made = grouped_outputs(outputs, torch.tensor([1, 0]), "labels", "mean")
    torch.testing.assert_close(made, outputs.flip(0), rtol=1e-3, atol=1e-6)


def test_first_of_each_group():
    assert first_of(GROUPS).tolist() == [1, 0, 3]


@pytest.mark.parametrize("predicts", ["class", "labels"])
def test_temperature_undoes_what_was_multiplied(predicts):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, 3, generator=generator)
    if predicts == "class":
        target = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
    else:
        target = torch.bernoulli(logits.sigmoid(), generator=generator)
        target[::7, 1] = math.nan
    assert fit_temperature(3 * logits, target, predicts) == pytest.approx(3, rel=0.1)
    assert fit_temperature(0.5 * logits, target, predicts) == pytest.approx(0.5, rel=0.1)


def test_certainty_is_not_learnt_from_a_few_right_answers():
    assert fit_temperature(torch.tensor([[5.0, 0.0], [0.0, 5.0]]), torch.tensor([0, 1]), "class") == 0.25


def f1(called, truth):
    hits = (called & (truth == 1)).sum()
    return 2 * hits / (called.sum() + (truth == 1).sum())


def test_no_threshold_has_a_higher_f1():
    rng = np.random.default_rng(0)
    # two decimals: many are equal
    probabilities = rng.random((60, 5)).round(2)
    truth = (rng.random((60, 5)) < probabilities).astype(float)
    truth[:20, 0], truth[:, 1] = np.nan, 0
    found = best_thresholds(probabilities, truth)
    assert found[1] == 0.5
    for label in (0, 2, 3, 4):
        known = ~np.isnan(truth[:, label])
        p, t = probabilities[known, label], truth[known, label]
        best = max(f1(p >= cut, t) for cut in np.linspace(0, 1, 201))
        assert f1(p >= found[label], t) == pytest.approx(best)
