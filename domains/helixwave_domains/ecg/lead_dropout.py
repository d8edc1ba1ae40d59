"""Leads that are missing in training, so that one model serves any number of them."""

import torch
from helixwave.errors import InputError
from torch import Tensor, nn

from helixwave_domains.ecg.leads import LEAD_SETS, LEADS


class LeadDropout(nn.Module):
    """In training, zeros in place of some leads: what a model is given for a lead that a recording lacks.

    With twelve leads, the standard ones in their order, an example keeps with probability `share` only those of one of
    the reduced sets of the PhysioNet/CinC Challenge 2021, or lead I alone; each is as likely. Otherwise every lead is
    dropped with probability `share`, one at least is kept. Draws come from torch's generator.

    Args:
        n_lead: leads, which are the first channels; the channels behind them are kept.
        share: the probability; 0 drops nothing.

    Raises:
        InputError: no probability.
    """

    sets: Tensor

    def __init__(self, n_lead: int, share: float):
        super().__init__()
        if not 0 <= share < 1:
            raise InputError(f"model: lead_dropout is {share}, expected at least 0 and less than 1")
        self.n_lead, self.share = n_lead, share
        reduced = [[lead in kept for lead in LEADS] for kept in LEAD_SETS.values()] if n_lead == len(LEADS) else []
        self.register_buffer("sets", torch.tensor(reduced, dtype=torch.bool).view(-1, n_lead), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, T, C]` -> `[B, T, C]`."""
        if not self.training or self.share == 0:
            return inputs
        kept = self.draw(len(inputs))
        extra = kept.new_ones(len(inputs), inputs.shape[2] - self.n_lead)
        return inputs * torch.cat([kept, extra], dim=1)[:, None].to(inputs.dtype)

    def draw(self, B: int) -> Tensor:
        """Which leads each example keeps, `[B, n_lead]`."""
        device = self.sets.device
        draws = torch.rand(B, self.n_lead, device=device)
        # the highest draw stays, whatever the probability
        kept = (draws >= self.share) | (draws == draws.amax(1, keepdim=True))
        if not len(self.sets):
            return kept
        chosen = self.sets[torch.randint(len(self.sets), (B,), device=device)]
        return torch.where(torch.rand(B, 1, device=device) < self.share, chosen, kept)
