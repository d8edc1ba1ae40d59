"""The exact solver against regressions on the windows written out."""

import numpy as np
import pytest
from helixwave_domains.forecasting.linear_maps import KINDS, moving_average
from helixwave_domains.forecasting.ridge import RIDGES, fit
from helixwave_domains.forecasting.window_statistics import window_statistics
from sklearn.linear_model import LinearRegression, Ridge

L, H = 12, 5
RNG = np.random.default_rng(0)
X = np.sin(np.arange(400) / 5)[:, None] + 0.3 * RNG.normal(size=(400, 1)) + 3


def windows(x, n_variable=1):
    """Contexts `[n, L, V]` and targets `[n, H, V]`."""
    every = np.stack([x[t : t + L + H] for t in range(len(x) - L - H + 1)])
    return every[:, :L], every[:, L:]


def replicate_padded_average(x, width=25):
    """As published: the first and last values repeated, then the mean of each `width` values."""
    ends = [np.repeat(x[:, :1], width // 2, 1), x, np.repeat(x[:, -1:], width // 2, 1)]
    padded = np.concatenate(ends, axis=1)
    return np.stack([padded[:, i : i + width].mean(1) for i in range(x.shape[1])], axis=1)


def by_sklearn(kind, x, ridge):
    """Forecasts of the windows of x by a regression on features made window by window."""
    context, target = (part[..., 0] for part in windows(x))
    level = {"nlinear": context[:, -1:], "mean": context.mean(1, keepdims=True)}.get(kind, 0.0)
    features = context - level
    if kind == "dlinear":
        trend = replicate_padded_average(context)
        features = np.concatenate([trend, context - trend], axis=1)
    model = Ridge(alpha=ridge * len(context), solver="cholesky").fit(features, target - level)
    return model.predict(features) + level


@pytest.mark.parametrize("ridge", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_a_regression_on_the_windows(kind, ridge):
    found = fit(kind, window_statistics([X], L + H), context=L, horizon=H, ridges=[ridge])
    expected = by_sklearn(kind, X, ridge)
    context, target = windows(X)
    assert np.allclose(found(context[..., 0]), expected, atol=1e-7)
    assert np.allclose(found.sigma, np.sqrt(((target[..., 0] - expected) ** 2).mean(0)), atol=1e-7)


def test_the_penalty_is_the_best_on_the_validation_windows():
    train, held = X[:60], X[60:]
    context, target = (part[..., 0] for part in windows(held))
    both = window_statistics([train], L + H), window_statistics([held], L + H)
    chosen = fit("nlinear", *both, context=L, horizon=H)
    errors = [
        ((fit("nlinear", both[0], context=L, horizon=H, ridges=[ridge])(context) - target) ** 2).mean()
        for ridge in RIDGES
    ]
    assert chosen.ridge == RIDGES[int(np.argmin(errors))]
    assert 0 < np.argmin(errors) < len(RIDGES) - 1
    assert np.isclose((chosen.sigma**2).mean(), min(errors))


@pytest.mark.parametrize("kind", KINDS)
def test_exogenous_variables_at_the_step_that_is_forecast(kind):
    z = RNG.normal(size=(400, 2))
    y = X[:, 0] + z @ [0.7, -1.2]
    data = np.column_stack([y, z])
    found = fit(kind, window_statistics([data], L + H), context=L, horizon=H, ridges=[0.05])
    context, target = windows(data)
    level = np.einsum("nlv,l->nv", context, KINDS[kind].level(L))
    root = KINDS[kind].root(L) if KINDS[kind].root else np.eye(L)
    features = (context[..., 0] - level[:, :1]) @ root.T
    for h in range(H):
        at_step = target[:, h] - level
        model = Ridge(alpha=0.05 * len(context), solver="cholesky")
        model.fit(np.column_stack([features, at_step[:, 1:]]), at_step[:, 0])
        expected = model.predict(np.column_stack([features, at_step[:, 1:]])) + level[:, 0]
        assert np.allclose(found(context[..., 0], context[..., 1:], target[..., 1:])[:, h], expected, atol=1e-7)
    assert np.allclose(found.exogenous, [0.7, -1.2], atol=0.35)


def test_a_penalty_is_chosen_with_exogenous_variables_too():
    data = np.column_stack([X, RNG.normal(size=(400, 1))])
    train, held = data[:80], data[80:]
    both = window_statistics([train], L + H), window_statistics([held], L + H)
    found = fit("mean", *both, context=L, horizon=H)
    context, target = windows(held)
    error = ((found(context[..., 0], context[..., 1:], target[..., 1:]) - target[..., 0]) ** 2).mean(0)
    assert np.allclose(found.sigma**2, error)


def test_nlinear_is_linear_with_rows_that_sum_to_one():
    found = fit("nlinear", window_statistics([X], L + H), context=L, horizon=H, ridges=[0.01])
    assert np.allclose(found.weights.sum(1), 1)


def test_without_a_penalty_dlinear_is_linear():
    statistics = window_statistics([X], L + H)
    linear, dlinear = (fit(kind, statistics, context=L, horizon=H, ridges=[1e-12]) for kind in ("linear", "dlinear"))
    assert np.allclose(linear.weights, dlinear.weights, atol=1e-5)


def test_a_straight_line_goes_on():
    line = np.arange(100.0)[:, None]
    found = fit("nlinear", window_statistics([line], L + H), context=L, horizon=H, ridges=[1e-9])
    assert np.allclose(found(np.arange(200.0, 200 + L)), np.arange(200.0 + L, 200 + L + H), atol=1e-4)


def test_the_first_steps_of_a_longer_horizon():
    statistics = window_statistics([X], L + H)
    whole = fit("linear", statistics, context=L, horizon=H, ridges=[0.1])
    assert np.array_equal(whole.first(2)(X[:L, 0]), whole(X[:L, 0])[:2])


def test_a_shorter_context_from_the_same_statistics():
    found = fit("linear", window_statistics([X], L + H), context=4, horizon=H, ridges=[1e-9])
    context, target = (part[..., 0] for part in windows(X))
    assert np.allclose(
        found(context[:, -4:]), LinearRegression().fit(context[:, -4:], target).predict(context[:, -4:]), atol=1e-5
    )


def test_moving_average_is_the_published_one():
    x = RNG.normal(size=(3, 40))
    assert np.allclose(x @ moving_average(40).T, replicate_padded_average(x))


def test_penalties_without_windows_to_choose_by():
    with pytest.raises(ValueError, match="2 penalties and no validation windows to choose by"):
        fit("linear", window_statistics([X], L + H), context=L, horizon=H, ridges=[1, 2])
