"""Mamba-1: selective state spaces."""

import math

import torch
import torch.nn.functional as F
from helixwave_kernels import selective_scan, short_conv
from torch import Tensor, nn

from helixwave.lengths import last_valid, valid_mask

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
    """

    causal = True

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
    ):
        super().__init__()
        d_inner = expand * d_model
        rank = dt_rank or math.ceil(d_model / 16)
        self.split = [rank, d_state, d_state]
        self.in_proj = nn.Linear(d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(d_inner, d_inner, d_conv, groups=d_inner)
        self.x_proj = nn.Linear(d_inner, sum(self.split), bias=False)
        self.dt_proj = nn.Linear(rank, d_inner)
        self.A_log = nn.Parameter(torch.arange(1, d_state + 1, dtype=torch.float32).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, d_model, bias=False)
        self._reset_dt(rank, dt_min, dt_max)
        self.A_log.no_weight_decay = self.D.no_weight_decay = True  # type: ignore[attr-defined]

    def _reset_dt(self, rank: int, dt_min: float, dt_max: float) -> None:
        """The bias is the inverse softplus of a log-uniform delta (section 3.6)."""
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        log_range = torch.rand_like(self.dt_proj.bias) * math.log(dt_max / dt_min) + math.log(dt_min)
        dt = log_range.exp().clamp(min=1e-4)
        with torch.no_grad():
            self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))

    def forward(
        self, x: Tensor, state: MambaState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, MambaState]:  # [B, T, D] -> [B, T, D]
        conv_state, ssm_state = state or (None, None)
        inputs, z = self.in_proj(x).chunk(2, dim=-1)
        u, conv_end = short_conv(
            inputs, self.conv1d.weight.squeeze(1), self.conv1d.bias, activation="silu", initial_state=conv_state
        )
        dt, B, C = self.x_proj(u).split(self.split, dim=-1)
        delta = F.linear(dt, self.dt_proj.weight)
        if lengths is not None:
            # softplus(-inf) = 0: a padded step leaves the state as it is
            delta = delta.masked_fill(~valid_mask(lengths, x.shape[1])[..., None], -torch.inf)
            conv_end = end_of_inputs(inputs, conv_state, self.conv1d.kernel_size[0] - 1, lengths)
        y, ssm_state = selective_scan(
            u,
            delta,
            -self.A_log.float().exp(),
            B,
            C,
            skip=self.D,
            z=z,
            delta_bias=self.dt_proj.bias,
            initial_state=ssm_state,
        )
        return self.out_proj(y), (conv_end, ssm_state)


def end_of_inputs(inputs: Tensor, before: Tensor | None, n: int, lengths: Tensor) -> Tensor:
    """The state of a short convolution at the end of each sequence: its last `n` inputs, `[B, D, n]` float32."""
    if before is None:
        return last_valid(inputs, n, lengths).float().transpose(1, 2)
    joined = torch.cat([before.transpose(1, 2), inputs.float()], dim=1)
    return last_valid(joined, n, lengths + n).transpose(1, 2)
