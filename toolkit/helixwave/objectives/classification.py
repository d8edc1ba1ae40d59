"""One class out of several."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassF1Score,
    MulticlassMatthewsCorrCoef,
)

from helixwave.calibration import fit_temperature
from helixwave.data.batches import IGNORED
from helixwave.data.source import Picture
from helixwave.objectives.objective import Objective, expect_targets
from helixwave.pictures import (
    accuracy_picture,
    calibration_picture,
    class_curves,
    confusion_picture,
    precision_recall_picture,
    roc_picture,
)

Metric = Literal["accuracy", "macro_f1", "mcc", "auroc"]


class Classification(Objective):
    """One class out of several, for a whole sequence or for each position.

    Outputs are logits `[B, n_class]` or `[B, T, n_class]`, targets class numbers `[B]` or `[B, T]`; -100 is not scored.

    Args:
        monitor: the metric on the validation split that chooses the weights to keep.
        metrics: what is reported; the monitored one is always among them.
        label_smoothing: share of the target that is spread over all classes.
    """

    def __init__(
        self,
        classes: list[str],
        *,
        monitor: Metric = "accuracy",
        metrics: list[Metric] | None = None,
        label_smoothing: float = 0.0,
    ):
        self.classes, self.monitor, self.label_smoothing = classes, monitor, label_smoothing
        self.names = list(dict.fromkeys([monitor, *(metrics or ["accuracy", "macro_f1", "mcc"])]))

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(outputs, target, label_smoothing=self.label_smoothing)

    def scored(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return log_probabilities(outputs, target)

    def metrics(self) -> MetricCollection:
        n = len(self.classes)
        make = {
            "accuracy": lambda: MulticlassAccuracy(n, average="micro"),
            "macro_f1": lambda: MulticlassF1Score(n, average="macro"),
            "mcc": lambda: MulticlassMatthewsCorrCoef(n),
            "auroc": lambda: MulticlassAUROC(n),
        }
        return _OfProbabilities({name: make[name]() for name in self.names})

    def calibrate(self, outputs: Tensor, target: Tensor) -> dict[str, Any]:
        """The temperature of the logits."""
        return {"temperature": fit_temperature(outputs, target, "class")}

    def pictures(self, outputs: Tensor, target: Tensor) -> list[Picture]:
        """Confusion matrix, accuracy with intervals, curves of each class, and calibration on the test split."""
        probabilities = torch.as_tensor(outputs).exp().numpy()
        truth = target.numpy()
        curves = class_curves(truth, probabilities, self.classes)
        confidence, correct = probabilities.max(-1), probabilities.argmax(-1) == truth
        return [
            confusion_picture(truth, probabilities, self.classes),
            accuracy_picture(truth, probabilities, self.classes),
            roc_picture(curves),
            precision_recall_picture(curves),
            calibration_picture(confidence, correct, "Probabilities of the predicted class"),
        ]


class _OfProbabilities(MetricCollection):
    """Metrics of probabilities that are given as logarithms."""

    def update(self, outputs: Tensor, target: Tensor) -> None:  # type: ignore[override]
        super().update(outputs.exp(), target)


def cross_entropy(outputs: Tensor, target: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean over the scored positions of logits `[..., n_class]` and classes `[...]`; zero if there is none."""
    outputs, target = _flat(outputs, target)
    total = F.cross_entropy(outputs, target, ignore_index=IGNORED, label_smoothing=label_smoothing, reduction="sum")
    return total / (target != IGNORED).sum().clamp(min=1)


def log_probabilities(outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities `[M, n_class]` in float32 and targets `[M]` of the scored positions."""
    outputs, target = _flat(outputs, target)
    kept = target != IGNORED
    return outputs[kept].float().log_softmax(-1), target[kept]


def _flat(outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    expect_targets(outputs, target, per_place=0)
    return outputs.flatten(0, -2), target.flatten()
