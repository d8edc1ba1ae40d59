"""Pretraining on windows of which patches are hidden."""

import torch
from torch import Tensor, nn

from helixwave_domains.forecasting.backbone_network import BackboneNetwork, Reading
from helixwave_domains.forecasting.windows import Batch


class MaskedPatches(nn.Module):
    """A network with a head for what is hidden from it, trained on the forecast and on that.

    Runs of one to `longest` patches are hidden, each with a probability that is drawn for each window from 0 to
    `share`; to the network they are missing values. Its head for them guesses the last `stride` steps of each patch. In
    evaluation nothing is hidden, and the loss is that of the forecast. Source: Auer et al., "TiRex", 2025, section 3
    (contiguous patch masking).

    Args:
        network: is trained in place; the other head is of no use after that.
        share: the highest probability.
        longest: patches of a run.
    """

    def __init__(self, network: BackboneNetwork, *, share: float = 0.25, longest: int = 5):
        super().__init__()
        self.network, self.share, self.longest = network, share, longest
        n_number = network.stride * network.head.out_features // network.horizon
        self.hidden_head = nn.Linear(network.backbone.d_model, n_number)

    def forward(self, x: Tensor, exogenous: Tensor | None = None) -> Tensor:  # [B, L, C] -> [B, H, C]
        return self.network(x, exogenous)

    def loss(self, batch: Batch) -> Tensor:
        """The loss of the forecast; in training, plus that of the hidden values."""
        network, loss = self.network, self.network.output.loss
        if not self.training:
            return loss(self(batch.context, batch.exogenous), batch.target)
        hidden = self.hide(batch.context)
        reading = network.read(batch.context.masked_fill(hidden, torch.nan), batch.exogenous)
        guesses = self.guess(reading)
        wanted = batch.context.masked_fill(~hidden, torch.nan)[:, -guesses.shape[1] :]
        return loss(network.forecast(reading, batch.exogenous), batch.target) + loss(guesses, wanted)

    def hide(self, x: Tensor) -> Tensor:
        """Steps to hide, drawn from torch's generator: `[B, L, C]` -> `[B, L, 1]`, in patches from the end."""
        (B, L, _), patch = x.shape, self.network.patch
        n_patch = -(-L // patch)
        probability = self.share * torch.rand(B, 1, device=x.device)
        run = torch.randint(1, self.longest + 1, (B, 1), device=x.device)
        draws = torch.rand(B, n_patch, device=x.device).gather(1, torch.arange(n_patch, device=x.device) // run)
        return (draws < probability).repeat_interleave(patch, dim=1)[:, -L:, None]

    def guess(self, reading: Reading) -> Tensor:
        """What the last steps of each patch are, `[B, T, C]` or `[B, T, C, P]`; T is `L`, less for long patches."""
        network = self.network
        numbers = self.hidden_head(reading.hidden).flatten(1)
        guesses = network.say(network.per_step(numbers, network.n_patch * network.stride), reading.statistics)
        return guesses[:, -network.context :]


def masked_loss(network: nn.Module, batch: Batch) -> Tensor:
    """The objective to fit `MaskedPatches` with."""
    assert isinstance(network, MaskedPatches)
    return network.loss(batch)
