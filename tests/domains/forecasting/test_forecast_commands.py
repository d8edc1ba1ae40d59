"""`helixwave forecast` and `helixwave backtest` in a folder of files that a newcomer might have."""

import csv
import json
import re

import numpy as np
import pytest
import typer
from helixwave.errors import InputError
from typer.testing import CliRunner

pytest.importorskip("sktime")
import pandas as pd
from helixwave.registry import FORECASTERS
from helixwave_domains.forecasting import NLinearForecaster
from helixwave_domains.forecasting.commands import backtest, forecast
from helixwave_domains.forecasting.estimators.seasonal_naive import SeasonalNaiveForecaster

SMALL = ("context=24", "ridge=0.1")
HOURS = pd.date_range("2024-01-01", periods=240, freq="h")
Y = np.stack([np.sin(np.arange(240) * np.pi / 12), np.cos(np.arange(240) * np.pi / 7)], axis=1)
Y = Y + 0.1 * np.random.default_rng(0).normal(size=Y.shape)


class Plain(SeasonalNaiveForecaster):
    """Has no intervals."""

    _tags = {"capability:pred_int": False}  # noqa: RUF012


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(FORECASTERS._local, "plain", Plain)
    pd.DataFrame(Y, index=HOURS.rename("when"), columns=["a", "b"]).to_csv("wide.csv")
    parts = [pd.DataFrame({"id": f"s{k}", "when": HOURS[k:], "y": Y[k:, k], "x": Y[k:, 1 - k]}) for k in (0, 1)]
    long = pd.concat(parts)
    long.loc[long.when >= HOURS[228], "y"] = None
    long.to_csv("long.csv", index=False)
    return tmp_path


@pytest.fixture
def call():
    app = typer.Typer()
    app.command("forecast")(forecast)
    app.command("backtest")(backtest)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def done(call):
    def done(*words):
        result = call(*words)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    return done


@pytest.fixture
def refused(call, here):
    def refused(*words):
        before = sorted(here.iterdir())
        result = call(*words)
        assert isinstance(result.exception, InputError), (result.output, result.exception)
        assert sorted(here.iterdir()) == before
        return str(result.exception)

    return refused


