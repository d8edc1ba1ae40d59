"""The protocol of the long-horizon benchmarks, and runs of forecasters on them."""

import numpy as np
import pandas as pd
import pytest
import torch
from helixwave.errors import InputError
from helixwave_domains.forecasting.benchmark_run import BenchmarkedForecaster, LastSeason, run
from helixwave_domains.forecasting.long_horizon import BENCHMARKS, LongHorizon
from helixwave_domains.forecasting.published_errors import PUBLISHED, best_linear, verdict
from helixwave_domains.forecasting.window_errors import WindowErrors


@pytest.fixture
def own(tmp_path):
    """A file of 400 hours with two columns."""
    t = np.arange(400)
    values = (
        np.column_stack([np.sin(t / 4), np.cos(t / 9) * 5 + 100]) + np.random.default_rng(0).normal(size=(400, 2)) / 9
    )
    frame = pd.DataFrame(values, pd.date_range("2024-01-01", periods=400, freq="h", name="date"), ["a", "b"])
    frame.to_csv(tmp_path / "own.csv")
    return str(tmp_path / "own.csv")


def test_parts_of_ett(data_folder):
    source = LongHorizon("ETTh1", horizons=[96])
    assert source.borders == (8640, 11520, 14400)
    assert len(source.fitting_part()) == 11520
    assert source.n_validation == 2880
    assert len(source.test_part(336)) == 336 + 2880
    # 2,785 windows, as published
    assert source.test_groups["96 steps"].sum() == 2785
    train = source.y.iloc[:8640].to_numpy()
    assert np.allclose(train.mean(0), 0)
    assert np.allclose(train.std(0), 1)


@pytest.mark.parametrize("name", ["ETTh2", "ETTm1", "exchange_rate", "weather", "national_illness"])
def test_files_of_the_cards_are_read(name, data_folder):
    source = LongHorizon(name)
    assert np.isfinite(source.y.to_numpy()).all()
    assert source.horizons == BENCHMARKS[name].horizons


def test_embedded_series():
    source = LongHorizon()
    assert source.classes == ["KSI"]
    assert len(source.y) == 192


def test_errors_are_means_over_all_windows_steps_and_channels(own):
    source = LongHorizon("exchange_rate", file=own, horizons=[7])
    found = run({"name": "nlinear", "context": 20}, source, 7)
    rows = source.y.to_numpy()
    squared = []
    fitted = found.forecaster
    weights, bias = fitted.maps_[0][0].weights, fitted.maps_[0][0].bias
    for origin in range(source.borders.validation, len(rows) - 7 + 1):
        forecast = weights @ rows[origin - 20 : origin] + bias[:, None]
        squared.append(((forecast - rows[origin : origin + 7]) ** 2).mean())
    assert np.allclose(found.errors[:, 0], squared, rtol=1e-4)
    assert np.isclose(found.mse, np.mean(squared), rtol=1e-5)


def test_no_test_row_is_seen(own):
    source = LongHorizon("exchange_rate", file=own, horizons=[7])
    before = run({"name": "linear_ensemble", "members": [["nlinear", 20], ["mean", 9]]}, source, 7).forecaster
    source.y.iloc[source.borders.validation :] += 1000
    after = run({"name": "linear_ensemble", "members": [["nlinear", 20], ["mean", 9]]}, source, 7).forecaster
    assert all(np.array_equal(a, b) for a, b in zip(before.weights(), after.weights(), strict=True))


