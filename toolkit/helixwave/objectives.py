"""What a model learns: a loss, the metrics that judge it and the pictures that show it."""

from typing import Literal

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

from helixwave.data.batches import IGNORED
from helixwave.data.source import Picture
from helixwave.errors import InputError
from helixwave.pictures import confusion_picture, roc_picture

Metric = Literal["accuracy", "macro_f1", "mcc", "auroc"]


class Classification:
    """One class out of several, for a whole sequence or for each position.

    Outputs are logits `[B, n_class]` or `[B, T, n_class]`, targets class numbers `[B]` or `[B, T]`; -100 is not scored.

    Args:
        monitor: the metric on the validation split that chooses the weights to keep.
        metrics: what is reported; the monitored one is always among them.
        label_smoothing: share of the target that is spread over all classes.
    """

    mode = "max"

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
        """Mean cross entropy over what is scored; zero if that is nothing."""
        outputs, target = _flat(outputs, target)
        total = F.cross_entropy(
            outputs, target, ignore_index=IGNORED, label_smoothing=self.label_smoothing, reduction="sum"
        )
        return total / (target != IGNORED).sum().clamp(min=1)

    def scored(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[M, n_class]` in float32 and targets `[M]` of what is scored."""
        outputs, target = _flat(outputs, target)
        kept = target != IGNORED
        return outputs[kept].float().log_softmax(-1), target[kept]

    def metrics(self) -> MetricCollection:
        """Fresh metrics, updated with what `scored` returns."""
        n = len(self.classes)
        make = {
            "accuracy": lambda: MulticlassAccuracy(n, average="micro"),
            "macro_f1": lambda: MulticlassF1Score(n, average="macro"),
            "mcc": lambda: MulticlassMatthewsCorrCoef(n),
            "auroc": lambda: MulticlassAUROC(n),
        }
        return MetricCollection({name: make[name]() for name in self.names})

    def score(self, outputs: Tensor, target: Tensor) -> dict[str, float]:
        """All metrics of the log-probabilities `[M, n_class]` of scored targets `[M]`."""
        metrics = self.metrics()
        metrics.update(outputs.exp(), target)
        return {name: float(value) for name, value in metrics.compute().items()}

    def pictures(self, outputs: Tensor, target: Tensor) -> list[Picture]:
        """The confusion matrix and the receiver operating characteristic on the test split."""
        probabilities = torch.as_tensor(outputs).exp().numpy()
        truth = target.numpy()
        return [confusion_picture(truth, probabilities, self.classes), roc_picture(truth, probabilities, self.classes)]


def _flat(outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if outputs.shape[:-1] != target.shape:
        raise InputError(
            f"the model gives outputs {list(outputs.shape[:-1])}, the data have targets {list(target.shape)}: one is "
            "for whole sequences, the other for each position. Choose another model.name or data.name"
        )
    return outputs.flatten(0, -2), target.flatten()
