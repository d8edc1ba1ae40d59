"""Mamba in both directions between shared projections."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helixwave.blocks.bidirectional import refuse_state
from helixwave.blocks.mamba import Mamba
from helixwave.lengths import reverse_valid


class BiMamba(nn.Module):
    """Mamba read in both directions between shared projections (BiMamba of Caduceus, Vim and VideoMamba).

    `y = out_proj(f(in_proj(x)) + reverse(b(reverse(in_proj(x)))))`, with f and b each a Mamba without its projections.
    Cost `O(T)`; there is no state to carry. One Mamba for both directions is what `bidirectional` builds.

    Parameters have the names of published Caduceus weights; tied, without the aliases `mamba_rev.in_proj.weight` and
    `mamba_rev.out_proj.weight`. Those of Vim and VideoMamba are the same function under other names: with an ending
    `_b`, as in `conv1d_b.weight` or `A_b_log`, they are in `mamba_rev` here, without it in `mamba_fwd`.

    Source: Schiff et al., "Caduceus", 2024, section 4.1; Zhu et al., "Vision Mamba", 2024, algorithm 1.

    Args:
        combine: `add` (Caduceus, VideoMamba), `mean` (Vim), or `ew_multiply`, the product after the last projection
            (an option of Caduceus).
        tied: both directions share the projections; False: the backward one has its own, and what is combined stands
            behind the last projections.
        d_state: size of the state per channel and direction.
        d_conv: width of the convolutions.
        expand: inner channels per model channel.
        dt_rank: rank of the map to delta; None: `d_model / 16`, rounded up.
        dt_min, dt_max: range of delta at the start, log-uniform.
    """

    causal = False

    def __init__(
        self,
        d_model: int,
        *,
        combine: Literal["add", "mean", "ew_multiply"] = "add",
        tied: bool = True,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | None = None,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
    ):
        super().__init__()
        self.combine, self.tied = combine, tied
        self.mamba_fwd, self.mamba_rev = (
            Mamba(d_model, d_state=d_state, d_conv=d_conv, expand=expand, dt_rank=dt_rank, dt_min=dt_min, dt_max=dt_max)
            for _ in range(2)
        )
        if tied:
            # both directions use the projections of the forward one
            del self.mamba_rev.in_proj, self.mamba_rev.out_proj

    def forward(
        self, x: Tensor, state: None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, None]:  # [B, T, D] -> [B, T, D]
        refuse_state("bimamba", state)
        inputs, z = self.mamba_fwd.project(x)
        inputs_behind, z_behind = (inputs, z) if self.tied else self.mamba_rev.project(x)
        ahead, _ = self.mamba_fwd.scan(inputs, None, lengths=lengths)
        behind, _ = self.mamba_rev.scan(reverse_valid(inputs_behind, lengths), None, lengths=lengths)
        behind = reverse_valid(behind, lengths)
        if self.tied and self.combine != "ew_multiply":
            # once for both: the gate and the last projection are linear in what the scans give
            y = self.mamba_fwd.out_proj(_gated(ahead, behind, z))
        else:
            ahead = self.mamba_fwd.out_proj(ahead * F.silu(z))
            behind = (self.mamba_fwd if self.tied else self.mamba_rev).out_proj(behind * F.silu(z_behind))
            y = ahead * behind if self.combine == "ew_multiply" else ahead + behind
        return y / 2 if self.combine == "mean" else y, None


def _gated(ahead: Tensor, behind: Tensor, z: Tensor) -> Tensor:
    """`(ahead + behind) silu(z)`; without a gradient in the memory that is there, since fresh pages take longer."""
    if torch.is_grad_enabled():
        return (ahead + behind) * F.silu(z)
    return ahead.add_(behind).mul_(F.silu(z, inplace=True))
