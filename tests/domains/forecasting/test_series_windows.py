"""Series for training by steps: what is asked for where, the protocol's windows, and the model that forecasts."""

import csv

import numpy as np
import pandas as pd
import pytest
import torch
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.objectives.regression import Regression
from helixwave_domains.forecasting.benchmark_run import LastSeason
from helixwave_domains.forecasting.long_horizon import LongHorizon
from helixwave_domains.forecasting.series_forecaster import SeriesForecaster
from helixwave_domains.forecasting.series_windows import SeasonalNaive, SeriesWindows, following


@pytest.fixture
def own(tmp_path):
    """100 hours of two columns: 70 to train, 10 to validate, 20 to test."""
    values = np.random.default_rng(0).normal([5, 100], [1, 20], (100, 2))
    frame = pd.DataFrame(values, pd.date_range("2024-01-01", periods=100, freq="h", name="date"), ["a", "b"])
    frame.to_csv(tmp_path / "own.csv")
    return str(tmp_path / "own.csv")


def forecaster(*, channels=2, horizon=3, window=5, block="gru"):
    torch.manual_seed(0)
    model = SeriesForecaster(
        backbone=Backbone(8, n_layer=1, blocks=[{"name": block}]),
        classes=["x"] * channels * horizon,
        channels=channels,
        window=window,
    )
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter)
    return model.eval()


def test_what_follows_equals_a_loop():
    rows = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    found = following(rows, 3)
    for t in range(9):
        for step in range(1, 4):
            for channel in range(2):
                value = found[t, (step - 1) * 2 + channel]
                assert value == rows[t + step, channel] if t + step < 9 else np.isnan(value)


@pytest.mark.parametrize("stride", [1, 4])
def test_training_stretches_are_in_the_training_rows_and_leave_none_out(own, stride):
    source = SeriesWindows(file=own, context=12, horizon=3, stride=stride)
    rows = source.series.y.to_numpy(np.float32)[:70]
    seen = np.zeros(70, dtype=bool)
    for index in range(len(source.train)):
        for rng in (None, np.random.default_rng(index)):
            example = source.train.example(index, rng)
            (start,) = (t for t in range(59) if np.array_equal(rows[t : t + 12], example["inputs"]))
            assert np.array_equal(example["target"], following(rows, 3)[start : start + 12], equal_nan=True)
            assert index * stride <= start < (index + 1) * stride
            seen[start : start + 12] = True
    assert seen[: 70 - stride].all()


def test_windows_are_those_of_the_protocol(own):
    source = SeriesWindows(file=own, context=65, horizon=3)
    rows = source.series.y.to_numpy(np.float32)
    for part, border, count in ((source.validation, 70, 8), (source.test, 80, 18)):
        assert len(part) == count
        for index in range(count):
            example, origin = part.example(index, None), border + index
            assert np.array_equal(example["inputs"], rows[origin - 65 : origin])
            assert part.length(index) == 65
            assert np.isnan(example["target"][:-1]).all()
            assert np.array_equal(example["target"][-1], rows[origin : origin + 3].ravel())


def test_the_seasonal_naive_forecast_has_the_error_that_the_benchmark_finds():
    outputs, target = SeasonalNaive(12).predict(SeriesWindows(context=24, horizon=12))
    scores = Regression([*"x" * 12], monitor="mse").score(outputs, target)
    errors, _ = LastSeason(12).predict(LongHorizon(horizons=[12]))
    assert len(outputs) == len(errors) == 27
    assert scores["mse"] == pytest.approx(float(errors[:, 0].mean()), rel=1e-5)


def test_forecasts_equal_a_loop():
    model, x = forecaster(), torch.randn(2, 9, 2, generator=torch.Generator().manual_seed(1))
    found = model(x).detach()
    hidden = model.backbone(model.embedding(x))[0]
    added = (hidden @ model.head.added.weight.T + model.head.added.bias).detach()
    weight, bias = model.head.linear.weight.detach(), model.head.linear.bias.detach()
    for b in range(2):
        for t in range(9):
            for step in range(3):
                for channel in range(2):
                    here = x[b, t, channel]
                    read = [x[b, t - 4 + k, channel] - here if t - 4 + k >= 0 else 0.0 for k in range(5)]
                    linear = here + bias[step] + sum(w * value for w, value in zip(weight[step], read, strict=True))
                    place = step * 2 + channel
                    assert found[b, t, place] == pytest.approx(float(linear + added[b, t, place]), abs=1e-5)


def test_a_forecast_knows_nothing_of_what_follows_or_of_padding():
    model, x = forecaster(), torch.randn(2, 12, 2)
    changed = x.clone()
    changed[:, 7:] += 100
    torch.testing.assert_close(model(changed)[:, :7], model(x)[:, :7])
    torch.testing.assert_close(model(changed, torch.tensor([7, 7]))[:, :7], model(x[:, :7]))


def test_untrained_it_says_the_last_value():
    model = SeriesForecaster(backbone=Backbone(8, n_layer=1, blocks=[{"name": "gru"}]), classes=[*"abcdef"], channels=2)
    x = torch.randn(1, 6, 2)
    torch.testing.assert_close(model(x), x.repeat(1, 1, 3))


def test_what_comes_next_is_written_in_the_units_of_the_file(own, tmp_path):
    source, model = SeriesWindows(file=own, context=12, horizon=3), forecaster()
    source.export(model, tmp_path)
    with open(tmp_path / "forecast.tsv", newline="") as f:
        rows = list(csv.DictReader(f, delimiter="\t"))
    values = pd.read_csv(own, index_col=0)
    train = values.iloc[:70]
    x = ((values.iloc[-12:] - train.mean()) / train.std(ddof=0)).to_numpy(np.float32)
    outputs = model(torch.from_numpy(x)[None])[0, -1].detach().numpy().reshape(3, 2)
    expected = outputs * train.std(ddof=0).to_numpy() + train.mean().to_numpy()
    np.testing.assert_allclose([[float(row["a"]), float(row["b"])] for row in rows], expected, rtol=1e-4)
    assert [row["step"] for row in rows] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SeriesWindows(context=0), "data.context: 0, expected at least 1"),
        (lambda: SeriesWindows(horizon=0), "data.horizon: 0, expected at least 1"),
        (lambda: SeriesWindows(stride=0), "data.stride: 0, expected at least 1"),
        (lambda: SeriesWindows(context=134), "data.context: 134, expected less than the 134 training rows"),
        (lambda: SeriesWindows(horizon=21), "data.horizon: 21, expected at most the 20 validation rows"),
        (lambda: SeasonalNaive(49).predict(SeriesWindows()), "baseline.season: 49, expected at most data.context, 48"),
        (lambda: SeasonalNaive(0), "baseline: season is 0, expected at least 1"),
        (lambda: forecaster(window=0), "model: window is 0, expected at least 1"),
        (lambda: forecaster(block="hydra"), "causal"),
    ],
)
def test_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
