"""ParaRNN: nonlinear recurrent cells that Newton's method can solve for all steps at once."""

import math
from typing import ClassVar, cast

import torch
from helixwave_kernels import newton_recurrence
from torch import Tensor, nn

from helixwave.blocks.causal_conv import CausalConv
from helixwave.blocks.norms import GatedNorm
from helixwave.errors import InputError
from helixwave.lengths import at_end, valid_mask

ParaRNNState = tuple[Tensor, ...]


class _ParaRNN(nn.Module):
    """What either cell has around it, and the weights that both have; the cell is `_recur`."""

    causal = True
    # what a gate gets at a padded step, in the order of A, B and b
    padding: ClassVar[tuple[float, float, float]]

    def __init__(self, d_model: int, *, expand: int, n_head: int, d_conv: int):
        super().__init__()
        d_inner = expand * d_model
        if n_head < 1 or d_inner % n_head:
            raise InputError(f"n_head is {n_head}, expected a divisor of expand * d_model = {d_inner}")
        d_head = d_inner // n_head
        self.in_proj = nn.Linear(d_model, 2 * d_inner, bias=False)
        self.conv1d = CausalConv(d_inner, d_conv, activation="silu")
        self.A = nn.Parameter(torch.empty(3, d_inner))
        self.B = nn.Parameter(torch.empty(n_head, d_head, 3, d_head))
        self.b = nn.Parameter(torch.zeros(3, d_inner))
        self.norm = GatedNorm(d_inner, gate_first=True)
        self.out_proj = nn.Linear(d_inner, d_model, bias=False)
        _reset_recurrent(self.A)
        bound = math.sqrt(6 / (d_head + d_head))
        nn.init.uniform_(self.B, -bound, bound)
        with torch.no_grad():
            self.b[0] = -torch.linspace(0, 1, d_inner)

    def forward(
        self, x: Tensor, state: ParaRNNState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, ParaRNNState]:  # [B, T, D] -> [B, T, D]
        conv_state, start = (None, None) if state is None else (state[0], state[1:])
        inputs, z = self.in_proj(x).chunk(2, dim=-1)
        u, conv_end = self.conv1d(inputs, conv_state, lengths)
        y, end = self._recur(self._gates(u, lengths), start, lengths)
        return self.out_proj(self.norm(y, z)), (conv_end, *end)

    def _gates(self, u: Tensor, lengths: Tensor | None) -> list[Tensor]:
        """What the inputs add to each gate, three times `[B, T, D]` in float32."""
        n_head = len(self.B)
        mapped = torch.einsum("bthi,higj->gbthj", u.unflatten(-1, (n_head, -1)), self.B)
        gates = (mapped.flatten(-2).float() + self.b.float()[:, None, None]).unbind(0)
        if lengths is None:
            return list(gates)
        padded = ~valid_mask(lengths, u.shape[1])[..., None]
        # all three, so that what stands in the padding has no say in when Newton's method has converged
        return [gate.masked_fill(padded, value) for gate, value in zip(gates, self.padding, strict=True)]

    def _recur(
        self, gates: list[Tensor], start: ParaRNNState | None, lengths: Tensor | None
    ) -> tuple[Tensor, ParaRNNState]:
        raise NotImplementedError


class ParaGRU(_ParaRNN):
    """GRU with diagonal recurrent weights, solved for all steps at once on parallel machines (ParaRNN).

    `z = sigmoid(a_z h_{t-1} + x_z)`, `r = sigmoid(a_r h_{t-1} + x_r)`, `h_t = (1 - z) h_{t-1} + z tanh(a_h r h_{t-1} +
    x_h)` with `x_g = B_g u_t + b_g`, where u comes from a projection and a short convolution; a gated norm and a
    projection follow. Cost `O(T)`, state `d_conv expand d_model`. The weights have the published names, order of gates
    (z, r, h) and start, except that B's Xavier bound is that of one head's block. Where it is not stepped through, the
    recurrence is solved by Newton's method, which raises a RuntimeError if recurrent weights have become too large.
    Source: Danieli et al., "ParaRNN: Unlocking Parallel Training of Nonlinear RNNs for Large Language Models", 2025,
    section 3.

    Args:
        expand: inner channels per model channel.
        n_head: blocks of the map from the inputs to the gates.
        d_conv: width of the causal convolution.
    """

    # z = 0: a padded step keeps h
    padding = (-math.inf, 0.0, 0.0)

    def __init__(self, d_model: int, *, expand: int = 1, n_head: int = 4, d_conv: int = 4):
        super().__init__(d_model, expand=expand, n_head=n_head, d_conv=d_conv)

    def _recur(
        self, gates: list[Tensor], start: ParaRNNState | None, lengths: Tensor | None
    ) -> tuple[Tensor, ParaRNNState]:
        return _solve("gru", gates, self.A, None, start)


class ParaLSTM(_ParaRNN):
    """LSTM with diagonal recurrent weights, peepholes and one gate for input and forget (ParaRNN).

    `f = sigmoid(a_f h_{t-1} + p_f c_{t-1} + x_f)`, `c_t = f c_{t-1} + (1 - f) tanh(a_c h_{t-1} + x_c)`,
    `o = sigmoid(a_o h_{t-1} + p_o c_t + x_o)`, `h_t = o tanh(c_t)` with `x_g = B_g u_t + b_g`; the rest is as in
    ParaGRU. Cost `O(T)`, state `(d_conv + 1) expand d_model`. The weights have the published names and order of gates:
    f, o, c in A, B and b, and f, o in the peepholes C.
    Source: Danieli et al., "ParaRNN: Unlocking Parallel Training of Nonlinear RNNs for Large Language Models", 2025,
    section 3.

    Args:
        expand: inner channels per model channel.
        n_head: blocks of the map from the inputs to the gates.
        d_conv: width of the causal convolution.
    """

    # f = 1: a padded step keeps c; o = 0: its h adds nothing to any gradient
    padding = (math.inf, -math.inf, 0.0)

    def __init__(self, d_model: int, *, expand: int = 1, n_head: int = 4, d_conv: int = 4):
        super().__init__(d_model, expand=expand, n_head=n_head, d_conv=d_conv)
        self.C = nn.Parameter(torch.empty(2, expand * d_model))
        _reset_recurrent(self.C)

    def _recur(
        self, gates: list[Tensor], start: ParaRNNState | None, lengths: Tensor | None
    ) -> tuple[Tensor, ParaRNNState]:
        f, o, c = gates
        a_f, a_o, a_c = self.A
        y, (h, c_end) = _solve("lstm", [f, c, o], torch.stack([a_f, a_c, a_o]), self.C, start)
        return y, (h if lengths is None else at_end(y, lengths), c_end)


def _solve(
    cell: str, gates: list[Tensor], diagonal: Tensor, peephole: Tensor | None, start: ParaRNNState | None
) -> tuple[Tensor, ParaRNNState]:
    x = torch.stack(gates, dim=2)
    result = newton_recurrence(cell, x, diagonal, peephole, initial_state=start)
    return cast(tuple[Tensor, ParaRNNState], result)


def _reset_recurrent(weight: Tensor) -> None:
    nn.init.normal_(weight, std=2 / math.sqrt(5 * weight.shape[1]))
