"""Informer and the backbones as sktime forecasters: laws of fits, seeds, calendars, pretraining and saved models."""

import copy
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helixwave.errors import InputError
from helixwave_domains.forecasting import BackboneForecaster, InformerForecaster
from helixwave_domains.forecasting.estimators.storage import load_forecaster, save_forecaster

LEARN = {"epochs": 8, "min_steps": 16, "lr": 0.01}
QUICK = {"epochs": 1, "min_steps": 1}
SMALL: dict[str, dict[str, Any]] = {
    "informer": {"context": 12, "d_model": 8, "n_head": 2, "d_ff": 16, "encoders": (1,)},
    "backbone": {"context": 12, "blocks": [{"name": "mlp"}], "d_model": 8, "n_layer": 1, "patch": 4, "dropout": 0.0},
}
BOTH = pytest.mark.parametrize("name", SMALL)
OUTPUT = pytest.mark.parametrize("output", ["gaussian", "quantiles"])


def forecaster(name: str, **settings: Any) -> Any:
    cls = {"informer": InformerForecaster, "backbone": BackboneForecaster}[name]
    return cls(**{**SMALL[name], "training": QUICK, **settings})


def series(n: int = 160, columns: int = 1, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    t = np.arange(n)[:, None]
    values = np.sin(t / 4 + np.arange(columns)) * (1 + np.arange(columns)) + 0.1 * rng.normal(size=(n, columns))
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=n, freq="h"), [f"c{i}" for i in range(columns)])


def panel(n_series: int = 4, n: int = 120, columns: int = 1) -> pd.DataFrame:
    parts = {f"s{i}": series(n - 20 * (i % 2), columns, seed=i) for i in range(n_series)}
    return pd.concat(parts, names=["id", "time"])


@BOTH
def test_beats_the_last_value(name: str) -> None:
    y = series(200, 2)
    error = (forecaster(name, training=LEARN).fit(y[:-12], fh=range(1, 13)).predict() - y[-12:]).abs().mean()
    assert error.sum() < (y[-12:] - y.iloc[-13]).abs().mean().sum() / 2


@BOTH
def test_the_random_state_decides(name: str) -> None:
    y = series(60)
    before = torch.random.get_rng_state()
    first, again, other = (forecaster(name, random_state=s).fit(y, fh=[1, 2]).predict() for s in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)
    assert torch.equal(torch.random.get_rng_state(), before)


@BOTH
def test_what_is_held_out_chooses_the_epoch(name: str) -> None:
    fitted = forecaster(name, training={**QUICK, "epochs": 5, "patience": 2}).fit(series(120), fh=[1, 2])
    losses = [epoch.validation_loss for epoch in fitted.epochs_]
    assert 1 <= len(losses) <= 5
    assert None not in losses
    whole = forecaster(name, validation=0.0, training={**QUICK, "epochs": 2}).fit(series(120), fh=[1, 2])
    assert [epoch.validation_loss for epoch in whole.epochs_] == [None, None]


@BOTH
def test_a_panel_of_unequal_lengths_shares_a_network(name: str) -> None:
    fitted = forecaster(name).fit(panel(), fh=[1, 3])
    forecast = fitted.predict()
    assert forecast.groupby("id").size().to_dict() == {f"s{i}": 2 for i in range(4)}
    assert forecast.notna().all().all()


@BOTH
def test_update_moves_the_context_and_with_parameters_the_weights(name: str) -> None:
    y = series(120)
    fitted = forecaster(name).fit(y[:100], fh=[1])
    before = {name: tensor.clone() for name, tensor in fitted.network_.state_dict().items()}
    fitted.update(y[100:110], update_params=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in fitted.network_.state_dict().items())
    assert fitted.predict().index[0] == y.index[110]
    fitted.update(y[110:])
    assert not all(torch.equal(tensor, before[name]) for name, tensor in fitted.network_.state_dict().items())


@BOTH
def test_exogenous_variables_of_a_step_reach_its_forecast(name: str) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=310)}, series(310).index)
    y = 0.05 * series(310) + 3 * X.to_numpy()
    training = {"epochs": 6, "lr": 0.02}
    fitted = forecaster(name, context=4, training=training, dropout=0.0).fit(y[:300], X=X[:300], fh=range(1, 6))
    error = (fitted.predict(X=X[300:305]) - y[300:305]).abs().mean().item()
    assert error < y[:300].sub(y[:300].mean()).abs().mean().item() / 2


