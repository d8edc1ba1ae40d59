"""Mamba-1: selective state spaces."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from helixwave_kernels import selective_scan
from torch import Tensor, nn

from helixwave.blocks.causal_conv import CausalConv
from helixwave.initialisers import inverse_softplus, log_uniform
from helixwave.lengths import valid_mask

MambaState = tuple[Tensor, Tensor]


class Mamba(nn.Module):
    """Selective state space with a short convolution and a gate (Mamba-1).

    `h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t`, `y_t = (C_t h_t + D u_t) silu(z_t)`, with delta, B and C computed
    from the input. Cost `O(T)`, state `expand d_model (d_state + d_conv - 1)`. Parameters have the published names.
    Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, section 3.

    Args:
        d_state: size of the state per channel.
        d_conv: width of the causal convolution.
        expand: inner channels per model channel.
        dt_rank: rank of the map to delta; None: `d_model / 16`, rounded up.
        dt_min, dt_max: range of delta at the start, log-uniform.
        bias: of the first and the last projection.
        conv_bias: of the convolution.
        negative_eigenvalues: the transition is `2 exp(delta A) - 1` in (-1, 1), with which a state can count modulo
            two; Grazzi et al., "Unlocking State-Tracking in Linear RNNs Through Negative Eigenvalues", 2024, section 4.
    """

    causal = True
    optimisation: ClassVar[dict[str, dict[str, float]]] = {"A_log": {"weight_decay": 0.0}, "D": {"weight_decay": 0.0}}

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | None = None,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        bias: bool = False,
        conv_bias: bool = True,
        negative_eigenvalues: bool = False,
    ):
        super().__init__()
        d_inner = expand * d_model
        rank = dt_rank or math.ceil(d_model / 16)
        self.split = [rank, d_state, d_state]
        self.negative_eigenvalues = negative_eigenvalues
        self.in_proj = nn.Linear(d_model, 2 * d_inner, bias=bias)
        self.conv1d = CausalConv(d_inner, d_conv, bias=conv_bias, activation="silu")
        self.x_proj = nn.Linear(d_inner, sum(self.split), bias=False)
        self.dt_proj = nn.Linear(rank, d_inner)
        self.A_log = nn.Parameter(torch.arange(1, d_state + 1, dtype=torch.float32).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, d_model, bias=bias)
        self._reset_dt(rank, dt_min, dt_max)

    def _reset_dt(self, rank: int, dt_min: float, dt_max: float) -> None:
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        with torch.no_grad():
            self.dt_proj.bias.copy_(initial_dt_bias(len(self.dt_proj.bias), dt_min, dt_max))

    def forward(
        self, x: Tensor, state: MambaState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, MambaState]:  # [B, T, D] -> [B, T, D]
        inputs, z = self.project(x)
        y, state = self.scan(inputs, z, state, lengths)
        return self.out_proj(y), state

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What goes into the convolution and the gate: `[B, T, D]` -> twice `[B, T, expand D]`.

        Two products, because the halves of a single one would have to be copied apart.
        """
        bias = self.in_proj.bias
        biases = (None, None) if bias is None else bias.chunk(2)
        inputs, z = (F.linear(x, w, b) for w, b in zip(self.in_proj.weight.chunk(2), biases, strict=True))
        return inputs, z

    def scan(
        self, inputs: Tensor, z: Tensor | None, state: MambaState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, MambaState]:
        """All that stands between the two projections, `[B, T, expand D]` -> `[B, T, expand D]`, and the state.

        Args:
            z: the gate; None: the result is to be multiplied by its `silu` later.
        """
        conv_state, ssm_state = state or (None, None)
        u, conv_end = self.conv1d(inputs, conv_state, lengths)
        dt, B, C = self.x_proj(u).split(self.split, dim=-1)
        delta = F.linear(dt, self.dt_proj.weight)
        if lengths is not None:
            # softplus(-inf) = 0: a padded step leaves the state as it is
            delta = delta.masked_fill(~valid_mask(lengths, inputs.shape[1])[..., None], -torch.inf)
        y, ssm_state = selective_scan(
            u,
            delta,
            -self.A_log.float().exp(),
            B,
            C,
            skip=self.D,
            z=z,
            delta_bias=self.dt_proj.bias,
            negative_eigenvalues=self.negative_eigenvalues,
            initial_state=ssm_state,
        )
        return y, (conv_end, ssm_state)


def initial_dt_bias(n: int, dt_min: float, dt_max: float) -> Tensor:
    """What a step size is the softplus of at the start: log-uniform steps, at least 1e-4 (Mamba, section 3.6)."""
    return inverse_softplus(log_uniform(n, low=dt_min, high=dt_max).exp().clamp(min=1e-4))
