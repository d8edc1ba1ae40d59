"""Rolling-origin evaluation: nothing of the future is seen, and errors are those of the formulas."""

import math

import numpy as np
import pytest
from helixwave.errors import InputError

pytest.importorskip("sktime")
from helixwave_domains.forecasting.backtest import Backtest, Plan, backtest, naive_error, seasonal_naive
from helixwave_domains.forecasting.forecast_metrics import SERIES, STEPS, TARGETS, WINDOWS, bounds, levels_of, scores
from helixwave_domains.forecasting.panel_forecaster import Forecast
from helixwave_domains.forecasting.panels import NamedSeries, Panel
from helixwave_domains.forecasting.time_grid import Frequency

LEVELS = [0.05, 0.25, 0.5, 0.75, 0.95]


class Recorder:
    """A forecaster that says the last value, and remembers what it is told."""

    def __init__(self, calls):
        self.calls = calls

    def fit(self, panel, horizon):
        self.calls.append(("fit", [len(series) for series in panel.series]))

    def read(self, panel, learn):
        self.calls.append(("learn" if learn else "read", [len(series) for series in panel.series]))

    def forecast(self, panel, horizon, levels):
        mean = np.stack([np.repeat(series.values[-1:], horizon, axis=0) for series in panel.series])
        return Forecast(mean, mean[..., None] + np.asarray(levels) - 0.5)


@pytest.fixture
def panel():
    rng = np.random.default_rng(1)
    series = [NamedSeries(str(n), np.arange(n), rng.normal(size=(n, 2)), np.empty((n, 0))) for n in (40, 33)]
    return Panel(series, ["a", "b"], [], Frequency("n", 1))


@pytest.mark.parametrize(
    ("strategy", "names"),
    [("refit", ["fit"] * 3), ("update", ["fit", "learn", "learn"]), ("once", ["fit", "read", "read"])],
)
def test_windows(panel, strategy, names):
    calls, done = [], []
    plan = Plan(horizon=5, windows=3, step=2, strategy=strategy)
    result = backtest(panel, plan, 4, lambda: Recorder(calls), LEVELS, lambda: done.append(1))
    assert calls == list(zip(names, [[31, 24], [33, 26], [35, 28]], strict=True))
    assert len(done) == 3
    for w, cut in enumerate([9, 7, 5]):
        for n, series in enumerate(panel.series):
            begin = len(series) - cut
            np.testing.assert_array_equal(result.truth[w, n], series.values[begin : begin + 5])
            np.testing.assert_array_equal(result.mean[w, n], series.values[[begin - 1] * 5])
            np.testing.assert_array_equal(result.naive[w, n], series.values[[begin - 4 + h % 4 for h in range(5)]])
            np.testing.assert_array_equal(result.scale[w, n], naive_error(series.values[:begin], 4))


def test_refused(panel):
    with pytest.raises(
        InputError, match="series '33' has 33 steps, expected at least 2 before the last 32, which are to"
    ):
        backtest(panel, Plan(8, 4, 8), 1, lambda: Recorder([]))


def test_seasonal_naive_of_missing_values():
    values = np.asarray([[1, 10], [2, np.nan], [3, np.nan], [np.nan, np.nan], [5, np.nan]])
    np.testing.assert_array_equal(seasonal_naive(values, 2, 3), [[2, np.nan], [5, 10], [2, np.nan]])
    # no whole season: the last known
    np.testing.assert_array_equal(seasonal_naive(values, 6, 2), [[5, 10], [5, 10]])


def test_naive_error():
    values = np.asarray([[1.0, 2, 7], [4, 2, np.nan], [6, 2, 9], [np.nan, 2, np.nan]])
    np.testing.assert_array_equal(naive_error(values, 1), [2.5, np.nan, np.nan])
    np.testing.assert_array_equal(naive_error(values, 2), [5, np.nan, 2])
    np.testing.assert_array_equal(naive_error(values, 4), [np.nan] * 3)


def test_scores_are_the_formulas(panel):
    rng = np.random.default_rng(2)
    W, N, H, C = shape = (3, 2, 4, 2)
    truth, mean, naive = rng.normal(size=(3, *shape))
    truth[0, 1, 2, 0] = np.nan
    truth[1, 0, 0, 0] = mean[1, 0, 0, 0] = 0
    quantiles = np.sort(rng.normal(size=(*shape, len(LEVELS))), axis=-1)
    scale = rng.uniform(1, 2, size=(W, N, C))
    result = Backtest(panel, Plan(H, W, 1), truth, mean, naive, LEVELS, quantiles, scale)
    found = scores(result, [0.9, 0.5])
    for who, forecast in (("model", mean), ("naive", naive)):
        by_step = found[who].mean((WINDOWS, SERIES, TARGETS))
        for h in range(H):
            known = [
                (w, n, c) for w in range(W) for n in range(N) for c in range(C) if not math.isnan(truth[w, n, h, c])
            ]
            pairs = [(truth[w, n, h, c], forecast[w, n, h, c], scale[w, n, c]) for w, n, c in known]
            mae = sum(abs(y - f) for y, f, _ in pairs) / len(pairs)
            rmse = math.sqrt(sum((y - f) ** 2 for y, f, _ in pairs) / len(pairs))
            mase = sum(abs(y - f) / s for y, f, s in pairs) / len(pairs)
            smape = sum(200 * abs(y - f) / ((abs(y) + abs(f)) or 1) for y, f, _ in pairs) / len(pairs)
            measured = [by_step[name][h] for name in ("mae", "rmse", "mase", "smape")]
            np.testing.assert_allclose(measured, [mae, rmse, mase, smape])
    whole = found["model"].mean((WINDOWS, SERIES, STEPS, TARGETS))
    losses, within = [], []
    for place in np.ndindex(shape):
        if not math.isnan(y := truth[place]):
            loss = [max(q * (y - f), (1 - q) * (f - y)) for q, f in zip(LEVELS, quantiles[place], strict=True)]
            losses.append(sum(loss) / len(loss))
            within.append(
                [quantiles[place][0] <= y <= quantiles[place][4], quantiles[place][1] <= y <= quantiles[place][3]]
            )
    np.testing.assert_allclose(whole["pinball"], np.mean(losses))
    np.testing.assert_allclose([whole["coverage_0.9"], whole["coverage_0.5"]], np.mean(within, axis=0))
    assert list(found["naive"].points) == ["mae", "rmse", "mase", "smape"]


def test_ends_of_intervals():
    assert bounds(0.9) == (0.05, 0.95)
    assert levels_of([0.9, 0.5, 0.5]) == [0.05, 0.25, 0.75, 0.95]
