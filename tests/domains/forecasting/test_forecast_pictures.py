"""Pictures of forecasts show what their tables say."""

import numpy as np
import pytest

pytest.importorskip("sktime")
from helixwave.pictures import as_svg
from helixwave_domains.forecasting.backtest import Backtest, Plan
from helixwave_domains.forecasting.forecast_metrics import LEVELS, levels_of
from helixwave_domains.forecasting.forecast_pictures import (
    calibration_pictures,
    error_picture,
    forecast_picture,
    weights_picture,
)
from helixwave_domains.forecasting.panel_forecaster import Forecast
from helixwave_domains.forecasting.panels import NamedSeries, Panel
from helixwave_domains.forecasting.time_grid import Frequency


def make_panel(n_series, frequency="h"):
    grid = Frequency.parse(frequency)
    values = np.arange(40.0).reshape(20, 2)
    series = [NamedSeries(f"s{n}", grid.labels(np.arange(20)), values + n, np.empty((20, 0))) for n in range(n_series)]
    return Panel(series, ["$a$", "b"], [], grid)


@pytest.fixture(scope="module")
def result():
    """A forecaster whose distribution is the true one: the truth is uniform and so are its quantiles."""
    W, N, H, C = shape = (50, 2, 3, 2)
    truth = np.random.default_rng(0).uniform(size=shape)
    quantiles = np.broadcast_to(np.asarray(LEVELS), (*shape, len(LEVELS)))
    mean, naive = np.full(shape, 0.5), np.zeros(shape)
    return Backtest(make_panel(N), Plan(H, W, 1), truth, mean, naive, LEVELS, quantiles, np.full((W, N, C), 2.0))


def test_forecast():
    panel, levels = make_panel(8), levels_of([0.5, 0.9])
    mean = np.zeros((8, 4, 2))
    forecast = Forecast(mean, mean[..., None] + np.asarray(levels) - 0.5)
    picture = forecast_picture(panel, forecast, levels, [0.5, 0.9])
    assert picture.caption.endswith("The first 12 of 16 are drawn.")
    axes = picture.figure.axes
    assert len(axes) == 12
    np.testing.assert_array_equal(axes[3].lines[0].get_ydata(), panel.series[1].values[-12:, 1])
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["90%", "50%", "forecast"]
    bands = [band.get_paths()[0].vertices[:, 1] for band in axes[0].collections]
    np.testing.assert_allclose([(band.min(), band.max()) for band in bands], [(-0.45, 0.45), (-0.25, 0.25)])


@pytest.mark.parametrize("frequency", ["h", "MS", "1"])
def test_forecast_is_drawn(frequency):
    picture = forecast_picture(make_panel(1, frequency), Forecast(np.zeros((1, 4, 2)), np.empty((1, 4, 2, 0))), [], [])
    assert "<svg" in as_svg(picture.figure)


def test_errors(result):
    picture = error_picture(result, "my model")
    np.testing.assert_allclose(picture.table["model_mase"], np.abs(result.truth - 0.5).mean((0, 1, 3)) / 2)
    np.testing.assert_allclose(picture.table["naive_mae"], result.truth.mean((0, 1, 3)))
    model, naive = picture.figure.axes[0].lines
    np.testing.assert_array_equal(model.get_ydata(), picture.table["model_mase"])
    np.testing.assert_array_equal(naive.get_ydata(), picture.table["naive_mase"])


def test_calibration(result):
    coverage, ranks = calibration_pictures(result)
    np.testing.assert_allclose(coverage.table["nominal"], [0.2, 0.4, 0.6, 0.8])
    expected = [((result.truth > 0.5 - c / 2) & (result.truth < 0.5 + c / 2)).mean() for c in coverage.table["nominal"]]
    np.testing.assert_allclose(coverage.table["share"], expected)
    np.testing.assert_allclose(ranks.table["share"], np.histogram(result.truth, bins=10, range=(0, 1))[0] / 600)
    assert ranks.table["share"].sum() == pytest.approx(1)


def test_weights():
    weights = [np.random.default_rng(c).normal(size=(4, 9)) for c in range(2)]
    picture = weights_picture(weights, ["$a$", "b"])
    shown = [axes for axes in picture.figure.axes if axes.images]
    assert [axes.get_title(loc="left") for axes in shown] == [r"\$a\$", "b"]
    for axes, each in zip(shown, weights, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), each)
        # the last step of the context is 0
        assert axes.images[0].get_extent() == [-8.5, 0.5, 4.5, 0.5]
    (only,) = [axes for axes in weights_picture(weights[:1], ["a", "b"]).figure.axes if axes.images]
    assert only.get_title(loc="left") == "all targets"
