"""One class for each beat, reported as cardiologists report beats."""

from typing import Literal

from helixwave.data import Picture
from helixwave.objectives import Classification
from torch import Tensor

Metric = Literal["accuracy", "macro_f1", "mcc", "auroc"]


class EcgBeats(Classification):
    """Classification of beats, with sensitivity and predictive value of each class in the report.

    Where the classes are symbols of MIT-BIH's annotations, also in the classes N, S, V, F, Q of AAMI EC57. Outputs and
    targets are those of `classification`.

    Args:
        monitor: the metric on the validation split that chooses the weights to keep; most beats are normal, so that
            accuracy says little.
        metrics: what is reported; the monitored one is always among them.
        label_smoothing: share of the target that is spread over all classes.
    """

    def __init__(
        self,
        classes: list[str],
        *,
        monitor: Metric = "macro_f1",
        metrics: list[Metric] | None = None,
        label_smoothing: float = 0.0,
    ):
        super().__init__(classes, monitor=monitor, metrics=metrics, label_smoothing=label_smoothing)

    def pictures(self, outputs: Tensor, target: Tensor) -> list[Picture]:
        """Scores of each class, then confusion, curves and calibration on the test split."""
        from helixwave_domains.ecg.class_pictures import beat_pictures

        truth, predicted = ([self.classes[i] for i in numbers.tolist()] for numbers in (target, outputs.argmax(-1)))
        return [*beat_pictures(truth, predicted, self.classes), *super().pictures(outputs, target)]
