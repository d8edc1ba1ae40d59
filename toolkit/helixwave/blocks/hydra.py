"""Hydra: a quasiseparable mixer."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from helixwave_kernels import ssd
from torch import Tensor, nn

from helixwave.blocks.bidirectional import refuse_state
from helixwave.blocks.causal_conv import CausalConv
from helixwave.blocks.mamba import initial_dt_bias
from helixwave.blocks.mamba2 import n_heads
from helixwave.blocks.norms import GatedNorm
from helixwave.errors import InputError
from helixwave.lengths import reverse_valid, valid_mask


class Hydra(nn.Module):
    """Mamba-2 in both directions, as one quasiseparable matrix with a diagonal of its own (Hydra).

    `y_t = f_{t-1} + b_{t+1} + (D + W x_t) x_t`, with f the output of `ssd` forwards and b that backwards, each with its
    own dt, B and C and both with the same A. Cost `O(T)`; there is no state to carry. Parameters have the published
    names. Source: Hwang et al., "Hydra: Bidirectional State Space Models Through Generalized Matrix Mixers", 2024,
    section 3.

    Args:
        d_state: size of the state per channel and direction.
        d_conv: width of the convolution over x, B and C, an odd number: it looks as far ahead as back.
        expand: inner channels per model channel.
        d_head: channels of a head; None: 64, or the largest number below that divides the inner channels.
        n_group: heads in the same group share B and C.
        dt_min, dt_max: range of dt at the start, log-uniform.
        bias: of the first and the last projection.
        conv_bias: of the convolution.
    """

    causal = False
    optimisation: ClassVar[dict[str, dict[str, float]]] = {
        "A_log": {"weight_decay": 0.0},
        "D": {"weight_decay": 0.0},
        "dt_bias": {"weight_decay": 0.0},
    }

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 64,
        d_conv: int = 7,
        expand: int = 2,
        d_head: int | None = None,
        n_group: int = 1,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        bias: bool = False,
        conv_bias: bool = True,
    ):
        super().__init__()
        if d_conv % 2 == 0:
            raise InputError(f"hydra: d_conv is {d_conv}, expected an odd number")
        d_inner, d_maps = expand * d_model, n_group * d_state
        self.n_head, self.n_group = n_heads("hydra", d_inner, d_head, n_group), n_group
        self.split = [d_inner, d_inner + 4 * d_maps, 2 * self.n_head]
        self.split_conv = [d_inner, 2 * d_maps, 2 * d_maps]
        self.split_direction = [d_inner, d_maps, d_maps, self.n_head]
        self.in_proj = nn.Linear(d_model, sum(self.split), bias=bias)
        self.conv1d = CausalConv(sum(self.split_conv), d_conv, bias=conv_bias, activation="silu")
        self.dt_bias = nn.Parameter(initial_dt_bias(self.n_head, dt_min, dt_max))
        self.A_log = nn.Parameter(torch.zeros(self.n_head))
        self.D = nn.Parameter(torch.ones(self.n_head))
        self.fc_D = nn.Linear(d_inner, self.n_head, bias=False)
        self.norm = GatedNorm(d_inner, gate_first=False)
        self.out_proj = nn.Linear(d_inner, d_model, bias=bias)

    def forward(
        self, x: Tensor, state: None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, None]:  # [B, T, D] -> [B, T, D]
        refuse_state("hydra", state)
        z, mixed, dt = self.in_proj(x).split(self.split, dim=-1)
        u, maps_ahead, maps_behind = self._convolved(mixed, lengths).split(self.split_conv, dim=-1)
        dt_ahead, dt_behind = dt.chunk(2, dim=-1)
        ahead = torch.cat([u, maps_ahead, dt_ahead], dim=-1)
        behind = torch.cat([u, maps_behind, dt_behind], dim=-1)
        ahead, behind = self._off_diagonal(torch.cat([ahead, reverse_valid(behind, lengths)])).chunk(2)
        diagonal = (self.fc_D(u).float() + self.D.float())[..., None] * u.float().unflatten(-1, (self.n_head, -1))
        y = ahead + reverse_valid(behind, lengths) + diagonal.flatten(-2)
        return self.out_proj(self.norm(y, z).to(z)), None

    def _convolved(self, mixed: Tensor, lengths: Tensor | None) -> Tensor:
        if lengths is not None:
            mixed = mixed.masked_fill(~valid_mask(lengths, mixed.shape[1])[..., None], 0)
        # causal, and read later by half the width
        half = self.conv1d.kernel_size[0] // 2
        return self.conv1d(F.pad(mixed, (0, 0, 0, half)))[0][:, half:]

    def _off_diagonal(self, direction: Tensor) -> Tensor:
        """What each position gets from those before it, without itself: `[2 B, T, ...]` -> `[2 B, T, d_inner]`."""
        u, B, C, dt = direction.float().split(self.split_direction, dim=-1)
        dt = F.softplus(dt + self.dt_bias.float())
        B, C = (map_.unflatten(-1, (self.n_group, -1)) for map_ in (B, C))
        written = u.unflatten(-1, (self.n_head, -1)) * dt[..., None]
        y, _ = ssd(written, -dt * self.A_log.float().exp(), B, C)
        return F.pad(y.flatten(-2), (0, 0, 1, -1))
