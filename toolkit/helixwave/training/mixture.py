"""Several objectives in one run: which of them a step serves, and how their weights follow their progress."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from helixwave.data import Source
from helixwave.data.batches import Draw
from helixwave.objectives import Objective
from helixwave.training.companions import companion
from helixwave.training.settings import ObjectiveMixture

# keeps these draws apart from others that begin with (seed, epoch)
_CHOICE = 104_729


class Mixture(nn.Module):
    """The further objectives of a run, the models that learn them, and the weights of all.

    Weights and the last losses are buffers: a run that is resumed goes on with them.

    Args:
        model: of the recipe's own objective, number 0.
        objectives: the others, built from `settings`.
        sources: what each of them is shown.
    """

    log_weights: Tensor
    losses: Tensor

    def __init__(
        self, model: nn.Module, objectives: Sequence[Objective], sources: Sequence[Source], settings: ObjectiveMixture
    ):
        super().__init__()
        self.objectives, self.sources, self.reward = list(objectives), list(sources), settings.reward
        self.names = [f"{number}_{config['name']}" for number, config in enumerate(settings.objectives, start=1)]
        self.models = nn.ModuleList(companion(model, objective) for objective in objectives)
        n = 1 + len(objectives)
        weights = torch.tensor(settings.weights or [1.0] * n, dtype=torch.float64)
        self.register_buffer("log_weights", weights.log())
        self.register_buffer("losses", torch.full((n,), torch.nan, dtype=torch.float64))

    @property
    def shares(self) -> Tensor:
        """Of the steps that serve each objective, `[n]`."""
        return self.log_weights.softmax(0)

    def assigned(self, batches: list[list[Draw]], seed: int, epoch: int) -> list[list[Draw]]:
        """The same batches, each for one objective, drawn by the weights."""
        rng = np.random.default_rng((seed, epoch, _CHOICE))
        numbers = rng.choice(len(self.log_weights), len(batches), p=self.shares.cpu().numpy())
        pairs = zip(batches, numbers.tolist(), strict=True)
        return [[draw._replace(objective=number) for draw in batch] for batch, number in pairs]

    def row(self) -> dict[str, float]:
        """Validation losses of the further objectives, and the share of steps that each had, for the metrics."""
        losses = zip(self.names, self.losses[1:].tolist(), strict=True)
        shares = zip(["0_own", *self.names], self.served.tolist(), strict=True)
        return {f"val_loss_{name}": loss for name, loss in losses} | {f"share_{name}": share for name, share in shares}

    def follow(self, losses: Sequence[float]) -> None:
        """Let the weights grow with the progress since the last call: validation losses of all objectives `[n]`."""
        now = torch.tensor(losses, dtype=torch.float64, device=self.losses.device)
        fall = ((self.losses - now) / self.losses.abs()).nan_to_num(0.0)
        greatest, self.served = fall.abs().max(), self.shares
        if self.reward and greatest > 0:
            self.log_weights += self.reward * fall / greatest
        self.losses.copy_(now)
