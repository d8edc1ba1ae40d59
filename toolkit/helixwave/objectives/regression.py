"""Numbers."""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_squared_error, r2_score
from torch import Tensor

from helixwave.data.source import Picture
from helixwave.objectives.collected import Collected, Score
from helixwave.objectives.objective import Objective, expect_targets
from helixwave.outputs import Predicts
from helixwave.pictures import scatter_picture

Metric = Literal["pearson", "spearman", "r2", "mse"]
_MOST_DRAWN = 8


class Regression(Objective):
    """One number or several, for a whole sequence or for each position.

    Outputs and targets are `[B, n]` or `[B, T, n]`; NaN is not scored. A metric is the mean over the `n` numbers.

    Args:
        monitor: the metric on the validation split that chooses the weights to keep.
    """

    predicts: Predicts = "numbers"

    def __init__(self, classes: list[str], *, monitor: Metric = "pearson"):
        self.classes, self.monitor = classes, monitor
        self.mode = "min" if monitor == "mse" else "max"

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Mean squared error over what is scored."""
        expect_targets(outputs, target, per_place=1)
        known = ~target.isnan()
        return (outputs[known] - target[known].to(outputs.dtype)).square().sum() / known.sum().clamp(min=1)

    def scored(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions and targets `[M, n]` in float32, where any number is known."""
        expect_targets(outputs, target, per_place=1)
        outputs, target = outputs.flatten(0, -2).float(), target.flatten(0, -2).float()
        kept = ~target.isnan().all(-1)
        return outputs[kept], target[kept]

    def metrics(self) -> Collected:
        return Collected(_SCORES)

    def pictures(self, outputs: Tensor, target: Tensor) -> list[Picture]:
        """Predictions against targets on the test split, of eight numbers at most, from the first to the last."""
        kept = np.linspace(0, len(self.classes) - 1, min(len(self.classes), _MOST_DRAWN)).round().astype(int)
        return [scatter_picture(target.numpy()[:, kept], outputs.numpy()[:, kept], [self.classes[i] for i in kept])]


def _r2(outputs: np.ndarray, target: np.ndarray) -> float:
    return float(r2_score(target, outputs)) if len(target) > 1 else math.nan


def _mse(outputs: np.ndarray, target: np.ndarray) -> float:
    return float(mean_squared_error(target, outputs)) if len(target) else math.nan


def _correlation(correlation: Callable[..., Any]) -> Score:
    """A correlation that is NaN, without a warning, where one side does not vary."""

    def guarded(outputs: np.ndarray, target: np.ndarray) -> float:
        varies = len(target) > 1 and np.ptp(outputs) > 0 and np.ptp(target) > 0
        return float(correlation(outputs, target).statistic) if varies else math.nan

    return guarded


_SCORES: dict[str, Score] = {
    "pearson": _correlation(pearsonr),
    "spearman": _correlation(spearmanr),
    "r2": _r2,
    "mse": _mse,
}