def test_drop_last_leaves_whole_batches(own):
    every, whole = (LongHorizon("exchange_rate", file=own, horizons=[7], drop_last=drop) for drop in (False, True))
    errors = run({"name": "nlinear", "context": 20}, every, 7).errors
    assert np.array_equal(run({"name": "nlinear", "context": 20}, whole, 7).errors, errors[: len(errors) // 32 * 32])
    assert whole.test_groups["7 steps"].sum() == len(errors) // 32 * 32


def test_all_horizons_are_rows(own):
    source = LongHorizon("exchange_rate", file=own, horizons=[5, 9])
    estimator = BenchmarkedForecaster({"name": "nlinear", "context": 20})
    errors, horizons = estimator.predict(source)
    for name, rows in source.test_groups.items():
        assert set(horizons[torch.from_numpy(rows)].tolist()) == {int(name.split()[0])}
    scores = WindowErrors(source.classes).score(errors, horizons)
    assert np.isclose(scores["mse"], np.mean([each.mse for each in estimator.runs]))
    assert {picture.title for picture in estimator.pictures()} >= {
        "A forecast",
        "Error by step",
        "Calibration of residuals",
    }
    assert "nlinear with context=20: fitted in" in estimator.description


def test_the_last_season(own):
    source = LongHorizon("exchange_rate", file=own, horizons=[30])
    errors, _ = LastSeason(24).predict(source)
    rows, origin = source.y.to_numpy(), source.borders.validation + 3
    forecast = np.concatenate([rows[origin - 24 : origin], rows[origin - 24 : origin - 18]])
    assert np.isclose(errors[3, 0], ((forecast - rows[origin : origin + 30]) ** 2).mean())


@pytest.mark.parametrize(("cell", "bar"), [(("ETTh1", 96), (0.3700, 0.3920)), (("ETTh1", 720), (0.4330, 0.4530))])
def test_nlinear_reaches_its_published_error(cell, bar, data_folder):
    dataset, horizon = cell
    found = run({"name": "nlinear"}, LongHorizon(dataset, horizons=[horizon]), horizon)
    assert (found.mse, found.mae) <= bar
    assert found.mse <= PUBLISHED["nlinear", dataset, horizon][0]


def test_published_errors():
    # the paper's table 2; its labels, not those of the repository's second table
    assert PUBLISHED["nlinear", "weather", 96] == (0.182, 0.232)
    assert PUBLISHED["dlinear", "exchange_rate", 720] == (0.643, 0.601)
    assert best_linear("ETTh2", 720) == 0.394
    assert best_linear("seatbelts", 6) is None
    assert [verdict(each, 0.374) for each in (0.3734, 0.3744, 0.3746)] == ["win", "tie", "loss"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "wether"}, "there is no 'wether'. Did you mean 'weather'"),
        ({"dataset": "ETTh1", "file": "OWN"}, "400 rows, and ETTh1 takes 14400"),
        ({"horizons": [6, 39]}, "data.horizons: 39, expected 1 to 38, the test rows of seatbelts"),
        ({"horizons": [0]}, "data.horizons: 0, expected 1 to 38"),
        ({"dataset": "traffic"}, "is large and not fetched"),
        ({"dataset": "ETTh1", "file": "nowhere.csv"}, "not there. Expected a CSV file"),
        ({"dataset": "ETTh1", "file": "BAD"}, "not a table of numbers after a column of times"),
    ],
)
def test_refused(arguments, message, own, tmp_path):
    (tmp_path / "bad.csv").write_text("date,a\n2024-01-01,x\n")
    names = {"OWN": own, "BAD": str(tmp_path / "bad.csv")}
    with pytest.raises(InputError, match=message):
        LongHorizon(**{key: names.get(str(value), value) for key, value in arguments.items()})


def test_a_wrong_argument_of_the_model():
    with pytest.raises(InputError, match=r"unknown key 'contxt'\. Did you mean 'context'"):
        BenchmarkedForecaster({"name": "nlinear", "contxt": 3})
    with pytest.raises(InputError, match="season is 0"):
        LastSeason(0)


def test_too_few_windows_for_a_whole_batch():
    source = LongHorizon(horizons=[12], drop_last=True)
    with pytest.raises(InputError, match="drop_last leaves none of 27 windows"):
        run({"name": "nlinear"}, source, 12)
