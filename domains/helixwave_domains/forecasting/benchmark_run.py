"""A registered forecaster on the long-horizon benchmarks, and the last season as what it has to beat."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from helixwave.console import console
from helixwave.data import Picture
from helixwave.errors import InputError
from helixwave.registry import FORECASTERS
from numpy.typing import NDArray
from torch import Tensor

from helixwave_domains.forecasting.long_horizon import LongHorizon
from helixwave_domains.forecasting.published_errors import PUBLISHED, best_linear, verdict
from helixwave_domains.forecasting.window_statistics import Floats


class Run(NamedTuple):
    """What a model made of one horizon.

    Args:
        errors: of each test window, `[n, 2]`, squared and absolute.
        fit_seconds, forecast_seconds: of cpu time.
    """

    horizon: int
    errors: Floats
    forecaster: Any
    fit_seconds: float
    forecast_seconds: float

    @property
    def mse(self) -> float:
        return float(self.errors[:, 0].mean())

    @property
    def mae(self) -> float:
        return float(self.errors[:, 1].mean())


def run(model: Mapping[str, Any], source: LongHorizon, horizon: int) -> Run:
    """Fit to the training rows, with settings chosen on the validation rows, and forecast every test window.

    Args:
        model: the registered name of a forecaster and its arguments.
    """
    FORECASTERS.check("estimator.model", model)
    forecaster = FORECASTERS.build({**_protocol(model["name"], source), **model})
    if not hasattr(forecaster, "predict_windows"):
        raise InputError(f"estimator.model: {model['name']} cannot forecast windows. Choose another")
    began = time.process_time()
    forecaster.fit(source.fitting_part(), fh=list(range(1, horizon + 1)))
    fitted = time.process_time()
    errors = source.errors(forecaster.predict_windows(source.test_part(forecaster.context_)))
    return Run(horizon, errors, forecaster, fitted - began, time.process_time() - fitted)


def _protocol(name: str, source: LongHorizon) -> dict[str, Any]:
    """What the protocol says, where a forecaster has such an argument: the benchmark has scaled and split already."""
    settings = {
        "context": source.benchmark.context,
        "validation": source.n_validation,
        "refit": False,
        "standardise": False,
    }
    known = FORECASTERS.signature(name).parameters
    return {key: value for key, value in settings.items() if key in known}


class BenchmarkedForecaster:
    """Any registered forecaster, fitted for each horizon of a long-horizon benchmark.

    Args:
        model: its name and arguments; what the protocol says of the rest, the published length of the context too.
    """

    def __init__(self, model: dict[str, Any]):
        FORECASTERS.check("estimator.model", model)
        self.model, self.description = model, ""
        self.runs: list[Run] = []

    def predict(self, source: LongHorizon) -> tuple[Tensor, Tensor]:
        """Errors of the test windows of all horizons `[M, 2]`, and their horizons `[M]`."""
        self.runs, self.source = [], source
        for horizon in source.horizons:
            with console.status(f"{self.model['name']} for {horizon} steps"):
                self.runs.append(run(self.model, source, horizon))
        console.print(_table(self.model["name"], source, self.runs))
        self.description = self._described()
        return as_rows({run.horizon: run.errors for run in self.runs})

    def pictures(self) -> list[Picture]:
        """Forecasts of one test window, errors by step and by horizon, weights, and how intervals hold."""
        from helixwave_domains.forecasting.benchmark_pictures import pictures

        return pictures(self.source, self.runs)

    def _described(self) -> str:
        settings = ", ".join(f"{key}={value}" for key, value in self.model.items() if key != "name")
        fits = ", ".join(f"{run.fit_seconds:.1f} s for {run.horizon} steps" for run in self.runs)
        return f"{self.model['name']}{' with ' + settings if settings else ''}: fitted in {fits} of cpu time"


def as_rows(errors: Mapping[int, Floats]) -> tuple[Tensor, Tensor]:
    """Errors of all horizons one below the other, and the horizon of each row."""
    horizons = np.repeat(list(errors), [len(each) for each in errors.values()])
    return torch.from_numpy(np.concatenate(list(errors.values()))), torch.from_numpy(horizons)


def _table(name: str, source: LongHorizon, runs: list[Run]) -> Any:
    """Ours beside what is published of the same model and of the best linear one."""
    from rich.table import Table

    kept = "whole batches of 32" if source.drop_last else "all test windows"
    table = Table(title=f"{name} on {source.dataset}, {kept}")
    for heading in ("steps", "MSE", "MAE", "published", "best linear", "fit s", "forecast s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in runs:
        published = PUBLISHED.get((name, source.dataset, each.horizon), (None, None))[0]
        table.add_row(
            *[str(each.horizon), f"{each.mse:.4f}", f"{each.mae:.4f}"],
            *(_beside(each.mse, other) for other in (published, best_linear(source.dataset, each.horizon))),
            *[f"{each.fit_seconds:.2f}", f"{each.forecast_seconds:.2f}"],
        )
    return table


def _beside(ours: float, published: float | None) -> str:
    return "" if published is None else f"{published:.3f} {verdict(ours, published)}"


class LastSeason:
    """The last season of the context, again and again.

    Args:
        season: its steps; 1 is the last value.
    """

    def __init__(self, season: int = 1):
        if season < 1:
            raise InputError(f"baseline: season is {season}, expected at least 1")
        self.season = season
        self.description = f"the last {season} steps again and again" if season > 1 else "the last value"

    def predict(self, source: LongHorizon) -> tuple[Tensor, Tensor]:
        """Errors of the test windows of all horizons `[M, 2]`, and their horizons `[M]`."""
        y = source.test_part(self.season)
        return as_rows({horizon: source.errors(self._windows(y, horizon)) for horizon in source.horizons})

    def _windows(self, y: pd.DataFrame, horizon: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        values = y.to_numpy(np.float32)
        again = np.arange(horizon) % self.season
        for origin in range(self.season, len(values) - horizon + 1):
            yield values[origin - self.season :][again][None], values[origin : origin + horizon][None]
