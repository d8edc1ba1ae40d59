"""Scores that are the mean of a number of each example."""

import torch
from torch import Tensor


class Means:
    """Means by name of what is collected batch by batch.

    Args:
        names: of the columns.
    """

    def __init__(self, *names: str):
        self.names = names
        self.reset()

    def reset(self) -> None:
        self.total, self.count = torch.zeros(len(self.names), dtype=torch.float64), 0

    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Numbers `[M, n]`; the target is not looked at."""
        self.total, self.count = self.total + outputs.detach().double().sum(0).cpu(), self.count + len(outputs)

    def compute(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.total / max(self.count, 1), strict=True))
