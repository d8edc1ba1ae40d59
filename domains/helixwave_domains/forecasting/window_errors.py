"""Forecasts judged window by window: a row is what a model made of one test window."""

from typing import Any

import torch
from helixwave.data import Picture
from helixwave.objectives import Objective
from helixwave.objectives.collected import Collected
from torch import Tensor


class WindowErrors(Objective):
    """Mean squared and mean absolute error over windows, the horizons weighing alike.

    Outputs `[M, 2]` hold the errors of each window, the target `[M]` the horizon that it was forecast for.

    Args:
        classes: names of the channels, all of which are in the errors.
        monitor: `mse` or `mae`.
    """

    mode = "min"

    def __init__(self, classes: list[str], *, monitor: str = "mse"):
        self.classes, self.monitor = classes, monitor

    def score(self, outputs: Tensor, target: Tensor) -> dict[str, float]:
        """Both errors: means over the windows of a horizon, then over horizons."""
        means = torch.stack([outputs[target == horizon].mean(0) for horizon in target.unique()]).mean(0)
        return dict(zip(("mse", "mae"), means.tolist(), strict=True))

    def defined(self, target: Tensor) -> bool:
        """Always: an error needs no second class."""
        return bool(len(target))

    def metrics(self) -> Collected:
        raise NotImplementedError("errors of windows judge what is fitted at once; there are no steps to watch")

    def pictures(self, outputs: Tensor, target: Tensor) -> list[Picture]:
        """Squared error of the test windows in order of time, one line for each horizon."""
        from helixwave_domains.forecasting.benchmark_pictures import errors_over_time

        each: dict[int, Any] = {int(horizon): outputs[target == horizon, 0].numpy() for horizon in target.unique()}
        return [errors_over_time(each)]
