"""Mamba-3: a trapezoidal discretisation and complex states."""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from helixwave_kernels import ssd
from torch import Tensor, nn

from helixwave.blocks.mamba import initial_dt_bias
from helixwave.blocks.mamba2 import n_heads
from helixwave.blocks.norms import HeadNorm
from helixwave.errors import InputError
from helixwave.lengths import at_end, valid_mask

Mamba3State = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class Mamba3(nn.Module):
    """Selective state space with trapezoidal steps and states that rotate (Mamba-3, single input and output).

    `S_t = a_t S_{t-1} + beta_t k_{t-1} v_{t-1}^T + gamma_t k_t v_t^T`, `y_t = S_t^T q_t + D v_t`, gated by `silu(z_t)`,
    with `a = exp(dt A)`, `beta = (1 - lambda) dt a`, `gamma = lambda dt`; q and k are turned by angles that add up over
    time. There is no convolution. Cost `O(T)`, state `expand d_model d_state` and the last k, v and angles. Parameters
    have the published names. Source: Lahoti et al., "Mamba-3: Improved Sequence Modeling using State Space Principles",
    2026, section 3; the step as in the published code.

    Args:
        d_state: size of the state per channel.
        expand: inner channels per model channel.
        d_head: channels of a head; None: 64, or the largest number below that divides the inner channels.
        n_group: heads in the same group share the projections of k and q.
        rope_fraction: part of each k and q that is rotated; 0.5 or 1 in the published models.
        decay: how `-A` follows from its input: `heavy_tail` (`1 + x`, below zero `1 / (1 - x)`) or `softplus`;
            published code has had both.
        decay_min: the least `-A`.
        dt_min, dt_max: range of dt at the start, log-uniform.
    """

    causal = True
    optimisation: ClassVar[dict[str, dict[str, float]]] = {"D": {"weight_decay": 0.0}, "dt_bias": {"weight_decay": 0.0}}

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 128,
        expand: int = 2,
        d_head: int | None = None,
        n_group: int = 1,
        rope_fraction: float = 0.5,
        decay: Literal["heavy_tail", "softplus"] = "heavy_tail",
        decay_min: float = 1e-4,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
    ):
        super().__init__()
        n_angle = int(d_state * rope_fraction) // 2
        if n_angle < 1 or rope_fraction > 1:
            raise InputError(
                f"mamba3: rope_fraction is {rope_fraction}, expected at most 1 and two or more of the {d_state} states"
            )
        d_inner, d_maps = expand * d_model, n_group * d_state
        self.n_head, self.n_group = n_heads("mamba3", d_inner, d_head, n_group), n_group
        self.decay, self.decay_min = decay, decay_min
        self.split = [d_inner, d_inner, d_maps, d_maps, self.n_head, self.n_head, self.n_head, n_angle]
        self.in_proj = nn.Linear(d_model, sum(self.split), bias=False)
        self.dt_bias = nn.Parameter(initial_dt_bias(self.n_head, dt_min, dt_max))
        # the axis of one is the rank of the inputs, as in the published weights
        self.B_bias = nn.Parameter(torch.ones(self.n_head, 1, d_state))
        self.C_bias = nn.Parameter(torch.ones(self.n_head, 1, d_state))
        self.B_norm = HeadNorm(1, d_state, centred=False)
        self.C_norm = HeadNorm(1, d_state, centred=False)
        self.D = nn.Parameter(torch.ones(self.n_head))
        self.out_proj = nn.Linear(d_inner, d_model, bias=False)

    def forward(
        self, x: Tensor, state: Mamba3State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Mamba3State]:  # [B, T, D] -> [B, T, D]
        angle_start, *before = state or (None, None, None, None, None)
        mixed = self.in_proj(x)
        z, v, B, C, dt, decay, share, turn = mixed.float().split(self.split, dim=-1)
        v = v.unflatten(-1, (self.n_head, -1))
        dt = F.softplus(dt + self.dt_bias.float())
        if lengths is not None:
            # a step of no length neither decays nor turns
            dt = dt.masked_fill(~valid_mask(lengths, dt.shape[1])[..., None], 0)
        angle = accumulated(dt[..., None] * turn.tanh().unsqueeze(2) * math.pi, angle_start)
        q = rotated(self._heads(C, self.C_norm, self.C_bias), angle)
        k = rotated(self._heads(B, self.B_norm, self.B_bias), angle)
        y, after = trapezoid(q, k, v, dt * self._eigenvalue(decay), dt, share.sigmoid(), before, lengths)
        y = (y + self.D.float()[:, None] * v).flatten(-2) * F.silu(z)
        return self.out_proj(y.to(mixed)), (at_end(angle, lengths), *after)

    def _eigenvalue(self, decay: Tensor) -> Tensor:  # [B, T, H]
        # heavy_tail is 1 + x for x >= 0 and 1 / (1 - x) below
        heavy_tail = self.decay == "heavy_tail"
        rate = (1 + decay.relu()) / (1 + (-decay).relu()) if heavy_tail else F.softplus(decay)
        return -rate.clamp(min=self.decay_min)

    def _heads(self, map_: Tensor, norm: HeadNorm, bias: Tensor) -> Tensor:  # [B, T, G N] -> [B, T, H, N]
        groups = norm(map_.unflatten(-1, (self.n_group, 1, -1)))
        return groups.repeat_interleave(self.n_head // self.n_group, dim=2) + bias.float().squeeze(1)


def trapezoid(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    dt: Tensor,
    share: Tensor,
    before: Sequence[Tensor | None],
    lengths: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """`S_t = a_t S_{t-1} + beta_t k_{t-1} v_{t-1}^T + gamma_t k_t v_t^T`, `y_t = S_t^T q_t` as one scan.

    `R_t = S_t - gamma_t k_t v_t^T` is the state before the present write. Put into the recurrence of S, it follows that
    `R_t = a_t R_{t-1} + (a_t gamma_{t-1} + beta_t) k_{t-1} v_{t-1}^T` and `y_t = R_t^T q_t + gamma_t (q_t k_t) v_t`.

    Args:
        q, k: `[B, T, H, N]`.
        v: `[B, T, H, P]`.
        log_decay: logarithms of a, `[B, T, H]`.
        dt: step sizes, `[B, T, H]`.
        share: lambda, the part of a step that is written at its end: `gamma = lambda dt`, `beta = (1 - lambda) dt a`.
        before: R `[B, H, N, P]` and the last k, v and gamma, of an earlier call; Nones at the start.

    Returns:
        y `[B, T, H, P]`, and the same four after each sequence's last valid step.
    """
    R, *last = before
    gamma = share * dt
    k_past, v_past, gamma_past = (_delayed(x, first) for x, first in zip((k, v, gamma), last, strict=True))
    weight = log_decay.exp() * (gamma_past + dt - gamma)
    if lengths is not None:
        # what the last valid step has left to write is written by the next call
        weight = weight.masked_fill(~valid_mask(lengths, dt.shape[1])[..., None], 0)
    y, R = ssd(weight[..., None] * v_past, log_decay, k_past, q, initial_state=R)
    y = y + (gamma * (q * k).sum(-1))[..., None] * v
    return y, (R, at_end(k, lengths), at_end(v, lengths), at_end(gamma, lengths))


def accumulated(turns: Tensor, start: Tensor | None) -> Tensor:
    """The sums up to each step modulo 2 pi: `[B, T, ...]`, after angles `[B, ...]` at the start.

    Added in float64: in float32 the angle would be off by 4e-4 after 100 000 steps.
    """
    sums = turns.double().cumsum(1)
    if start is not None:
        sums = sums + start.unsqueeze(1)
    return sums.remainder(2 * math.pi).to(turns)


def rotated(x: Tensor, angle: Tensor) -> Tensor:
    """Each pair of neighbours turned by its angle: x `[..., N]`, angles `[..., S]` for the first 2 S channels."""
    turning, still = x.split([2 * angle.shape[-1], x.shape[-1] - 2 * angle.shape[-1]], dim=-1)
    cos, sin = angle.cos(), angle.sin()
    a, b = turning.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1)
    return torch.cat([turned.flatten(-2), still], dim=-1)


def _delayed(x: Tensor, first: Tensor | None) -> Tensor:
    """`x` one step later; before it stands `first`, or zeros."""
    first = torch.zeros_like(x[:, 0]) if first is None else first
    return torch.cat([first.unsqueeze(1), x[:, :-1]], dim=1)
