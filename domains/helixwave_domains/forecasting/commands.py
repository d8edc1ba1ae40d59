"""`helixwave forecast` and `helixwave backtest`."""

from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from helixwave.errors import InputError
from helixwave.option_groups import grouped

from helixwave_domains.forecasting import options
from helixwave_domains.forecasting.frame_options import Cells, Columns, Repairs, frame_name
from helixwave_domains.forecasting.options import Model

Strategy = StrEnum("Strategy", ["refit", "update", "once"])

Input = Annotated[Path, typer.Argument(metavar="INPUT", help="CSV, gzip CSV or Parquet: a long or a wide frame.")]
Settings = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Arguments of the model, as in context=336.")
]
PicturePath = Annotated[Path | None, typer.Option(help="NAME.png, NAME.svg or NAME.pdf.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
GROUPS: dict[str, Any] = {
    "model": options.model,
    "columns": options.columns,
    "cells": options.cells,
    "repairs": options.repairs,
}


@grouped(**GROUPS)
def forecast(
    input: Input,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default: INPUT.forecast.csv in this folder.")] = None,
    picture: PicturePath = None,
    weights: Annotated[Path | None, typer.Option(help="Picture of the weights of a linear model.")] = None,
    save: Annotated[Path | None, typer.Option(help="Folder for the fitted model.")] = None,
    load: Annotated[Path | None, typer.Option(help="Folder of a fitted model, to be used as it is.")] = None,
    overwrite: Overwrite = False,
    *,
    model: Model,
    columns: Columns,
    cells: Cells,
    repairs: Repairs,
) -> None:
    """Fit a model to the series of a file and write what comes next, with intervals.

    Example: helixwave forecast ETTh1.csv --time date --horizon 96 --model nlinear --interval 0.9 --picture forecast.png
    """
    _expect_installed()
    from helixwave_domains.forecasting.forecast_files import Places
    from helixwave_domains.forecasting.forecast_request import Request

    if load and (settings or model.name or model.season):
        raise InputError(
            f"--load {load}: the model is used as it was fitted. Leave out --model, --season and KEY=VALUE"
        )
    places = Places(out or _here(input, "forecast.csv"), picture, weights, save)
    places.expect_free(input, overwrite)
    request = Request(input, settings or [], model, columns, cells, repairs)
    source = request.read(model.horizon)
    # a wrong file is refused before torch and sktime are imported
    from helixwave_domains.forecasting.forecast_run import run_forecast

    run_forecast(request, source, places, load)


@grouped(**GROUPS)
def backtest(
    input: Input,
    settings: Settings = None,
    windows: Annotated[int, typer.Option(min=1, help="From how many points of the past to forecast.")] = 3,
    step: Annotated[int | None, typer.Option(min=1, help="Steps between these points. Default: the horizon.")] = None,
    strategy: Annotated[
        Strategy, typer.Option(help="Fit anew for each window, update the fitted model, or fit once.")
    ] = Strategy.refit,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default: INPUT.backtest.csv in this folder.")] = None,
    picture: PicturePath = None,
    overwrite: Overwrite = False,
    *,
    model: Model,
    columns: Columns,
    cells: Cells,
    repairs: Repairs,
) -> None:
    """Forecast what is known, from several points of the past, and compare with the seasonal naive forecast.

    Example: helixwave backtest ETTh1.csv --time date --horizon 96 --windows 5 --model nlinear --picture backtest.png
    """
    _expect_installed()
    from helixwave_domains.forecasting.backtest import Plan
    from helixwave_domains.forecasting.forecast_files import Places
    from helixwave_domains.forecasting.forecast_request import Request

    places = Places(out or _here(input, "backtest.csv"), picture)
    places.expect_free(input, overwrite)
    plan = Plan(model.horizon, windows, step or model.horizon, cast(Any, str(strategy)))
    request = Request(input, settings or [], model, columns, cells, repairs)
    source = request.read(0)
    from helixwave_domains.forecasting.forecast_run import run_backtest

    run_backtest(request, source, plan, places)


def _here(source: Path, ending: str) -> Path:
    """A file in this folder that is named after the input."""
    return Path(f"{frame_name(source)}.{ending}")


def _expect_installed() -> None:
    for package in ("pandas", "sktime"):
        if find_spec(package) is None:
            raise InputError(f"forecasting needs {package}, which is not there: pip install 'helixwave[forecasting]'")
