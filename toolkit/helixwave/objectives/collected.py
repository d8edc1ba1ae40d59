"""Scores that need all predictions at once, averaged over several outputs of which some may be unknown."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

Score = Callable[[np.ndarray, np.ndarray], float]
"""From predictions and targets of one output, both `[M]`."""


class Collected:
    """Scores of what is collected batch by batch: for each the mean over the outputs for which it is defined.

    Args:
        scores: by name; where one is not defined, as the correlation with a constant, it gives NaN.
    """

    def __init__(self, scores: Mapping[str, Score]):
        self.scores = scores
        self.reset()

    def reset(self) -> None:
        self.outputs: list[Tensor] = []
        self.targets: list[Tensor] = []

    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Predictions and targets `[M, n]`; NaN is not scored."""
        self.outputs.append(outputs.detach().cpu())
        self.targets.append(target.detach().cpu())

    def compute(self) -> dict[str, Tensor]:
        outputs, targets = (torch.cat(pieces).double().numpy() for pieces in (self.outputs, self.targets))
        columns = [(o[known], t[known]) for o, t in zip(outputs.T, targets.T, strict=True) for known in [~np.isnan(t)]]
        return {
            name: torch.tensor(_mean([score(*column) for column in columns])) for name, score in self.scores.items()
        }


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