def rows_of(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_wide_frame(done, here):
    words = ("wide.csv", *SMALL, "--time", "when", "--horizon", 3, "--interval", 0.5, "--interval", 0.9)
    output = done("forecast", *words, "--picture", "f.png", "--weights", "w.svg")
    assert output.splitlines() == [
        "wide.csv: 1 series, 2 targets, 240 steps of h up to 2024-01-10 23:00",
        "wide.forecast.csv",
        "f.png",
        "w.svg",
    ]
    assert (here / "f.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (here / "w.svg").read_text()
    rows = rows_of("wide.forecast.csv")
    assert list(rows[0]) == ["id", "time", "step", "target", "mean", "lower_0.5", "upper_0.5", "lower_0.9", "upper_0.9"]
    assert [(row["id"], row["time"], row["step"], row["target"]) for row in rows] == [
        ("wide", f"2024-01-11 0{step}:00", str(step + 1), target) for target in "ab" for step in range(3)
    ]
    model = NLinearForecaster(context=24, ridge=0.1)
    y = pd.DataFrame(Y, index=HOURS, columns=["a", "b"])
    expected = model.fit(y, fh=[1, 2, 3]).predict().to_numpy()
    np.testing.assert_allclose([float(row["mean"]) for row in rows], expected.T.ravel(), rtol=1e-6)
    interval = model.predict_interval(coverage=0.9).to_numpy().reshape(3, 2, 2)
    found = [[float(row["lower_0.9"]), float(row["upper_0.9"])] for row in rows]
    np.testing.assert_allclose(found, interval.swapaxes(0, 1).reshape(6, 2), rtol=1e-6)


def test_manifest_and_formats(done, here):
    parquet = pytest.importorskip("pyarrow.parquet")
    words = ("forecast", "wide.csv", *SMALL, "--time", "when", "--horizon", 3)
    done(*words)
    done(*words, "-o", "f.parquet")
    manifest = json.loads((here / "wide.forecast.csv.manifest.json").read_text())
    assert manifest == json.loads((here / "f.parquet.manifest.json").read_text())
    assert (manifest["rows"], manifest["model"]["name"], manifest["options"]["targets"]) == (6, "nlinear", ["a", "b"])
    assert manifest["model"]["arguments"]["context"] == 24
    assert manifest["inputs"]["frame"]["size"] == (here / "wide.csv").stat().st_size
    columns = parquet.read_table(here / "f.parquet").to_pydict()
    rows = rows_of("wide.forecast.csv")
    assert columns["step"] == [int(row["step"]) for row in rows]
    assert [str(time)[:16] for time in columns["time"]] == [row["time"] for row in rows]
    np.testing.assert_allclose(columns["upper_0.9"], [float(row["upper_0.9"]) for row in rows], rtol=1e-8)


def test_long_frame_with_exogenous_variables(done):
    words = ("forecast", "long.csv", *SMALL, "--time", "when", "--id", "id", "--target", "y", "--exog", "x")
    output = done(*words, "--horizon", 12)
    assert output.startswith("long.csv: 2 series, 1 target, 227 to 228 steps of h up to 2024-01-10 11:00")
    rows = rows_of("long.forecast.csv")
    assert [row["id"] for row in rows] == ["s0"] * 12 + ["s1"] * 12


def test_repairs_are_said(done, here):
    lines = (here / "wide.csv").read_text().splitlines()
    lines[5], lines[6] = lines[6], lines[5]
    lines[9] = lines[9].rpartition(",")[0] + ",off"
    del lines[100]
    (here / "bad.csv").write_text("\n".join(lines))
    options = ("--sort", "--gaps", "fill", "--missing", "keep", "--not-a-number", "missing")
    output = done("forecast", "bad.csv", *SMALL, "--time", "when", "--horizon", 3, *options)
    repaired = {
        "cells of text made missing": 1,
        "rows sorted": 2,
        "steps added with missing values": 1,
        "missing values kept": 3,
    }
    assert output.splitlines()[1:-1] == [f"repaired: {what}: {count}" for what, count in repaired.items()]
    assert json.loads((here / "bad.forecast.csv.manifest.json").read_text())["repaired"] == repaired


def test_latin_1_is_said(done, here):
    (here / "latin.csv").write_bytes((here / "wide.csv").read_text().replace("b\n", "W/m²\n", 1).encode("latin-1"))
    output = done("forecast", "latin.csv", *SMALL, "--time", "when", "--horizon", 3)
    assert "note: line 1 is not UTF-8: the file was read as Latin-1\n" in output
    assert rows_of("latin.forecast.csv")[-1]["target"] == "W/m²"


def test_saved_model_goes_on(done, refused, here):
    words = ("--time", "when", "--horizon", 3)
    done("forecast", "wide.csv", *SMALL, *words, "--save", "model")
    done("forecast", "wide.csv", *words, "--load", "model", "-o", "again.csv")
    first, again = ([row | {"id": ""} for row in rows_of(name)] for name in ("wide.forecast.csv", "again.csv"))
    assert first == again
    longer = (here / "wide.csv").read_text() + "2024-01-11 00:00,0.5,0.5\n"
    (here / "longer.csv").write_text(longer)
    done("forecast", "longer.csv", *words, "--load", "model")
    assert rows_of("longer.forecast.csv")[0]["time"] == "2024-01-11 01:00"
    loaded = ("forecast", "longer.csv", "--load", "model", "-o", "no.csv", "--time", "when")
    assert refused(*loaded, "--horizon", 4) == "model was fitted to forecast 3 steps, not 4. Take --horizon 3"
    assert "model was fitted to a, b, the targets are a" in refused(*loaded, "--horizon", 3, "--target", "a")
    for words in (["context=2"], ["--model", "linear"], ["--season", 3]):
        assert refused(*loaded, "--horizon", 3, *words) == (
            "--load model: the model is used as it was fitted. Leave out --model, --season and KEY=VALUE"
        )
    assert "no/config.json: not there" in refused(*loaded[:3], "no", *loaded[4:], "--horizon", 3)


def test_model_without_intervals(done, refused):
    words = ("forecast", "wide.csv", "--time", "when", "--horizon", 3, "--model", "plain")
    done(*words)
    assert list(rows_of("wide.forecast.csv")[0]) == ["id", "time", "step", "target", "mean"]
    # the season of hours is a day
    np.testing.assert_allclose(
        [float(row["mean"]) for row in rows_of("wide.forecast.csv")[:3]], Y[216:219, 0], rtol=1e-6
    )
    message = refused(*words, "--interval", 0.9, "-o", "no.csv")
    assert message == "plain has no intervals. Leave out --interval, or take another --model"
    assert refused(*words, "--weights", "w.png", "-o", "no.csv").startswith("plain has no weights to draw")
    assert refused(*words, "--save", "m", "-o", "no.csv").startswith("plain is not one of the models that can be saved")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "f.xlsx"], "f.xlsx: expected a name that ends in .csv or .parquet"),
        (["--picture", "f.gif"], "f.gif: expected a name that ends in .png or .svg or .pdf"),
        (["-o", "wide.csv"], "wide.csv: this is the input. Choose another output"),
        (["-o", "long.csv"], "long.csv: is there already. Choose another output, or --overwrite"),
        (
            ["--picture", "f.png", "--weights", "f.png"],
            "f.png: two outputs would go there. Choose another name for one",
        ),
        (["--interval", "90"], "--interval is 90, expected more than 0 and less than 1, such as 0.9"),
        (["--target", "c"], "wide.csv: no column 'c'. Known: a, b, when."),
        (["contxt=3"], "--model (nlinear): unknown key 'contxt'. Did you mean 'context'?"),
        (["--model", "nliner"], "no forecaster named 'nliner'. Did you mean 'nlinear'?"),
        (
            ["--horizon", "240"],
            "wide.csv: the series has 240 steps, expected more than the 240 that are to be forecast.",
        ),
        (["interval=wide"], "interval='wide'"),
        (["--season", "24"], "nlinear has no season. Leave out --season"),
    ],
)
def test_refused(refused, words, message):
    assert message in refused("forecast", "wide.csv", "--time", "when", "--horizon", 3, *words)


