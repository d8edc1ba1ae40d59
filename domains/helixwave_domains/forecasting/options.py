"""Options that the commands of forecasting share: each group of them makes one argument of a command."""

from enum import StrEnum
from typing import Annotated, Any, NamedTuple

import typer
from helixwave.errors import InputError

from helixwave_domains.forecasting.frame_options import Cells, Columns, Repairs

Decimal = StrEnum("Decimal", ["point", "comma"])
NotANumber = StrEnum("NotANumber", ["error", "missing"])
Duplicates = StrEnum("Duplicates", ["error", "first", "last", "mean"])
Resample = StrEnum("Resample", ["mean", "sum", "last"])
Gaps = StrEnum("Gaps", ["error", "fill"])
Missing = StrEnum("Missing", ["error", "interpolate", "keep"])
Ends = StrEnum("Ends", ["error", "missing", "own"])


_MODEL, _COLUMNS = "Model", "Columns of the file"
_CELLS, _FLAWS = "Cells of the file", "Flaws of the file"


class Model(NamedTuple):
    """What is forecast, and by what.

    Args:
        horizon: steps.
        name: of a registered forecaster; None: nlinear, or that of a fitted model.
        coverages: of central intervals; None: 0.9 if the model has intervals.
        season: steps; None: by the frequency.
    """

    horizon: int
    name: str | None
    coverages: list[float] | None
    season: int | None


def model(
    horizon: Annotated[int, typer.Option(min=1, help="Steps to forecast.", rich_help_panel=_MODEL)],
    model: Annotated[
        str | None,
        typer.Option(help="A registered forecaster, such as seasonal_naive. Default: nlinear.", rich_help_panel=_MODEL),
    ] = None,
    interval: Annotated[
        list[float] | None,
        typer.Option(help="Coverage of a central interval; repeat it for more. Default: 0.9.", rich_help_panel=_MODEL),
    ] = None,
    season: Annotated[
        int | None, typer.Option(min=1, help="Steps of a season. Default: a day, week or year.", rich_help_panel=_MODEL)
    ] = None,
) -> Model:
    """What is forecast, and by what."""
    for coverage in interval or []:
        if not 0 < coverage < 1:
            raise InputError(f"--interval is {coverage:g}, expected more than 0 and less than 1, such as 0.9")
    return Model(horizon, model, sorted(set(interval)) if interval else None, season)


def columns(
    time: Annotated[str, typer.Option(help="Column of times: dates, or whole numbers.", rich_help_panel=_COLUMNS)],
    id: Annotated[
        str | None, typer.Option(help="Column of names, if series stand one above the other.", rich_help_panel=_COLUMNS)
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Column that is forecast; repeat it for more. Default: all of numbers.", rich_help_panel=_COLUMNS
        ),
    ] = None,
    exog: Annotated[
        list[str] | None,
        typer.Option(
            help="Column that is known ahead, in rows behind the last target; repeat it for more.",
            rich_help_panel=_COLUMNS,
        ),
    ] = None,
    static: Annotated[
        list[str] | None,
        typer.Option(help="Column with one number for each series; repeat it for more.", rich_help_panel=_COLUMNS),
    ] = None,
) -> Columns:
    """What the columns of the file are."""
    return Columns(time, id, tuple(target or ()), tuple(exog or ()), tuple(static or ()))


def cells(
    decimal: Annotated[
        Decimal, typer.Option(help="What stands before the fraction of a number.", rich_help_panel=_CELLS)
    ] = Decimal.point,
    time_format: Annotated[
        str | None,
        typer.Option(
            help="How times are written, as in '%d.%m.%Y'. Default: ISO 8601, or as it looks.", rich_help_panel=_CELLS
        ),
    ] = None,
    not_a_number: Annotated[
        NotANumber, typer.Option(help="What becomes of text among numbers.", rich_help_panel=_CELLS)
    ] = NotANumber.error,
) -> Cells:
    """How the cells of the file are read."""
    return Cells("," if decimal == "comma" else ".", time_format, str(not_a_number))  # type: ignore[arg-type]


def repairs(
    sort: Annotated[
        bool, typer.Option("--sort", help="Put rows in the order of time.", rich_help_panel=_FLAWS)
    ] = False,
    duplicates: Annotated[
        Duplicates, typer.Option(help="Which of several rows of one time counts.", rich_help_panel=_FLAWS)
    ] = Duplicates.error,
    freq: Annotated[
        str | None,
        typer.Option(
            help="Length of a step, as in 15min, h, D, W, MS. Default: the one that most have.", rich_help_panel=_FLAWS
        ),
    ] = None,
    resample: Annotated[
        Resample | None,
        typer.Option(help="How rows that lie in one step of --freq become one.", rich_help_panel=_FLAWS),
    ] = None,
    gaps: Annotated[
        Gaps, typer.Option(help="Whether steps without a row get one of missing values.", rich_help_panel=_FLAWS)
    ] = Gaps.error,
    missing: Annotated[
        Missing,
        typer.Option(help="What becomes of missing values; keep: the model has to take them.", rich_help_panel=_FLAWS),
    ] = Missing.error,
    ends: Annotated[
        Ends,
        typer.Option(
            help="Series that end early get missing values, or are forecast from ends of their own.",
            rich_help_panel=_FLAWS,
        ),
    ] = Ends.error,
) -> Repairs:
    """What is done about flaws."""
    words: dict[str, Any] = {"duplicates": duplicates, "gaps": gaps, "missing": missing, "ends": ends}
    plain: dict[str, Any] = {key: str(word) for key, word in words.items()}
    return Repairs(sort=sort, frequency=freq, resample=None if resample is None else str(resample), **plain)  # type: ignore[arg-type]
