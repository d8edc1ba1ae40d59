"""Which of many belongs to which: what objectives without labels have in common that tell views apart."""

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave.objectives.means import Means
from helixwave.objectives.objective import Objective
from helixwave.outputs import Predicts


class Contrastive(Objective):
    """The cross entropy of a choice among the views of a batch. A subclass gives `choices`.

    Reported are that loss, named `monitor`, and how often the nearest is the right one.
    """

    predicts: Predicts = "numbers"
    mode = "min"

    def choices(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of each view over what it is compared with `[M, n]`, and the number of the right one `[M]`."""
        raise NotImplementedError

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Mean over all views; zero where there is nothing to choose."""
        return F.cross_entropy(*self.choices(outputs))

    def scored(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Of each view its loss and whether the nearest is the right one, `[M, 2]`; the target has no meaning."""
        logits, right = self.choices(outputs)
        found = logits.argmax(-1) == right
        return torch.stack([F.cross_entropy(logits, right, reduction="none"), found.float()], dim=-1), right

    def metrics(self) -> Means:
        return Means(self.monitor, "retrieval")

    def defined(self, target: Tensor) -> bool:
        return len(target) > 0
