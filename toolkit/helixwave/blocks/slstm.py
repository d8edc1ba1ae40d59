"""sLSTM: the scalar memory of xLSTM, with a recurrence for each head."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from helixwave.blocks.causal_conv import CausalConv
from helixwave.blocks.headwise import Headwise
from helixwave.blocks.mlp import small_std
from helixwave.blocks.norms import HeadNorm
from helixwave.blocks.rnn import head_size, run_cell
from helixwave.errors import InputError

Cell = tuple[Tensor, ...]


class SLSTM(nn.Module):
    """LSTM with exponential input gates, a normaliser and a recurrence for each head (sLSTM of xLSTM).

    With i, f, z, o the sum of a map of the inputs, `h_{t-1} R` and a bias: `c_t = sigmoid(f) c_{t-1} + exp(i) tanh(z)`,
    `n_t = sigmoid(f) n_{t-1} + exp(i)`, `h_t = sigmoid(o) c_t / n_t`; the output is `group_norm(h)`. i and f see the
    inputs through a short convolution. Cost `O(T)`, step after step; the state is h, c, n and the logarithm m of the
    unit of c and n, `4 d_model` numbers, beside the last `d_conv - 1` inputs. The published block is `[{name: slstm},
    {name: geglu}]`, that of TiRex `[{name: slstm, d_conv: 0}, {name: swiglu, expand: 2.6667, multiple: 64}]`.
    Source: Beck et al., "xLSTM: Extended Long Short-Term Memory", 2024, sections 2.2 and 2.4.

    `igate` and `fgate` are what they are called. In the published code, and in its checkpoints, it is `fgate` that
    drives the input gate and `igate` the forget gate. R is `[gate, head, from, to]`, with the gates in the order i, f,
    z, o; the weights of the norm are factors, not what is added to one.

    Args:
        n_head: heads, which do not read each other's h: R is block-diagonal.
        d_conv: width of the causal convolution; 0: none.
        block_index: place of this block among the residual blocks of the model, from 0, the MLP behind an sLSTM not
            counted. Forget biases start from 5 down to -7 within each head, in later blocks with more of them high.
        n_block: number of these residual blocks.
    """

    causal = True
    optimisation: ClassVar[dict[str, dict[str, float]]] = {"R": {"weight_decay": 0.0}, "bias": {"weight_decay": 0.0}}

    def __init__(self, d_model: int, *, n_head: int = 4, d_conv: int = 4, block_index: int = 0, n_block: int = 1):
        super().__init__()
        if not 0 <= block_index < n_block:
            raise InputError(f"slstm: block_index is {block_index}, expected 0 to {n_block - 1}, as n_block={n_block}")
        d_head = head_size(d_model, n_head, "slstm")
        self.conv1d = CausalConv(d_model, d_conv, activation="silu") if d_conv else None
        self.igate, self.fgate, self.zgate, self.ogate = (
            Headwise(d_model, n_head, std=small_std(d_model)) for _ in range(4)
        )
        self.R = nn.Parameter(torch.zeros(4, n_head, d_head, d_head))
        self.bias = nn.Parameter(torch.zeros(4, n_head, d_head))
        self.group_norm = HeadNorm(n_head, d_head, centred=True)
        depth = block_index / max(n_block - 1, 1)
        place = torch.arange(d_head) / max(d_head - 1, 1)
        with torch.no_grad():
            self.bias[1] = 5 - 12 * place ** (0.3 + 1.3 * depth)

    def forward(
        self, x: Tensor, state: tuple[Tensor | None, Cell] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor | None, Cell]]:  # [B, T, D] -> [B, T, D]
        conv_state, cell = state or (None, None)
        c, conv_end = (x, None) if self.conv1d is None else self.conv1d(x, conv_state, lengths)
        gates = [self.igate(c), self.fgate(c), self.zgate(x), self.ogate(x)]
        raw = torch.stack(gates, dim=2).unflatten(-1, self.R.shape[1:3])
        h, end = run_cell("slstm", raw, self.R, self.bias, cell, lengths)
        return self.group_norm(h).to(x.dtype), (conv_end, end)
