"""What the commands do with a request: files, pictures, and what they say on the screen."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from helixwave.console import console
from helixwave.data import Picture
from helixwave.errors import InputError
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from helixwave_domains.forecasting.backtest import Plan, backtest
from helixwave_domains.forecasting.backtest_screen import show_errors
from helixwave_domains.forecasting.estimators.forecaster import WindowForecaster
from helixwave_domains.forecasting.estimators.storage import load_forecaster, save_forecaster
from helixwave_domains.forecasting.forecast_files import Places, backtest_table, forecast_table, write_table
from helixwave_domains.forecasting.forecast_metrics import LEVELS, levels_of
from helixwave_domains.forecasting.forecast_request import Request, Source
from helixwave_domains.forecasting.panel_forecaster import PanelForecaster, takes_season
from helixwave_domains.forecasting.time_grid import shown


def run_forecast(request: Request, source: Source, places: Places, load: Path | None) -> None:
    """Fit a model or load one, write its forecast, and say what was done."""
    horizon, panel = request.model.horizon, source.panel
    if load:
        forecaster = PanelForecaster(load_forecaster(load), str(load))
    else:
        forecaster = request.forecaster(_season(request, source))
    _expect_able(forecaster, places)
    coverages = request.coverages(forecaster)
    levels = levels_of(coverages)
    with console.status(escape(f"{forecaster.name} {'reads' if load else 'learns from'} {source.path.name}")):
        if load:
            forecaster.read(panel, learn=False)
        else:
            forecaster.fit(panel, horizon)
        made = forecaster.forecast(panel, horizon, levels)
    facts = request.manifest(source, forecaster, horizon=horizon, intervals=coverages, load=load)
    write_table(places.table, forecast_table(panel, made, levels, coverages), facts)
    if places.picture:
        _draw(places.picture, lambda pictures: pictures.forecast_picture(panel, made, levels, coverages))
    if places.weights:
        _draw(places.weights, lambda pictures: pictures.weights_picture(forecaster.model.weights(), panel.targets))
    if places.save:
        save_forecaster(forecaster.model, places.save)
    _say(source)
    print(*places.paths, sep="\n")


def run_backtest(request: Request, source: Source, plan: Plan, places: Places) -> None:
    """Forecast the windows of a plan, write the errors, and say what came out."""
    panel = source.panel
    season = request.season(source, held_out=plan.cuts()[0])
    forecaster = request.forecaster(season)
    coverages = request.coverages(forecaster)
    levels = sorted({*levels_of(coverages), *LEVELS}) if forecaster.has_quantiles else []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("windows", total=plan.windows)
        result = backtest(
            panel, plan, season, lambda: request.forecaster(season), levels, lambda: progress.advance(bar)
        )
    facts = request.manifest(source, forecaster, **asdict(plan), season=season, intervals=coverages)
    write_table(places.table, backtest_table(result, coverages), facts)
    if places.picture:
        _draw(places.picture, lambda pictures: pictures.backtest_picture(result, forecaster.name))
    _say(source)
    show_errors(result, forecaster.name, coverages)
    print(*places.paths, sep="\n")


def _season(request: Request, source: Source) -> int:
    """Of a model that has one."""
    if takes_season(request.name):
        return request.season(source)
    if request.model.season is not None:
        raise InputError(f"{request.name} has no season. Leave out --season")
    return 1


def _draw(path: Path, picture: Callable[[Any], Picture]) -> None:
    # matplotlib takes a second
    from helixwave_domains.forecasting import forecast_pictures as pictures

    pictures.save_picture(picture(pictures), path)


def _expect_able(forecaster: PanelForecaster, places: Places) -> None:
    """Raise InputError if a model cannot give all that is asked for."""
    if places.weights and not hasattr(forecaster.model, "weights"):
        raise InputError(f"{forecaster.name} has no weights to draw, as linear models have. Leave out --weights")
    if places.save and not isinstance(forecaster.model, WindowForecaster):
        raise InputError(f"{forecaster.name} is not one of the models that can be saved. Leave out --save")


def _say(source: Source) -> None:
    """What was read, what was repaired, and what is odd."""
    panel = source.panel
    shortest, longest = min(map(len, panel.series)), max(map(len, panel.series))
    steps = f"{longest:,} steps" if shortest == longest else f"{shortest:,} to {longest:,} steps"
    steps += f" of {panel.frequency}" if str(panel.frequency) != "1" else ""
    end = shown(max(series.times[-1] for series in panel.series))
    targets = f"{len(panel.targets)} target{'s' * (len(panel.targets) > 1)}"
    console.print(escape(f"{source.path.name}: {len(panel):,} series, {targets}, {steps} up to {end}"))
    for what, count in source.repaired.items():
        console.print(escape(f"repaired: {what}: {count:,}"))
    for note in source.notes:
        console.print(escape(f"note: {note}"))