def test_informer_reads_the_calendar_of_any_index() -> None:
    y = series(80)
    indices = [y.index, y.index.to_period("h"), y.index.tz_localize("Asia/Tokyo"), pd.RangeIndex(80)]
    forecasts = []
    for index in indices:
        fitted = forecaster("informer", training={**QUICK, "epochs": 2}).fit(y.set_axis(index), fh=[1, 2])
        assert fitted.inputs_.frequency == (None if isinstance(index, pd.RangeIndex) else "h")
        forecasts.append(fitted.predict().to_numpy())
    assert np.array_equal(forecasts[0], forecasts[1])
    assert np.array_equal(forecasts[0], forecasts[2])
    assert not np.array_equal(forecasts[0], forecasts[3])


@pytest.mark.parametrize("kind", ["fixed", "learned"])
def test_informer_with_tables_of_the_calendar(kind: str) -> None:
    fitted = forecaster("informer", time_embedding=kind).fit(series(60), fh=[1])
    assert fitted.inputs_ == (1, 4, "h")
    assert fitted.predict().notna().all().all()
    with pytest.raises(InputError, match=f"time_embedding='{kind}' reads no exogenous variables"):
        forecaster("informer", time_embedding=kind).fit(series(60), X=series(60, seed=1), fh=[1])


def test_informer_stack_of_a_short_series_has_fewer_layers() -> None:
    fitted = forecaster("informer", encoders=(3, 2, 1)).fit(series(6), fh=[1])
    assert [len(encoder.layers) for encoder in fitted.network_.encoders] == [2, 1]
    assert len(forecaster("informer", encoders=(3, 2, 1)).fit(series(60), fh=[1]).network_.encoders) == 3


def test_gaps_are_told_to_the_backbone() -> None:
    y = series(200)
    gaps = y.copy()
    gaps.iloc[np.random.default_rng(1).choice(np.arange(5, 180), 30, replace=False)] = np.nan
    whole, holed = (
        forecaster("backbone", training=LEARN).fit(each[:-6], fh=range(1, 7)).predict() for each in (y, gaps)
    )
    assert (holed - y[-6:]).abs().mean().item() < 2 * (whole - y[-6:]).abs().mean().item()
    fitted = forecaster("backbone").fit(y[:-2], fh=[1])
    news = y[-2:].copy()
    forecasts = []
    # a value half way between its neighbours, or none
    for value in ((news.iloc[1] + y.iloc[-3]) / 2, np.nan):
        news.iloc[0] = value
        forecasts.append(copy.deepcopy(fitted).update(news, update_params=False).predict().iloc[0, 0])
    assert forecasts[0] != forecasts[1]


@OUTPUT
def test_distributions_of_the_network(output: str) -> None:
    y = series(300)
    fitted = forecaster("backbone", output=output, training=LEARN).fit(y[:-24], fh=range(1, 25))
    levels = [0.01, 0.05, 0.2, 0.5, 0.75, 0.95, 0.999]
    quantiles = fitted.predict_quantiles(alpha=levels).to_numpy()
    assert (np.diff(quantiles, axis=1) >= 0).all()
    np.testing.assert_allclose(quantiles[:, 3], fitted.predict().to_numpy()[:, 0])
    inside = (quantiles[:, 1] < y[-24:].to_numpy()[:, 0]) & (y[-24:].to_numpy()[:, 0] < quantiles[:, 5])
    assert inside.mean() > 0.6
    # a distribution of its own for each window, where errors have one for all
    widths = []
    for rows in (y[-24:-18], y[-18:-12]):
        fitted.update(rows, update_params=False)
        widths.append(np.ptp(fitted.predict_quantiles(alpha=[0.1, 0.9]).to_numpy(), axis=1))
    assert not np.allclose(*widths)


def test_pretraining_helps_a_series_too_short_to_learn_from() -> None:
    y = series(30, seed=11)
    alone = forecaster("backbone", training=LEARN).fit(y[:12], fh=range(1, 9))
    pretrained = forecaster("backbone", training=LEARN)
    pretrained.pretrain(panel(4), fh=range(1, 11))
    before = {name: tensor.clone() for name, tensor in pretrained.pretrained_network_.state_dict().items()}
    pretrained.fit(y[:12], fh=range(1, 9))
    assert pretrained.context_ == 12
    errors = [((each.predict() - y[12:20]) ** 2).mean().item() for each in (pretrained, alone)]
    assert errors[0] < errors[1] / 2
    # a fit goes on from pretraining, and leaves it as it was
    assert all(torch.equal(t, before[name]) for name, t in pretrained.pretrained_network_.state_dict().items())
    assert pretrained.predict_interval(coverage=0.9).notna().all().all()
    first = pretrained.predict()
    assert pretrained.fit(y[:12], fh=range(1, 9)).predict().equals(first)


