"""The long-horizon benchmarks: the linear family solved exactly, beside what is published and what others need.

Models see the training rows; penalties are chosen on the validation rows; errors are means over all test windows in
standardised units (the published ones left out a last batch of fewer than 32 windows). Seconds are cpu time on one
thread, of fitting and of forecasting all test windows. An error wins where, rounded to three digits, it is less than
the published one.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from helixwave.side_by_side import best_in_turns, page, parser, publish
from helixwave_kernels.bench.report import markdown

from helixwave_domains.forecasting import ensemble_choice
from helixwave_domains.forecasting.benchmark_run import Run, run
from helixwave_domains.forecasting.long_horizon import LongHorizon
from helixwave_domains.forecasting.published_errors import PUBLISHED, best_linear, verdict
from helixwave_domains.forecasting.published_training import linear_maps
from helixwave_domains.forecasting.window_statistics import Floats

MODULE = "helixwave_domains.forecasting.ltsf_benchmark"
# the table of the published linear models that has files of a few megabytes
DATASETS = ("ETTh1", "ETTh2", "ETTm1", "ETTm2", "weather", "exchange_rate", "national_illness")
# what the ensemble is chosen on: all with four months of validation rows or more
CHOSEN_ON = DATASETS[:-1]
TRAINED = ("ETTh1", "ETTh2", "exchange_rate")
ENSEMBLE = {"name": "linear_ensemble"}


def published_settings(dataset: str, horizon: int) -> dict[str, Any]:
    """Learning rate and batch of LTSF-Linear's scripts, which leave out last batches that are not full."""
    lr, batch_size = {"ETTh1": (0.005, 32), "ETTh2": (0.05, 32), "exchange_rate": (0.0005, 8 if horizon < 300 else 32)}[
        dataset
    ]
    return {"lr": lr, "batch_size": batch_size, "drop_last": True}


def cells(datasets: Iterable[str]) -> list[tuple[LongHorizon, int]]:
    """Data sets and horizons."""
    return [(source, horizon) for source in map(LongHorizon, datasets) for horizon in source.horizons]


def against_published(model: dict[str, Any], datasets: Iterable[str], bar: Callable[[str, int], float | None]) -> str:
    """A table of one model beside one published error of each cell, and the count of wins."""
    rows, verdicts = [], []
    for source, horizon in cells(datasets):
        found = run(model, source, horizon)
        published = bar(source.dataset, horizon)
        verdicts += [] if published is None else [verdict(found.mse, published)]
        beside = ["", ""] if published is None else [f"{published:.3f}", verdicts[-1]]
        rows.append([source.dataset, str(horizon), f"{found.mse:.4f}", f"{found.mae:.4f}", *beside, *_seconds(found)])
        print(*rows[-1], flush=True)
    headings = ["data", "steps", "MSE", "MAE", "published MSE", "", "fit s", "forecast s"]
    return f"{markdown(headings, rows)}\n{_counted(verdicts)}\n"


def _seconds(found: Run) -> list[str]:
    return [f"{found.fit_seconds:.2f}", f"{found.forecast_seconds:.2f}"]


def _counted(verdicts: Sequence[str]) -> str:
    return ", ".join(f"{verdicts.count(each)} {each}" for each in ("win", "tie", "loss")) + "."


def against_training(datasets: Iterable[str]) -> str:
    """Exact and published training of NLinear, cell by cell."""
    rows, better = [], 0
    for source, horizon in cells(datasets):
        exact = run({"name": "nlinear"}, source, horizon)
        settings = {"solver": "sgd", "training": published_settings(source.dataset, horizon), "random_state": 2021}
        trained = run({"name": "nlinear", **settings}, source, horizon)
        better += exact.mse <= trained.mse
        ratio = trained.fit_seconds / exact.fit_seconds
        errors = [f"{each.mse:.4f}/{each.mae:.4f}" for each in (exact, trained)]
        seconds = [f"{each.fit_seconds:.2f}" for each in (exact, trained)]
        rows.append([source.dataset, str(horizon), *errors, *seconds, f"{ratio:.0f}x"])
        print(*rows[-1], flush=True)
    headings = ["data", "steps", "exact", "sgd", "exact s", "sgd s", "times less"]
    return f"{markdown(headings, rows)}\nThe exact solution is no worse in {better} of {len(rows)} cells.\n"


