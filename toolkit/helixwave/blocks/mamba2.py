"""Mamba-2: state space duality."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from helixwave_kernels import ssd
from torch import Tensor, nn

from helixwave.blocks.causal_conv import CausalConv
from helixwave.blocks.mamba import initial_dt_bias
from helixwave.blocks.norms import GatedNorm
from helixwave.errors import InputError
from helixwave.lengths import valid_mask

Mamba2State = tuple[Tensor, Tensor]


class Mamba2(nn.Module):
    """Selective state space with one decay for each head, as matrix products (Mamba-2).

    `h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t^T`, `y_t = h_t^T C_t + D x_t` in each head, then a gated norm. Cost
    `O(T)`, state `expand d_model d_state` and the last `d_conv - 1` inputs of the convolution. Parameters have the
    published names. Source: Dao and Gu, "Transformers are SSMs", 2024, sections 5 to 7.

    Args:
        d_state: size of the state per channel.
        d_conv: width of the causal convolution over x, B and C.
        expand: inner channels per model channel.
        d_head: channels of a head; None: 64, or the largest number below that divides the inner channels.
        n_group: heads in the same group share B and C; the norm is over each group's channels.
        dt_min, dt_max: range of dt at the start, log-uniform.
        dt_limit: the least and the largest dt at any time; None: no limits.
        skip_per_channel: D has an entry for each channel instead of each head.
        bias: of the first and the last projection.
        conv_bias: of the convolution.
    """

    causal = True
    optimisation: ClassVar[dict[str, dict[str, float]]] = {
        "A_log": {"weight_decay": 0.0},
        "D": {"weight_decay": 0.0},
        "dt_bias": {"weight_decay": 0.0},
    }

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 128,
        d_conv: int = 4,
        expand: int = 2,
        d_head: int | None = None,
        n_group: int = 1,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        dt_limit: tuple[float, float] | None = None,
        skip_per_channel: bool = False,
        bias: bool = False,
        conv_bias: bool = True,
    ):
        super().__init__()
        d_inner, d_maps = expand * d_model, n_group * d_state
        self.n_head, self.n_group = n_heads("mamba2", d_inner, d_head, n_group), n_group
        self.dt_limit = _limits(dt_limit)
        self.split = [d_inner, d_inner + 2 * d_maps, self.n_head]
        self.split_conv = [d_inner, d_maps, d_maps]
        self.in_proj = nn.Linear(d_model, sum(self.split), bias=bias)
        self.conv1d = CausalConv(sum(self.split_conv), d_conv, bias=conv_bias, activation="silu")
        self.dt_bias = nn.Parameter(initial_dt_bias(self.n_head, dt_min, dt_max))
        self.A_log = nn.Parameter(torch.empty(self.n_head).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(d_inner if skip_per_channel else self.n_head))
        self.norm = GatedNorm(d_inner, n_group=n_group, gate_first=True)
        self.out_proj = nn.Linear(d_inner, d_model, bias=bias)

    def forward(
        self, x: Tensor, state: Mamba2State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Mamba2State]:  # [B, T, D] -> [B, T, D]
        conv_state, ssm_state = state or (None, None)
        z, mixed, dt = self.in_proj(x).split(self.split, dim=-1)
        mixed, conv_end = self.conv1d(mixed, conv_state, lengths)
        u, B, C = mixed.split(self.split_conv, dim=-1)
        u, dt = u.float().unflatten(-1, (self.n_head, -1)), self._steps(dt, lengths)
        B, C = (map_.unflatten(-1, (self.n_group, -1)) for map_ in (B, C))
        y, ssm_state = ssd(u * dt[..., None], -dt * self.A_log.float().exp(), B, C, initial_state=ssm_state)
        y = (y + self.D.float().view(self.n_head, -1) * u).flatten(-2)
        return self.out_proj(self.norm(y, z).to(z)), (conv_end, ssm_state)

    def _steps(self, dt: Tensor, lengths: Tensor | None) -> Tensor:  # [B, T, H]
        dt = F.softplus(dt.float() + self.dt_bias.float())
        if self.dt_limit is not None:
            dt = dt.clamp(*self.dt_limit)
        if lengths is not None:
            # a step of no length leaves the state as it is
            dt = dt.masked_fill(~valid_mask(lengths, dt.shape[1])[..., None], 0)
        return dt


def n_heads(where: str, d_inner: int, d_head: int | None, n_group: int) -> int:
    """Heads of `d_head` channels; None: as many channels as divide `d_inner`, at most 64."""
    if d_head is None:
        d_head = max(size for size in range(1, 65) if d_inner % size == 0)
    if d_head < 1 or d_inner % d_head:
        raise InputError(f"{where}: d_head is {d_head}, expected a divisor of the {d_inner} inner channels")
    n_head = d_inner // d_head
    if n_group < 1 or n_head % n_group:
        raise InputError(f"{where}: n_group is {n_group}, expected a divisor of the {n_head} heads")
    return n_head


def _limits(dt_limit: tuple[float, float] | None) -> tuple[float, float] | None:
    if dt_limit is None:
        return None
    low, high = dt_limit
    if not 0 <= low < high:
        raise InputError(f"mamba2: dt_limit is {dt_limit}, expected the least step from 0 and a larger one")
    return low, high
