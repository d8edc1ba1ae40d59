"""mLSTM: the matrix memory of xLSTM, in the block of the first paper and in that of xLSTM-7B."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from helixwave_kernels import mlstm
from torch import Tensor, nn

from helixwave.blocks.causal_conv import CausalConv
from helixwave.blocks.headwise import Headwise
from helixwave.blocks.mlp import inner_size, small_std, start_output
from helixwave.blocks.norms import HeadNorm
from helixwave.errors import InputError
from helixwave.lengths import valid_mask

Memory = tuple[Tensor, Tensor, Tensor]


class MLSTM(nn.Module):
    """Matrix memory with exponential gates behind a short convolution (mLSTM, the block of xLSTM).

    `C_t = sigmoid(f_t) C_{t-1} + exp(i_t) k_t v_t^T`, `n_t = sigmoid(f_t) n_{t-1} + exp(i_t) k_t` and
    `h_t = C_t^T q_t / max(|n_t^T q_t|, 1)` for each head, with q, k, i and f computed from the convolved inputs c and v
    from the inputs; the output is `proj_down((norm(h) + skip c) silu(z))`. Cost `O(T)`; the state of a head of P
    channels is C, n and the logarithm m of their unit, `P (P + 1) + 1` numbers, beside the last `d_conv - 1` inputs.
    Parameters have the published names; the weights of the norm are factors, not what is added to one.
    Source: Beck et al., "xLSTM: Extended Long Short-Term Memory", 2024, sections 2.3 and 2.4.

    Args:
        n_head: heads, each with a memory of its own.
        expand: inner channels per model channel.
        multiple: inner channels are rounded up to a multiple of it, 64 in the published code; to the nearest number
            if 1. A narrow model needs no more than `n_head * d_block`.
        d_block: channels that are mapped together to q, k and v.
        d_conv: width of the causal convolution.
        input_gate: `exp`; or `sigmoid`, which stays below one (mLSTMsig of Beck et al., "Tiled Flash Linear Attention",
            2025, with the normaliser that its published kernels have by default).
        n_block: residual blocks of the model, by which the output is divided at the start. None: `proj_down` starts as
            any linear layer, as if there were about 5.
    """

    causal = True

    def __init__(
        self,
        d_model: int,
        *,
        n_head: int = 4,
        expand: float = 2.0,
        multiple: int = 64,
        d_block: int = 4,
        d_conv: int = 4,
        input_gate: Literal["exp", "sigmoid"] = "exp",
        n_block: int | None = None,
    ):
        super().__init__()
        d_inner = inner_size(expand * d_model, multiple)
        for name, size in (("n_head", n_head), ("d_block", d_block)):
            if d_inner % size:
                raise InputError(f"mlstm: {name} is {size}, expected a divisor of the {d_inner} inner channels")
        self.n_head, self.input_gate = n_head, input_gate
        self.proj_up = nn.Linear(d_model, 2 * d_inner, bias=False)
        self.conv1d = CausalConv(d_inner, d_conv, activation="silu")
        self.q_proj, self.k_proj, self.v_proj = (
            Headwise(d_inner, d_inner // d_block, std=small_std(d_model)) for _ in range(3)
        )
        self.igate, self.fgate = (nn.Linear(3 * d_inner, n_head) for _ in range(2))
        self.outnorm = HeadNorm(n_head, d_inner // n_head, centred=True)
        self.learnable_skip = nn.Parameter(torch.ones(d_inner))
        self.proj_down = nn.Linear(d_inner, d_model, bias=False)
        nn.init.normal_(self.proj_up.weight, std=small_std(d_model))
        _start_gates(self.igate, self.fgate)
        nn.init.normal_(self.igate.bias, std=0.1)
        start_output(self.proj_down, d_model, n_block)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Memory] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Memory]]:  # [B, T, D] -> [B, T, D]
        conv_state, memory = state or (None, None)
        u, z = self.proj_up(x).chunk(2, dim=-1)
        c, conv_end = self.conv1d(u, conv_state, lengths)
        q, k, v = self.q_proj(c), self.k_proj(c), self.v_proj(u)
        i, f = self._gates(torch.cat([q, k, v], dim=-1))
        h, end = mlstm(
            *(part.unflatten(-1, (self.n_head, -1)) for part in (q, k, v)),
            *_frozen_in_padding(i, f, lengths),
            input_gate=self.input_gate,
            initial_state=memory,
        )
        h = self.outnorm(h) + self.learnable_skip * c
        return self.proj_down(h * F.silu(z)), (conv_end, end)

    def _gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # in float32 even under autocast: a forget gate is near one, and what it forgets adds up over the sequence
        with torch.autocast(x.device.type, enabled=False):
            # one product for both, because to read x is what costs time
            weight = torch.cat([self.igate.weight, self.fgate.weight])
            i, f = F.linear(x.to(weight.dtype), weight, torch.cat([self.igate.bias, self.fgate.bias])).chunk(2, dim=-1)
            return i, f


class MLSTMLarge(nn.Module):
    """Matrix memory straight from the inputs, with an output gate (mLSTM, the layer of xLSTM-7B).

    The recurrence is that of `mlstm`, its gates i and f held within `cap` by `cap tanh(. / cap)`; the output is
    `out_proj(sigmoid(o) norm(h))`. Cost `O(T)`; the state of a head is `K (V + 1) + 1` numbers, K and V its channels of
    queries and of values. Parameters have the published names. The published block is `[{name: mlstm_large}, {name:
    swiglu, expand: 2.6667, multiple: 64}]`. Source: Beck et al., "xLSTM 7B", 2025; the start is that of its training.

    Args:
        n_head: heads, each with a memory of its own; 8 in the published model.
        qk_factor: channels of queries and of keys per model channel; all heads have the same number, rounded up.
        v_factor: the same of values.
        cap: of the gates before their activation.
        igate_bias: the input gates at the start; -10 lets almost nothing in, which keeps early gradients small.
        n_block: residual blocks of the model, by which the output is divided at the start. None: `out_proj` starts as
            any linear layer.
    """

    causal = True

    def __init__(
        self,
        d_model: int,
        *,
        n_head: int = 4,
        qk_factor: float = 0.5,
        v_factor: float = 1.0,
        cap: float = 15.0,
        igate_bias: float = -10.0,
        n_block: int | None = None,
    ):
        super().__init__()
        d_qk, d_v = (n_head * math.ceil(int(factor * d_model) / n_head) for factor in (qk_factor, v_factor))
        self.n_head, self.cap = n_head, cap
        self.q, self.k = (nn.Linear(d_model, d_qk, bias=False) for _ in range(2))
        self.v, self.ogate_preact = (nn.Linear(d_model, d_v, bias=False) for _ in range(2))
        self.igate_preact, self.fgate_preact = (nn.Linear(d_model, n_head) for _ in range(2))
        self.multihead_norm = HeadNorm(n_head, d_v // n_head, centred=True, eps=1e-6)
        self.out_proj = nn.Linear(d_v, d_model, bias=False)
        for linear in (self.q, self.k, self.v):
            nn.init.normal_(linear.weight, std=small_std(d_model))
        nn.init.zeros_(self.ogate_preact.weight)
        _start_gates(self.igate_preact, self.fgate_preact)
        nn.init.constant_(self.igate_preact.bias, igate_bias)
        start_output(self.out_proj, d_model, n_block)

    def forward(
        self, x: Tensor, state: Memory | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Memory]:  # [B, T, D] -> [B, T, D]
        q, k, v = (linear(x).unflatten(-1, (self.n_head, -1)) for linear in (self.q, self.k, self.v))
        h, end = mlstm(q, k, v, *_frozen_in_padding(*self._gates(x), lengths), initial_state=state)
        return self.out_proj(torch.sigmoid(self.ogate_preact(x)) * self.multihead_norm(h)), end

    def _gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # in float32 even under autocast, as in `MLSTM`
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.igate_preact.weight.dtype)
            i, f = (self.cap * torch.tanh(gate(x) / self.cap) for gate in (self.igate_preact, self.fgate_preact))
            return i, f


def _start_gates(igate: nn.Linear, fgate: nn.Linear) -> None:
    """At first no gate depends on the input, and heads forget at rates from 1/21 to 1/404."""
    nn.init.zeros_(igate.weight)
    nn.init.zeros_(fgate.weight)
    with torch.no_grad():
        fgate.bias.copy_(torch.linspace(3, 6, len(fgate.bias)))


def _frozen_in_padding(i: Tensor, f: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """The gates `[B, T, H]`, closed in padding: a padded step leaves the memory as it is."""
    if lengths is None:
        return i, f
    padding = ~valid_mask(lengths, i.shape[1])[..., None]
    return i.masked_fill(padding, -torch.inf), f.masked_fill(padding, torch.inf)
