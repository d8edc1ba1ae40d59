"""Forecasters of sktime read panels of arrays, and what they say comes back in the panel's order."""

import numpy as np
import pytest
from helixwave.errors import InputError

pytest.importorskip("sktime")
from helixwave_domains.forecasting import NLinearForecaster
from helixwave_domains.forecasting.backtest import seasonal_naive
from helixwave_domains.forecasting.estimators.seasonal_naive import SeasonalNaiveForecaster
from helixwave_domains.forecasting.forecaster_settings import read_settings
from helixwave_domains.forecasting.panel_forecaster import PanelForecaster
from helixwave_domains.forecasting.panels import NamedSeries, Panel
from helixwave_domains.forecasting.time_grid import Frequency

HORIZON = 5


def make_panel(lengths, frequency="h", n_target=2, n_exogenous=0, ahead=0):
    """Random series that all begin at once."""
    rng, grid = np.random.default_rng(0), Frequency.parse(frequency)
    series = [
        NamedSeries(
            # neither in the order of the alphabet nor that of numbers
            f"{(7 * n + 5) % 10}",
            grid.labels(100 + np.arange(length)),
            rng.normal(size=(length, n_target)).cumsum(0),
            rng.normal(size=(length + ahead, n_exogenous)),
        )
        for n, length in enumerate(lengths)
    ]
    return Panel(series, [f"y{c}" for c in range(n_target)], [f"x{k}" for k in range(n_exogenous)], grid)


@pytest.mark.parametrize("frequency", ["15min", "B", "QE", "3"])
@pytest.mark.parametrize("lengths", [[30], [30, 24]], ids=["series", "panel"])
def test_seasonal_naive_of_sktime(frequency, lengths):
    panel = make_panel(lengths, frequency)
    forecaster = PanelForecaster(SeasonalNaiveForecaster(sp=4), "naive")
    forecaster.fit(panel, HORIZON)
    made = forecaster.forecast(panel, HORIZON, [0.05, 0.5, 0.95])
    expected = np.stack([seasonal_naive(series.values, 4, HORIZON) for series in panel.series])
    np.testing.assert_allclose(made.mean, expected)
    # its distribution is symmetric about the forecast
    np.testing.assert_allclose(made.quantiles[..., 1], expected)
    np.testing.assert_allclose(made.quantiles[..., [0, 2]].mean(-1), expected)
    assert (np.diff(made.quantiles) > 0).all()


def test_series_of_a_panel_are_told_apart():
    panel = make_panel([60, 60, 60], n_exogenous=1, ahead=HORIZON)
    forecaster = PanelForecaster(NLinearForecaster(context=8, ridge=1.0), "nlinear")
    forecaster.fit(panel, HORIZON)
    together = forecaster.forecast(panel, HORIZON).mean
    turned = Panel(panel.series[::-1], panel.targets, panel.exogenous, panel.frequency)
    forecaster = PanelForecaster(NLinearForecaster(context=8, ridge=1.0), "nlinear")
    forecaster.fit(turned, HORIZON)
    np.testing.assert_allclose(forecaster.forecast(turned, HORIZON).mean[::-1], together, rtol=1e-8)


def test_reading_on_is_not_learning():
    panel = make_panel([80])
    forecaster = PanelForecaster(NLinearForecaster(context=8), "nlinear")
    forecaster.fit(panel.without_end(20), HORIZON)
    forecaster.read(panel, learn=False)
    (weights,) = forecaster.model.weights()
    history = panel.series[0].values
    made = forecaster.forecast(panel, HORIZON).mean[0]
    scale = history[:60].mean(0), history[:60].std(0)
    context = (history[-8:] - scale[0]) / scale[1]
    known = (weights @ (context - context[-1])) + context[-1]
    # the intercept is the same in all channels
    off = (made - scale[0]) / scale[1] - known
    np.testing.assert_allclose(off, off[:, :1].repeat(2, axis=1), atol=1e-8)


def test_refused():
    panel = make_panel([30, 30], n_exogenous=1, ahead=HORIZON)
    naive = PanelForecaster(SeasonalNaiveForecaster(), "naive")
    with pytest.raises(
        InputError, match=r"naive takes no exogenous or static columns. Leave them out, or take another"
    ):
        naive.fit(panel, HORIZON)
    nlinear = PanelForecaster(NLinearForecaster(context=8), "nlinear")
    nlinear.fit(panel, HORIZON)
    with pytest.raises(InputError, match=r"nlinear was fitted to forecast 5 steps, not 4. Take --horizon 5"):
        nlinear.forecast(panel, 4)
    with pytest.raises(
        InputError, match=r"nlinear was fitted to y0, y1, the targets are y0. Name the same with --target"
    ):
        nlinear.read(make_panel([30, 30], n_target=1), learn=False)
    for other in (make_panel([20, 20], n_exogenous=1), make_panel([40, 10], n_exogenous=1)):
        with pytest.raises(
            InputError, match="nlinear has read up to 1970-01-06 09:00:00, expected that time in each ser"
        ):
            nlinear.read(other, learn=False)


def test_missing_values_that_a_model_does_not_take():
    panel = make_panel([30])
    panel.series[0].values[3] = np.nan
    strict = SeasonalNaiveForecaster().set_tags(**{"capability:missing_values": False})
    with pytest.raises(InputError, match=r"strict takes no missing values, and there are 2. Add --missing interpolate"):
        PanelForecaster(strict, "strict").fit(panel, HORIZON)


def test_what_a_model_says_is_said_in_its_name():
    class Refusing(SeasonalNaiveForecaster):
        def _fit(self, y, X, fh):
            raise ValueError("the moon is not full")

    with pytest.raises(InputError, match="refusing: the moon is not full"):
        PanelForecaster(Refusing(), "refusing").fit(make_panel([30], n_target=1), HORIZON)


def test_settings():
    assert read_settings("nlinear", ["context=24", "ridge=1e-3", "individual=true", "interval=conformal"]) == {
        "context": 24,
        "ridge": 1e-3,
        "individual": True,
        "interval": "conformal",
    }
    nested = read_settings("nlinear", ["training.epochs=3", "training.lr=1e-4"])
    assert nested == {"training": {"epochs": 3, "lr": 1e-4}}
    for words, message in [
        (["context=3", "context.x=3"], "context.x=3: context has a value already. Expected each argument once"),
        (["context"], "cannot read 'context'. Expected key=value, as in context=336"),
        (["contxt=3"], "--model .nlinear.: unknown key 'contxt'. Did you mean 'context'?"),
        (["context=far"], "--model .nlinear.: context is 'far', expected int"),
    ]:
        with pytest.raises(InputError, match=message):
            read_settings("nlinear", words)
    with pytest.raises(InputError, match=r"--model: no forecaster named 'nlinar'. Did you mean 'nlinear'?"):
        read_settings("nlinar", [])
