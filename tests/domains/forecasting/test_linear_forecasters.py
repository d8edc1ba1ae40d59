"""The linear family as sktime forecasters: laws of a fit, of updates, panels, intervals and saved models."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helixwave.errors import InputError
from helixwave_domains.forecasting import (
    DLinearForecaster,
    LinearEnsembleForecaster,
    LinearForecaster,
    NLinearForecaster,
)
from helixwave_domains.forecasting.conformal import coverage
from helixwave_domains.forecasting.estimators.storage import load_forecaster, save_forecaster
from sktime.datasets import load_longley

FORECASTERS = [LinearForecaster, NLinearForecaster, DLinearForecaster, LinearEnsembleForecaster]
SMALL = {"members": (("nlinear", 12), ("mean", 6))}
RNG = np.random.default_rng(0)


def series(n=160, columns=1, start="2024-01-01", seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(n)[:, None]
    values = (
        np.sin(t / 4 + np.arange(columns)) * (1 + np.arange(columns)) + 0.02 * t + 0.2 * rng.normal(size=(n, columns))
    )
    return pd.DataFrame(values, pd.date_range(start, periods=n, freq="h"), [f"c{i}" for i in range(columns)])


def panel(n_series=4, n=120, columns=1):
    return pd.concat({f"s{i}": series(n - 7 * (i % 2), columns, seed=i) for i in range(n_series)}, names=["id", "time"])


def small(cls, **settings):
    return cls(**SMALL, **settings) if cls is LinearEnsembleForecaster else cls(context=12, **settings)


@pytest.mark.parametrize("cls", FORECASTERS)
@pytest.mark.parametrize("columns", [1, 3])
def test_beats_the_last_value(cls, columns):
    y = series(200, columns)
    forecaster = small(cls).fit(y[:-24], fh=range(1, 25))
    error = (forecaster.predict() - y[-24:]).abs().mean()
    assert error.sum() < (y[-24:] - y.iloc[-25]).abs().mean().sum() / 2


@pytest.mark.parametrize("cls", FORECASTERS)
@pytest.mark.parametrize("individual", [False, True])
def test_update_equals_a_fit_to_all(cls, individual):
    y = series(200, 2)
    settings = {"individual": individual, "ridge": 0.01, "standardise": False}
    updated = small(cls, **settings).fit(y[:150], fh=[1, 5]).update(y[150:180]).update(y[180:])
    refitted = small(cls, **settings).fit(y, fh=[1, 5])
    expected = refitted.predict().to_numpy()
    assert np.abs(updated.predict().to_numpy() - expected).max() <= 1e-8 * np.abs(expected).max()


def test_update_with_exogenous_variables_equals_a_fit_to_all():
    y, X = series(200), series(205, 2, seed=5)
    settings = {"context": 12, "ridge": 0.01, "standardise": False}
    updated = NLinearForecaster(**settings).fit(y[:150], X=X[:150], fh=[1, 5]).update(y[150:], X=X[150:200])
    refitted = NLinearForecaster(**settings).fit(y, X=X[:200], fh=[1, 5])
    assert np.allclose(updated.predict(X=X[200:]), refitted.predict(X=X[200:]), rtol=1e-8, atol=0)


def test_update_without_parameters_moves_the_origin_alone():
    y = series(200)
    forecaster = NLinearForecaster(context=12).fit(y[:150], fh=[1])
    before = [each.weights for each in forecaster.maps_[0]]
    forecaster.update(y[150:], update_params=False)
    assert all(np.array_equal(a, b.weights) for a, b in zip(before, forecaster.maps_[0], strict=True))
    assert forecaster.predict().index[0] == y.index[-1] + pd.Timedelta("1h")


def test_a_panel_shares_its_weights_and_forecasts_each_series():
    forecaster = NLinearForecaster(context=12).fit(panel(), fh=range(1, 4))
    forecast = forecaster.predict()
    assert list(forecast.index.names) == ["id", "time"]
    assert len(forecaster.maps_) == 1
    assert forecast.groupby("id").size().to_dict() == {f"s{i}": 3 for i in range(4)}
    # series that end earlier are forecast for the same hours as the others
    assert forecast.xs("s1").index.equals(forecast.xs("s0").index)


def test_forecasts_of_a_series_do_not_depend_on_its_mates():
    fitted = NLinearForecaster(context=12).fit(panel(4, columns=2), fh=[1, 2])
    before = fitted.predict()
    fitted.update(panel(4, 140, columns=2).loc[["s0"]].iloc[120:], update_params=False)
    assert not fitted.predict().loc["s0"].equals(before.loc["s0"])
    fitted.histories_ = {key: each for key, each in fitted.histories_.items() if key != ("s0",)}
    assert np.array_equal(fitted.predict().to_numpy(), before.loc[["s1", "s2", "s3"]].to_numpy())


def test_pretraining_helps_a_series_too_short_to_learn_from():
    y = series(30, seed=11)
    alone = NLinearForecaster(context=12).fit(y[:20], fh=range(1, 11))
    pretrained = NLinearForecaster(context=12)
    pretrained.pretrain(panel(8), fh=range(1, 11))
    pretrained.fit(y[:20], fh=range(1, 11))
    errors = [((each.predict() - y[20:]) ** 2).mean().item() for each in (pretrained, alone)]
    assert errors[0] < errors[1] / 2


def test_missing_values_are_interpolated_and_change_little():
    y = series(200)
    gaps = y.copy()
    gaps.iloc[RNG.choice(np.arange(5, 195), 10, replace=False)] = np.nan
    whole, holed = (NLinearForecaster(context=12).fit(each, fh=[1, 2]).predict() for each in (y, gaps))
    assert not holed.isna().any().any()
    assert np.abs(holed - whole).max().item() < 0.5


def test_exogenous_variables_matter():
    X = pd.DataFrame({"a": RNG.normal(size=210)}, pd.date_range("2024-01-01", periods=210, freq="h"))
    y = series(210) + 3 * X.to_numpy()
    with_it = NLinearForecaster(context=12).fit(y[:200], X=X[:200], fh=range(1, 11)).predict(X=X[200:])
    without = NLinearForecaster(context=12).fit(y[:200], fh=range(1, 11)).predict()
    assert ((with_it - y[200:]) ** 2).mean().item() < ((without - y[200:]) ** 2).mean().item() / 4


def test_a_static_variable_tells_the_series_of_a_panel_apart():
    """Two kinds of series, one rising and one falling after noise that says nothing of it."""
    rng = np.random.default_rng(0)
    index = pd.date_range("2024-01-01", periods=60, freq="h")
    signs = [1, -1, 1, -1, 1, -1]
    y = pd.concat(
        {f"s{i}": pd.DataFrame({"y": rng.normal(size=60) + 3 * sign}, index) for i, sign in enumerate(signs)},
        names=["id", "time"],
    )
    X = pd.concat(
        {
            f"s{i}": pd.DataFrame({"kind": float(sign)}, pd.date_range("2024-01-01", periods=62, freq="h"))
            for i, sign in enumerate(signs)
        },
        names=["id", "time"],
    )
    settings = {"context": 4, "standardise": False, "ridge": 1e-3}
    fitted = LinearForecaster(**settings).fit(y, X=X.loc[y.index], fh=[1, 2])
    assert np.abs(fitted.maps_[0][0].exogenous).min() > 1


def test_exogenous_columns_are_taken_by_name():
    y, X = series(100), series(105, 2, seed=5)
    forecaster = NLinearForecaster(context=12).fit(y, X=X[:100], fh=range(1, 6))
    assert forecaster.predict(X=X[100:]).equals(forecaster.predict(X=X[100:][["c1", "c0"]]))


@pytest.mark.parametrize("interval", ["gaussian", "conformal"])
def test_quantiles_never_cross_and_the_median_is_the_forecast(interval):
    forecaster = NLinearForecaster(context=12, interval=interval).fit(series(200, 2), fh=range(1, 9))
    levels = [0.01, 0.05, 0.3, 0.5, 0.7, 0.95, 0.99]
    quantiles = forecaster.predict_quantiles(alpha=levels)
    for column in ("c0", "c1"):
        assert (np.diff(quantiles[column].to_numpy(), axis=1) >= 0).all()
        assert np.allclose(quantiles[column][0.5], forecaster.predict()[column])


@pytest.mark.parametrize("name", ["nlinear", "linear_ensemble"])
def test_conformal_intervals_cover_what_they_say_on_etth1(name, data_folder):
    y = pd.read_csv(data_folder / "ett" / "ETTh1.csv", parse_dates=["date"], index_col="date").iloc[:14400]
    cls = {"nlinear": NLinearForecaster, "linear_ensemble": LinearEnsembleForecaster}[name]
    fitted = cls(interval="conformal").fit(y[:11520], fh=range(1, 97))
    shares = []
    for begin in range(11520, 14400 - 96, 96):
        interval = fitted.predict_interval(coverage=0.9)
        lower, upper = (interval.xs(side, axis=1, level=2).to_numpy() for side in ("lower", "upper"))
        shares.append(coverage(lower, upper, y[begin : begin + 96].to_numpy()))
        fitted.update(y[begin : begin + 96], update_params=False)
    assert 0.85 <= np.mean(shares) <= 0.95


def test_the_two_solvers_agree_where_training_is_long():
    y = series(400, 2)
    exact = LinearForecaster(context=8, ridge=1e-8).fit(y, fh=[1, 2])
    training = {"epochs": 100, "lr": 0.03, "schedule": "cosine", "patience": None}
    trained = LinearForecaster(context=8, solver="sgd", training=training, validation=0.0).fit(y, fh=[1, 2])
    assert np.allclose(exact.predict(), trained.predict(), atol=0.15)


def test_sgd_is_reproducible():
    y = series(100)
    settings = {"context": 8, "solver": "sgd", "training": {"epochs": 2}}
    one, same, other = (DLinearForecaster(**settings, random_state=seed).fit(y, fh=[1]).predict() for seed in (1, 1, 2))
    assert one.equals(same)
    assert not one.equals(other)


LOAD = """
import sys
from helixwave_domains.forecasting.estimators.storage import load_forecaster
load_forecaster(sys.argv[1]).predict_interval(coverage=[0.5, 0.9]).to_pickle(sys.argv[2])
"""


def test_saved_and_loaded_in_a_fresh_process(tmp_path):
    forecaster = NLinearForecaster(context=12, interval="conformal").fit(series(150, 2), fh=[1, 3])
    save_forecaster(forecaster, tmp_path / "model")
    environment = {"CUDA_VISIBLE_DEVICES": "", "PATH": ""}
    subprocess.run([sys.executable, "-c", LOAD, tmp_path / "model", tmp_path / "out"], check=True, env=environment)
    assert pd.read_pickle(tmp_path / "out").equals(forecaster.predict_interval(coverage=[0.5, 0.9]))  # noqa: S301


def yearly():
    y, _ = load_longley()
    return y


@pytest.mark.parametrize("cls", FORECASTERS)
@pytest.mark.parametrize(
    "y",
    [series(80, 2), panel(3), yearly(), series(80)["c0"].reset_index(drop=True)],
    ids=lambda y: type(y.index).__name__ + str(y.ndim),
)
def test_saved_and_loaded(cls, y, tmp_path):
    forecaster = small(cls, individual=True).fit(y, fh=[1, 2])
    save_forecaster(forecaster, tmp_path)
    loaded = load_forecaster(tmp_path)
    assert loaded.predict().equals(forecaster.predict())
    assert loaded.predict_quantiles(alpha=[0.1, 0.9]).equals(forecaster.predict_quantiles(alpha=[0.1, 0.9]))


def test_a_loaded_forecaster_goes_on_learning(tmp_path):
    y, X = series(150), series(152, 2, seed=3)
    forecaster = NLinearForecaster(context=12).fit(y[:100], X=X[:100], fh=[1, 2])
    save_forecaster(forecaster, tmp_path)
    loaded = load_forecaster(tmp_path)
    both = [each.update(y[100:], X=X[100:150]).predict(X=X[150:]) for each in (forecaster, loaded)]
    assert both[0].equals(both[1])


def test_saved_and_loaded_with_an_end_that_is_missing(tmp_path):
    y = series(80)
    y.iloc[50:] = np.nan
    forecaster = NLinearForecaster(context=12).fit(y, fh=[1, 2])
    save_forecaster(forecaster, tmp_path)
    assert load_forecaster(tmp_path).predict().equals(forecaster.predict())


def test_an_update_without_the_exogenous_variables_of_the_fit():
    forecaster = NLinearForecaster(context=12).fit(series(50), X=series(50, seed=1), fh=[1])
    with pytest.raises(InputError, match="an update came without X, and the fit had c0"):
        forecaster.update(series(60)[50:])


def wrong(**settings):
    return lambda: NLinearForecaster(**{"context": 12, **settings})


@pytest.mark.parametrize(
    ("forecaster", "y", "fh", "message"),
    [
        (wrong(), series(5), range(1, 10), "the longest series has 5 steps, and 9 are to be forecast"),
        (wrong(), series(50).assign(c0=np.nan), [1], "column 0 holds missing values alone"),
        (wrong(context=0), series(50), [1], "context is 0, expected at least 1"),
        (wrong(validation=1.5), series(50), [1], "validation is 1.5, expected a share below 1"),
        (wrong(interval="normal"), series(50), [1], "interval='normal': there are 'gaussian', 'conformal'"),
        (wrong(solver="adam"), series(50), [1], "solver='adam': there are 'exact' and 'sgd'"),
    ],
)
def test_refused(forecaster, y, fh, message):
    with pytest.raises(InputError, match=message):
        forecaster().fit(y, fh=fh)


def test_a_constant_series_stays():
    y = series(60) * 0 + 7
    forecast = NLinearForecaster(context=12).fit(y, fh=[1, 9]).predict()
    assert np.allclose(forecast, 7)


def test_future_exogenous_variables_missing():
    y, X = series(50), series(54, seed=2)
    forecaster = NLinearForecaster(context=12).fit(y, X=X[:50], fh=[1, 2, 3])
    with pytest.raises(InputError, match="exogenous variables at 2024-01-03 04:00:00: 2 of 3 steps"):
        forecaster.predict(X=X[50:52])
    with pytest.raises(InputError, match="0 of 3 steps"):
        forecaster.predict()
    with pytest.raises(InputError, match="X lacks c0, which the fit had; it has other"):
        forecaster.predict(X=X[50:].rename(columns={"c0": "other"}))


def test_sgd_has_no_exogenous_variables():
    with pytest.raises(InputError, match="solver='sgd' has no exogenous variables"):
        NLinearForecaster(context=12, solver="sgd").fit(series(50), X=series(50, seed=1), fh=[1])


def test_an_update_of_an_unknown_series():
    forecaster = NLinearForecaster(context=12).fit(panel(2), fh=[1])
    with pytest.raises(InputError, match=r"series \('s3',\) came with an update and were not fitted"):
        forecaster.update(panel(4).loc[["s3"]])


def test_only_what_is_fitted_is_saved(tmp_path):
    with pytest.raises(InputError, match="NLinearForecaster is not fitted"):
        save_forecaster(NLinearForecaster(), tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "not there. Expected a folder that save_forecaster wrote"),
        ("{", "not valid JSON"),
        ("{}", "format None, this version reads 'helixwave-forecaster-1'"),
    ],
)
def test_damaged_folders(text, message, tmp_path):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_forecaster(tmp_path)


PANEL = """
import resource, time
import numpy as np, pandas as pd
from helixwave_domains.forecasting import NLinearForecaster
rng, steps = np.random.default_rng(0), np.arange(1000)
values = np.sin(steps * np.pi / 6) * rng.uniform(0.5, 2, (10_000, 1)) + rng.normal(size=(10_000, 1000))
index = pd.MultiIndex.from_product([range(10_000), pd.date_range("2020", periods=1000, freq="h")], names=["id", "time"])
y = pd.DataFrame({"y": values.ravel()}, index=index)
began = time.process_time()
forecaster = NLinearForecaster(context=96).fit(y, fh=range(1, 25))
took = time.process_time() - began
assert forecaster.statistics_[0].count == 10_000 * (1000 - 96 - 24 + 1)
print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


@pytest.mark.slow
def test_ten_thousand_series_of_a_thousand_steps():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PANEL], check=True, capture_output=True, text=True)
    seconds, gigabytes = map(float, done.stdout.split())
    assert seconds < 60
    assert gigabytes < 2