def test_extra_that_is_not_installed(refused, monkeypatch):
    monkeypatch.setattr("helixwave_domains.forecasting.commands.find_spec", lambda name: None)
    message = refused("forecast", "wide.csv", "--time", "when", "--horizon", 3)
    assert message == "forecasting needs pandas, which is not there: pip install 'helixwave[forecasting]'"


def test_overwrite(done):
    words = ("forecast", "wide.csv", *SMALL, "--time", "when")
    done(*words, "--horizon", 3)
    done(*words, "--horizon", 2, "--overwrite")
    assert len(rows_of("wide.forecast.csv")) == 4


def test_backtest(done, here):
    words = ("wide.csv", *SMALL, "--time", "when", "--horizon", 6, "--windows", 2, "--step", 4)
    output = done("backtest", *words, "--picture", "b.png").splitlines()
    assert output[1].split() == ["MAE", "naive", "RMSE", "naive", "MASE", "naive", "within", "0.9"]
    assert [line.split()[0] for line in output[2:5]] == ["a", "b", "all"]
    assert output[5].startswith("nlinear has a MASE of 0.")
    assert output[6:] == ["wide.backtest.csv", "b.png"]
    assert (here / "b.png").read_bytes().startswith(b"\x89PNG")
    rows = rows_of("wide.backtest.csv")
    assert [(row["id"], row["target"], row["step"], row["windows"]) for row in rows] == [
        ("wide", target, str(step), "2") for target in "ab" for step in range(1, 7)
    ]
    naive = np.abs([[Y[begin + h, c] - Y[begin + h - 24, c] for begin in (230, 234)] for c in (0, 1) for h in range(6)])
    np.testing.assert_allclose([float(row["naive_mae"]) for row in rows], naive.mean(1), rtol=1e-6)
    found = float(output[4].split()[1])
    assert found == pytest.approx(np.mean([float(row["mae"]) for row in rows]), rel=1e-2)
    manifest = json.loads((here / "wide.backtest.csv.manifest.json").read_text())
    assert {key: manifest["options"][key] for key in ("horizon", "windows", "step", "strategy", "season")} == {
        "horizon": 6,
        "windows": 2,
        "step": 4,
        "strategy": "refit",
        "season": 24,
    }


def test_backtest_without_season_or_intervals(done, refused):
    words = ("backtest", "wide.csv", "--time", "when", "--horizon", 50, "--model", "plain")
    output = done(*words)
    assert re.search(r"plain has a MASE of (\S+), the seasonal naive forecast of \1: no better\n", output)
    assert list(rows_of("wide.backtest.csv")[0])[4:8] == ["mae", "rmse", "mase", "smape"]
    output = done(*words, "--windows", 4, "--overwrite")
    assert "note: no season is assumed: a series has 40 steps, less than twice 24\n" in output
    assert "2 before the last 250, which are to be forecast" in refused(*words, "--windows", 5, "-o", "no.csv")


def test_real_files(done, data_folder):
    weather = data_folder / "weather" / "weather.csv"
    repairs = ("--duplicates", "mean", "--gaps", "fill", "--missing", "interpolate")
    output = done("forecast", weather, *SMALL, "--time", "date", "--target", "T (degC)", "--horizon", 12, *repairs)
    assert (
        "repaired: rows of a time that was there already: 1\nrepaired: steps added with missing values: 9\n" in output
    )
    for name, steps in (("exchange_rate", "D"), ("national_illness", "W")):
        output = done("forecast", data_folder / name / f"{name}.csv", *SMALL, "--time", "date", "--horizon", 12)
        assert f" steps of {steps} up to " in output