def test_a_pretrained_network_forecasts_what_it_cannot_be_trained_on() -> None:
    network = forecaster("backbone", training=LEARN)
    network.pretrain(panel(2), fh=[1, 2])
    pretrained = network.pretrained_network_.state_dict()
    network.fit(series(2), fh=[1, 2])
    assert network.epochs_ == []
    assert all(torch.equal(tensor, pretrained[name]) for name, tensor in network.network_.state_dict().items())
    assert network.predict_interval().notna().all().all()
    with pytest.raises(InputError, match=r"training: no window of 12 \+ 2 steps fits"):
        network.pretrain(pd.concat({"s0": series(2)}, names=["id", "time"]))


def test_numbers_of_a_grid() -> None:
    training = {"epochs": np.int64(1), "lr": np.float64(0.01), "min_steps": np.arange(1, 2)[0]}
    assert len(forecaster("informer", training=training).fit(series(40), fh=[1]).epochs_) == 1


def test_pretraining_goes_on() -> None:
    network = forecaster("backbone")
    network.pretrain(panel(2), fh=[1, 2])
    once = {name: tensor.clone() for name, tensor in network.pretrained_network_.state_dict().items()}
    network.pretrain(panel(3))
    assert not all(torch.equal(t, once[name]) for name, t in network.pretrained_network_.state_dict().items())


def test_what_pretraining_does_not_fit() -> None:
    with pytest.raises(InputError, match="pretraining has to know how far forecasts go: pass fh"):
        forecaster("backbone").pretrain(panel(2))
    network = forecaster("backbone")
    network.pretrain(panel(2), fh=[1, 2])
    with pytest.raises(InputError, match="3 steps are to be forecast and pretraining was for 2"):
        network.clone().fit(series(60), fh=[3])
    with pytest.raises(InputError, match="was for 1 columns and 0 exogenous variables, and 2 columns and 0 exog"):
        network.clone().fit(series(60, 2), fh=[1])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("informer", {"form": "ltsf", "interval": "conformal", "encoders": (2, 1)}),
        ("backbone", {"output": "quantiles", "calendar": True}),
        ("backbone", {"blocks": [{"name": "mamba"}, {"name": "mlp"}], "mixes_channels": True}),
    ],
)
def test_a_saved_forecaster_says_the_same(name: str, settings: dict, tmp_path: Any) -> None:
    fitted = forecaster(name, **settings)
    X = series(64, 2, seed=3)
    fitted.fit(series(60, 2), X=X[:60], fh=[1, 2, 4])
    save_forecaster(fitted, tmp_path / "saved")
    loaded = load_forecaster(tmp_path / "saved")
    assert loaded.predict(X=X[60:]).equals(fitted.predict(X=X[60:]))
    arguments = {"X": X[60:], "coverage": [0.5, 0.9]}
    assert loaded.predict_interval(**arguments).equals(fitted.predict_interval(**arguments))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("informer", {"form": "ltfs"}, "no form 'ltfs'. Did you mean 'ltsf'"),
        ("informer", {"n_head": 3}, "d_model is 8, expected a multiple of n_head=3"),
        ("informer", {"training": {"epoch": 1}}, "training: unknown key 'epoch'. Did you mean 'epochs'"),
        ("informer", {"training": {"epochs": "3"}}, "training: epochs is '3', expected int"),
        ("informer", {"training": {"lr": -1}}, "training: lr is -1, expected more than 0"),
        ("backbone", {"output": "normal"}, "output='normal': there are 'point', 'gaussian', 'quantiles'"),
        ("backbone", {"centre": "median"}, "centre='median': there are 'mean' and 'last'"),
        ("backbone", {"blocks": [{"name": "mambo"}]}, "no block named 'mambo'. Did you mean 'mamba'"),
        ("backbone", {"stride": 0}, "stride is 0, expected from 1 to patch=4"),
    ],
)
def test_settings_that_are_refused(name: str, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        forecaster(name, **settings).fit(series(60), fh=[1])
