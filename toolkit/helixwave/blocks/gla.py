"""Gated linear attention."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from helixwave_kernels import gated_linear_attention
from torch import Tensor, nn

from helixwave.blocks.attention import head_width
from helixwave.blocks.causal_conv import CausalConv
from helixwave.blocks.norms import GatedNorm
from helixwave.lengths import valid_mask

GLAState = tuple[Tensor, ...]


class GLA(nn.Module):
    """Linear attention whose memory fades at rates that depend on the input (gated linear attention, GLA).

    `S_t = diag(a_t) S_{t-1} + k_t v_t^T`, `y_t = W (norm(q_t S_t / sqrt(K)) silu(W_g x_t))` with
    `a_t = sigmoid(W_2 W_1 x_t + b)^(1 / temperature)`, for each head. Cost `O(T)`, state
    `expand_k expand_v d_model^2 / n_head`. Parameters have the published names, `o_norm` apart. Source: Yang et al.,
    "Gated Linear Attention Transformers with Hardware-Efficient Training", 2023, section 4.

    Args:
        n_head: heads; None: 4 as published, or 2 where 4 do not divide the channels of the keys.
        expand_k, expand_v: channels of the keys and the values per model channel.
        decay: `vector`, one rate for each key channel; `head`, one for each head, which is quicker.
        d_gate: rank of the map to the rates.
        temperature: larger ones bring the rates closer to 1.
        d_conv: width of a causal convolution on queries, keys and values; None as published: none.
    """

    causal = True

    def __init__(
        self,
        d_model: int,
        *,
        n_head: int | None = None,
        expand_k: float = 0.5,
        expand_v: float = 1.0,
        decay: Literal["vector", "head"] = "vector",
        d_gate: int = 16,
        temperature: float = 16.0,
        d_conv: int | None = None,
    ):
        super().__init__()
        if n_head is None:
            n_head = 2 if expand_k * d_model % 4 else 4
        d_key = head_width("the keys", expand_k * d_model, n_head)
        d_value = head_width("the values", expand_v * d_model, n_head)
        self.n_head, self.temperature = n_head, temperature
        self.widths = [n_head * d_key, n_head * d_key, n_head * d_value]
        self.rates = (n_head, d_key) if decay == "vector" else (n_head,)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(d_model, width, bias=False) for width in self.widths)
        self.g_proj = nn.Linear(d_model, n_head * d_value, bias=False)
        self.gk_proj = nn.Sequential(
            nn.Linear(d_model, d_gate, bias=False), nn.Linear(d_gate, torch.Size(self.rates).numel())
        )
        self.conv1d = CausalConv(sum(self.widths), d_conv, bias=False, activation="silu") if d_conv else None
        self.o_norm = GatedNorm(n_head * d_value, n_group=n_head, gate_first=False)
        self.o_proj = nn.Linear(n_head * d_value, d_model, bias=False)

    def forward(
        self, x: Tensor, state: GLAState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, GLAState]:  # [B, T, D] -> [B, T, D]
        starts: Sequence[Tensor | None] = state or (None, None)
        padded = None if lengths is None else ~valid_mask(lengths, x.shape[1])[..., None]
        x = x if padded is None else x.masked_fill(padded, 0)
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        ends = []
        if self.conv1d is not None:
            mixed, end = self.conv1d(torch.cat([q, k, v], dim=-1), starts[0], lengths)
            q, k, v = mixed.split(self.widths, dim=-1)
            ends = [end]
        log_decay = F.logsigmoid(self.gk_proj(x).float()) / self.temperature
        if padded is not None:
            # a padded step leaves the state as it is
            k, log_decay = k.masked_fill(padded, 0), log_decay.masked_fill(padded, 0)
        heads = (self.n_head, -1)
        y, S = gated_linear_attention(
            q.unflatten(-1, heads),
            k.unflatten(-1, heads),
            v.unflatten(-1, heads),
            log_decay.unflatten(-1, self.rates),
            initial_state=starts[-1],
        )
        return self.o_proj(self.o_norm(y.flatten(-2), self.g_proj(x))), (*ends, S)
