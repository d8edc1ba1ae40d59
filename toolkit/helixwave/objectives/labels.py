"""Several labels at once."""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from helixwave.calibration import best_thresholds, fit_temperature
from helixwave.data.source import Picture
from helixwave.objectives.collected import Collected, Score
from helixwave.objectives.objective import Objective, expect_targets
from helixwave.outputs import Predicts
from helixwave.pictures import calibration_picture, label_curves, precision_recall_picture, roc_picture

Metric = Literal["auroc", "auprc"]


class MultiLabel(Objective):
    """Which of several labels a whole sequence or a position has, each independently of the others.

    Outputs are logits `[B, n_label]` or `[B, T, n_label]`, targets 0 or 1 of the same shape; NaN is not scored. A
    metric is the mean over the labels that occur and are missing at least once (macro).

    Args:
        monitor: the metric on the validation split that chooses the weights to keep: the area under the receiver
            operating characteristic or under the curve of precision and recall.
    """

    predicts: Predicts = "labels"

    def __init__(self, classes: list[str], *, monitor: Metric = "auroc"):
        self.classes, self.monitor = classes, monitor

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Mean binary cross entropy over what is scored."""
        expect_targets(outputs, target, per_place=1)
        known = ~target.isnan()
        total = F.binary_cross_entropy_with_logits(outputs[known], target[known].to(outputs.dtype), reduction="sum")
        return total / known.sum().clamp(min=1)

    def scored(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and targets `[M, n_label]` in float32."""
        expect_targets(outputs, target, per_place=1)
        return outputs.flatten(0, -2).float(), target.flatten(0, -2).float()

    def metrics(self) -> Collected:
        return Collected({"auroc": _with_both(roc_auc_score), "auprc": _with_both(average_precision_score)})

    def calibrate(self, outputs: Tensor, target: Tensor) -> dict[str, Any]:
        """The temperature of the logits, and for each label the probability from which it is said to be there."""
        temperature = fit_temperature(outputs, target, "labels")
        probabilities = (outputs / temperature).sigmoid().double().numpy()
        return {"temperature": temperature, "thresholds": best_thresholds(probabilities, target.double().numpy())}

    def pictures(self, outputs: Tensor, target: Tensor) -> list[Picture]:
        """Curves of each label, and calibration on the test split."""
        probabilities, truth = outputs.sigmoid().numpy(), target.numpy()
        curves, known = label_curves(truth, probabilities, self.classes), ~np.isnan(truth)
        return [
            roc_picture(curves),
            precision_recall_picture(curves),
            calibration_picture(probabilities[known], truth[known], "Probabilities of all labels"),
        ]


def _with_both(score: Callable[..., Any]) -> Score:
    """A score that needs both kinds of target."""

    def guarded(outputs: np.ndarray, target: np.ndarray) -> float:
        return float(score(target, outputs)) if 0 < target.sum() < len(target) else math.nan

    return guarded
