"""Our forecasters where sktime's go: pipelines, tuning, ensembles, reconciliation and backtests."""

import numpy as np
import pandas as pd
import pytest
from helixwave_domains.forecasting import BackboneForecaster, NLinearForecaster
from sktime.datasets import load_airline
from sktime.forecasting.compose import EnsembleForecaster, ForecastingPipeline, TransformedTargetForecaster
from sktime.forecasting.conformal import ConformalIntervals
from sktime.forecasting.model_evaluation import evaluate
from sktime.forecasting.model_selection import ForecastingGridSearchCV
from sktime.performance_metrics.forecasting import MeanAbsolutePercentageError
from sktime.split import ExpandingWindowSplitter, SlidingWindowSplitter
from sktime.transformations.series.boxcox import LogTransformer
from sktime.transformations.series.detrend import Detrender
from sktime.transformations.series.lag import Lag

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
Y = load_airline()
FH = list(range(1, 13))


def error(forecast: pd.Series) -> float:
    return float((forecast - Y[-12:]).abs().mean() / Y[-12:].mean())


@pytest.mark.parametrize(
    "forecaster",
    [
        NLinearForecaster(24),
        pytest.param(BackboneForecaster(24, patch=4, d_model=8, random_state=0), marks=pytest.mark.slow),
    ],
)
def test_pipelines_and_ensembles(forecaster):
    pipeline = LogTransformer() * Detrender() * forecaster
    assert isinstance(pipeline, TransformedTargetForecaster)
    assert error(pipeline.fit(Y[:-12], fh=FH).predict()) < 0.1
    both = EnsembleForecaster([("a", forecaster), ("b", NLinearForecaster(12))])
    assert error(both.fit(Y[:-12], fh=FH).predict()) < 0.15


def test_exogenous_variables_through_a_pipeline():
    X = pd.DataFrame({"month": np.sin(np.arange(len(Y)) * np.pi / 6)}, index=Y.index)
    pipeline = ForecastingPipeline([("lag", Lag([0, 1], index_out="original")), ("model", NLinearForecaster(24))])
    forecast = pipeline.fit(Y[:-12], X=X[:-12], fh=FH).predict(X=X[-12:])
    assert error(forecast) < 0.1


def test_tuning_finds_the_season():
    splits = ExpandingWindowSplitter(initial_window=96, step_length=12, fh=FH)
    tuned = ForecastingGridSearchCV(NLinearForecaster(), cv=splits, param_grid={"context": [2, 24]}, backend=None)
    assert tuned.fit(Y, fh=FH).best_params_ == {"context": 24}


def test_backtests_update_or_refit():
    splits = SlidingWindowSplitter(window_length=96, step_length=12, fh=FH)
    for strategy in ("refit", "update", "no-update_params"):
        table = evaluate(
            NLinearForecaster(24),
            splits,
            Y,
            strategy=strategy,
            scoring=MeanAbsolutePercentageError(),
            error_score="raise",
        )
        assert len(table) == 4
        assert table.filter(like="test_").mean(axis=None, numeric_only=True) < 0.2


def test_intervals_of_sktime_around_our_forecasts():
    wrapped = ConformalIntervals(NLinearForecaster(12), initial_window=100, sample_frac=0.1)
    assert wrapped.fit(Y, fh=[1, 2]).predict_interval(coverage=0.9).shape == (2, 2)