def against_sktime() -> str:
    """336 -> 96 on ETTh1: ours, and sktime's own for one epoch, otherwise as they come; the best of 3 turns."""
    from sktime.forecasting import ltsf

    source, steps = LongHorizon("ETTh1", horizons=[96]), list(range(1, 97))
    ours = run({"name": "nlinear"}, source, 96)
    theirs = {name: getattr(ltsf, name) for name in ("LTSFNLinearForecaster", "LTSFDLinearForecaster")}
    fitted: dict[str, Any] = {}

    def fit_theirs(name: str) -> None:
        torch.manual_seed(2021)
        fitted[name] = theirs[name](seq_len=336, pred_len=96, num_epochs=1, in_channels=7)
        fitted[name].set_config(remember_data=False).fit(source.y.iloc[: source.borders.train], fh=steps).predict()

    contenders: dict[str, Callable[[], Any]] = {name: partial(fit_theirs, name) for name in theirs}
    contenders["NLinearForecaster"] = lambda: ours.forecaster.clone().fit(source.fitting_part(), fh=steps).predict()
    seconds = {name: best / 1e3 for name, best in best_in_turns(contenders, turns=3).items()}
    errors = {"NLinearForecaster": ours.errors} | {name: _errors(source, each.network) for name, each in fitted.items()}
    best = seconds["NLinearForecaster"]
    rows = [
        [name, *(f"{each:.4f}" for each in errors[name].mean(0)), f"{took:.2f}", f"{took / best:.0f}"]
        for name, took in seconds.items()
    ]
    return markdown(["forecaster", "test MSE", "MAE", "fit and predict s", "times ours"], rows)


def _errors(source: LongHorizon, network: torch.nn.Module) -> Floats:
    """Of the test windows, by the linear map that a network is."""
    (shared, *_), values = linear_maps(network, 336, 7), source.test_part(336).to_numpy(np.float32)
    return source.errors([(_forecasts(shared, values), _targets(values))])


def _forecasts(shared: Any, values: Floats) -> Floats:
    windows = np.lib.stride_tricks.sliding_window_view(values[:-96], 336, axis=0)  # [n, C, L]
    return shared(windows).transpose(0, 2, 1)


def _targets(values: Floats) -> Floats:
    return np.lib.stride_tricks.sliding_window_view(values[336:], 96, axis=0).transpose(0, 2, 1)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    arguments = parser(MODULE, __doc__).parse_args(argv)
    torch.set_num_threads(1)
    nlinear = partial(against_published, {"name": "nlinear"}, DATASETS)
    tables = [
        "## NLinear, solved exactly, beside the published NLinear\n",
        nlinear(lambda dataset, horizon: PUBLISHED["nlinear", dataset, horizon][0]),
        "## The default ensemble beside the best published of Linear, NLinear and DLinear\n",
        against_published(ENSEMBLE, DATASETS, best_linear),
        f"It was chosen so. {ensemble_choice.__doc__ and ensemble_choice.__doc__.split(chr(10), 2)[2]}",
        ensemble_choice.ranking(CHOSEN_ON),
        "## Exact solution and published training of NLinear\n",
        against_training(TRAINED),
        "## Beside sktime's own\n",
        against_sktime(),
    ]
    command = f"python -m {MODULE} --report docs/benchmarks-forecasting.md"
    publish(page("Long-horizon forecasting, measured", __doc__, command, "\n".join(tables)), arguments.report)


if __name__ == "__main__":
    main()
