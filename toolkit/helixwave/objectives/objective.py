"""What all objectives have in common."""

from typing import Any, Protocol

from torch import Tensor, nn

from helixwave.data.source import Picture, Source
from helixwave.errors import InputError
from helixwave.outputs import Predicts


class Metrics(Protocol):
    """Scores by name that are updated batch by batch; a `MetricCollection` of torchmetrics is one."""

    def reset(self) -> None: ...

    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Take what `Objective.scored` returns."""

    def compute(self) -> dict[str, Tensor]: ...


class Objective:
    """A loss and what judges it. A subclass gives `loss`, `scored` and `metrics`.

    Attributes:
        classes: names of the model's outputs.
        predicts: what these mean.
        monitor: the metric on the validation split that chooses the weights to keep.
        mode: whether it is best at its `max` or its `min`.
    """

    classes: list[str]
    predicts: Predicts = "class"
    monitor: str
    mode = "max"

    def prepare(self, source: Source) -> Source:
        """The source with the examples that this objective learns from."""
        return source

    def check(self, model: nn.Module) -> None:
        """Raise InputError if a model cannot learn this."""

    def outputs(self, model: nn.Module, inputs: Tensor, lengths: Tensor) -> Tensor:
        """What is scored of a batch; a model's outputs, if nothing else is learnt from."""
        made: Tensor = model(inputs, lengths)
        return made

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The mean over what is scored; zero if that is nothing."""
        raise NotImplementedError

    def scored(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions `[M, n_class]` in float32 and targets `[M, ...]` of what is scored."""
        raise NotImplementedError

    def metrics(self) -> Metrics:
        """Fresh metrics, updated with what `scored` returns."""
        raise NotImplementedError

    def score(self, outputs: Tensor, target: Tensor) -> dict[str, float]:
        """All metrics of what `scored` returned."""
        metrics = self.metrics()
        metrics.update(outputs, target)
        return {name: float(value) for name, value in metrics.compute().items()}

    def defined(self, target: Tensor) -> bool:
        """Whether scores have a meaning on these targets: every class occurs."""
        return len(target.unique()) == len(self.classes)

    def calibrate(self, outputs: Tensor, target: Tensor) -> dict[str, Any]:
        """What a checkpoint keeps so that its probabilities are what they say, from what `scored` returned."""
        return {}

    def pictures(self, outputs: Tensor, target: Tensor) -> list[Picture]:
        """What shows the predictions on the test split."""
        return []


def expect_targets(outputs: Tensor, target: Tensor, *, per_place: int) -> None:
    """Raise InputError unless the model's outputs and the data's targets are of one kind.

    Args:
        per_place: dimensions of the target at one place: 0 for a class, 1 for several labels or numbers.
    """
    if target.is_floating_point() != bool(per_place):
        kinds = ["one class each", "labels or numbers"]
        raise InputError(
            f"objective: the data have {kinds[target.is_floating_point()]}, this objective expects {kinds[per_place]}. "
            "Choose another objective.name or data.target"
        )
    places = target.shape[: target.ndim - per_place]
    if outputs.shape[:-1] != places:
        raise InputError(
            f"the model gives outputs {list(outputs.shape[:-1])}, the data have targets {list(places)}: one is "
            "for whole sequences, the other for each position. Choose another model.name or data.name"
        )
