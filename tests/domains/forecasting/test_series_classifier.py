"""Classifiers of whole series: what a score depends on, and the sktime estimator around it."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave_domains.forecasting import BackboneClassifier
from helixwave_domains.forecasting.series_classifier import LabelledSeries, SeriesClassifier, classification, logits
from torch import Tensor
from torch.testing import assert_close

LENGTHS = (9, 4, 12, 1)
PATCH = pytest.mark.parametrize("patch", [1, 3, 5])


def network(patch: int = 1, blocks: list[dict] | None = None) -> SeriesClassifier:
    torch.manual_seed(0)
    backbone = Backbone(8, n_layer=2, blocks=blocks or [{"name": "mamba", "d_state": 4}])
    return SeriesClassifier(backbone, 2, 3, patch=patch).eval()


def series(lengths: tuple[int, ...] = LENGTHS) -> list[np.ndarray]:
    return [np.random.default_rng(T).normal(size=(T, 2)) for T in lengths]


def labelled(arrays: list[np.ndarray]) -> LabelledSeries:
    return LabelledSeries(arrays, np.arange(len(arrays)) % 3)


def plain(model: SeriesClassifier, x: np.ndarray) -> Tensor:
    """One series by itself: the values and the mask of each step, patch by patch."""
    known = ~np.isnan(x)
    steps = np.concatenate([np.where(known, x, 0), known], axis=1)
    steps = np.concatenate([steps, np.zeros((-len(x) % model.patch, 4))])
    patches = torch.tensor(steps.reshape(-1, 4 * model.patch), dtype=torch.float32)
    hidden, _ = model.backbone(model.embedding(patches)[None])
    return model.head(hidden[0].mean(0))


@PATCH
@pytest.mark.parametrize("blocks", [None, [{"name": "bidirectional", "block": {"name": "s4d", "d_state": 4}}]])
def test_scores_of_a_batch_are_those_of_each_series(patch: int, blocks: list[dict] | None) -> None:
    model, arrays = network(patch, blocks), series()
    arrays[0][3, 1] = np.nan
    arrays[2][:, 0] = np.nan
    scores = logits(model, labelled(arrays).batch(np.arange(4)))
    for found, array in zip(scores, arrays, strict=True):
        assert_close(found, plain(model, array), rtol=1e-4, atol=1e-5)


def test_batches_by_number() -> None:
    batch = labelled(series()).batch(np.array([1, 3, 0]))
    assert batch.lengths.tolist() == [4, 1, 9]
    assert batch.labels.tolist() == [1, 0, 0]
    assert batch.values.shape == (3, 9, 2)
    assert batch.values[1, 1:].isnan().all()
    assert_close(batch.values[2], torch.tensor(series()[0], dtype=torch.float32))


def test_missing_values_reach_no_gradient() -> None:
    model, arrays = network().train(), series()
    arrays[0][:] = np.nan
    classification(model, labelled(arrays).batch(np.arange(4))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def panel(n: int, seed: int = 0, columns: int = 1) -> tuple[list[pd.DataFrame], np.ndarray]:
    """Slow or fast sines of unequal lengths, with gaps and noise."""
    rng = np.random.default_rng(seed)
    labels = np.array(["slow", "fast"])[np.arange(n) % 2]
    frames = []
    for label in labels:
        t = np.arange(rng.integers(16, 28))[:, None]
        values = np.sin(t * (0.4 if label == "slow" else 1.3) + rng.uniform(0, 6) + np.arange(columns))
        values += 0.1 * rng.normal(size=values.shape)
        values[rng.random(values.shape) < 0.1] = np.nan
        frames.append(pd.DataFrame(values, columns=[f"c{i}" for i in range(columns)]))
    return frames, labels


def classifier(**settings: Any) -> BackboneClassifier:
    small = {"blocks": [{"name": "gru"}], "d_model": 8, "n_layer": 1, "training": {"epochs": 12, "lr": 0.02}}
    return BackboneClassifier(**{**small, **settings})


@pytest.mark.parametrize("columns", [1, 2])
def test_learns_from_series_of_unequal_lengths_with_gaps(columns: int) -> None:
    fitted = classifier().fit(*panel(60, columns=columns))
    X, y = panel(40, seed=1, columns=columns)
    assert (fitted.predict(X) == y).mean() > 0.9
    shares = fitted.predict_proba(X)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-12)
    assert np.array_equal(fitted.classes_[shares.argmax(axis=1)], fitted.predict(X))


def test_scales_do_not_matter() -> None:
    X, y = panel(20)
    quick = {"training": {"epochs": 1}}
    plain = classifier(**quick).fit(X, y).predict_proba(X)
    moved = [1e4 + 1e3 * each for each in X]
    np.testing.assert_allclose(classifier(**quick).fit(moved, y).predict_proba(moved), plain, atol=1e-3)


def test_the_random_state_decides() -> None:
    X, y = panel(20)
    before = torch.random.get_rng_state()
    quick = {"training": {"epochs": 1}}
    first, again, other = (classifier(random_state=s, **quick).fit(X, y).predict_proba(X) for s in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(("validation", "judged"), [(0.2, True), (0.0, False), (0.05, False)])
def test_a_share_of_each_class_is_held_out(validation: float, judged: bool) -> None:
    fitted = classifier(validation=validation, training={"epochs": 1}).fit(*panel(20))
    assert (fitted.epochs_[0].validation_loss is not None) is judged


def test_a_pickled_classifier_says_the_same() -> None:
    X, y = panel(20)
    fitted = classifier(training={"epochs": 1}).fit(X, y)
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(X), fitted.predict_proba(X))  # noqa: S301


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": [{"name": "gro"}]}, "BackboneClassifier.*no block named 'gro'. Did you mean"),
        ({"patch": 0}, "patch is 0, expected at least 1"),
        ({"training": {"lrate": 1}}, "training: unknown key 'lrate'"),
    ],
)
def test_settings_that_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        classifier(**settings).fit(*panel(8))
