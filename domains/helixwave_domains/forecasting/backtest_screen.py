"""The errors of a backtest as a table on the screen."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from helixwave.console import console
from rich.markup import escape
from rich.table import Table

from helixwave_domains.forecasting.backtest import Backtest
from helixwave_domains.forecasting.forecast_metrics import SERIES, STEPS, TARGETS, WINDOWS, scores

_MOST = 24
# more are in the file
_MEASURES = {"mae": "MAE", "rmse": "RMSE", "mase": "MASE"}

Errors = Mapping[str, Mapping[str, Any]]
"""By forecaster, `model` and `naive`, and by measure."""


def show_errors(result: Backtest, name: str, coverages: Sequence[float]) -> None:
    """Errors by series and target beside those of the seasonal naive forecast, and which of the two is better."""
    within = {f"coverage_{coverage:g}": f"within {coverage:g}" for coverage in coverages}
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for title in [*(both for name in _MEASURES.values() for both in (name, "naive")), *within.values()]:
        table.add_column(title, justify="right", no_wrap=True, min_width=len(title))
    found = scores(result, coverages)
    each = {who: them.mean((WINDOWS, STEPS)) for who, them in found.items()}
    labels = [_label(result, n, c) for n in range(len(result.panel)) for c in range(len(result.panel.targets))]
    if len(labels) > 1:
        for number, label in enumerate(labels[:_MOST]):
            one = {who: {key: values.flat[number] for key, values in them.items()} for who, them in each.items()}
            table.add_row(escape(label), *_cells(one, within))
    whole = {who: them.mean((WINDOWS, SERIES, STEPS, TARGETS)) for who, them in found.items()}
    hidden = f" ({len(labels) - _MOST} of them not shown)" if len(labels) > _MOST else ""
    table.add_row(escape(labels[0]) if len(labels) == 1 else f"all{hidden}", *_cells(whole, within))
    console.print(table)
    console.print(escape(_verdict(name, float(whole["model"]["mase"]), float(whole["naive"]["mase"]))))


def _cells(errors: Errors, within: Mapping[str, str]) -> Iterator[str]:
    for measure in _MEASURES:
        for who in ("model", "naive"):
            yield f"{errors[who][measure]:.3g}"
    for measure in within:
        yield f"{100 * errors['model'][measure]:.0f} %"


def _label(result: Backtest, n: int, c: int) -> str:
    target = result.panel.targets[c]
    return target if len(result.panel) == 1 else f"{result.panel.series[n].name} {target}"


def _verdict(name: str, model: float, naive: float) -> str:
    """Which of two MASE is less."""
    if math.isnan(model) or math.isnan(naive):
        return "no MASE: the seasonal naive forecast has no error in sample"
    compared = f"{name} has a MASE of {model:.3f}, the seasonal naive forecast of {naive:.3f}"
    return f"{compared}: {100 * (1 - model / naive):.0f} % less" if model < naive else f"{compared}: no better"
