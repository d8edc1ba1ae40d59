"""LSTM and GRU, with one recurrence or one for each head."""

import torch
from helixwave_kernels import recurrent
from torch import Tensor, nn

from helixwave.errors import InputError
from helixwave.lengths import at_end, valid_mask

# gates, in the order of the operator, with which a step leaves the memory as it is
_IDENTITY = {
    "slstm": (-torch.inf, torch.inf, 0.0, 0.0),
    "lstm": (-torch.inf, torch.inf, 0.0, 0.0),
    "gru": (0.0, torch.inf, 0.0),
}


class LSTM(nn.Module):
    """Long short-term memory, one layer of it (LSTM).

    With `i, f, z, o = in_proj(x_t) + h_{t-1} R`: `c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(z)`,
    `h_t = sigmoid(o) tanh(c_t)`, and the output is `out_proj(h_t)`. h is what `torch.nn.LSTM` computes, for `n_head=1`.
    Cost `O(T)`, step after step; the state is h and c, `2 expand d_model` numbers. Weights start as in `torch.nn.LSTM`,
    forget biases at 1 and other biases at 0. Source: Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997, with
    the forget gate of Gers et al., 2000; heads as in Beck et al., "xLSTM", 2024, section 2.2.

    Args:
        n_head: heads, which do not read each other's h: R is block-diagonal.
        expand: hidden channels per model channel.
    """

    causal = True

    def __init__(self, d_model: int, *, n_head: int = 1, expand: int = 1):
        super().__init__()
        d_hidden = expand * d_model
        self.shape = (4, n_head, head_size(d_hidden, n_head, "lstm"))
        self.in_proj = nn.Linear(d_model, 4 * d_hidden)
        self.R = nn.Parameter(uniform_recurrence(*self.shape))
        self.out_proj = nn.Linear(d_hidden, d_model, bias=False)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.ones_(self.in_proj.bias[d_hidden : 2 * d_hidden])

    def forward(
        self, x: Tensor, state: tuple[Tensor, ...] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:  # [B, T, D] -> [B, T, D]
        h, end = run_cell("lstm", self.in_proj(x).unflatten(-1, self.shape), self.R, None, state, lengths)
        return self.out_proj(h.flatten(-2)), end


class GRU(nn.Module):
    """Gated recurrent unit, one layer of it (GRU).

    With r, z, n the three parts of `in_proj(x_t)`, and of `h_{t-1} R` added to r and z: `h_t = sigmoid(z) h_{t-1} +
    (1 - sigmoid(z)) tanh(n + sigmoid(r) (h_{t-1} R_n + bias_n))`, and the output is `out_proj(h_t)`. h is what
    `torch.nn.GRU` computes, for `n_head=1`. Cost `O(T)`, step after step; the state is h, `expand d_model` numbers.
    Weights start as in `torch.nn.GRU`, biases at 0. Source: Cho et al., "Learning Phrase Representations using RNN
    Encoder-Decoder", 2014, with r behind the product as in cuDNN; heads as in Beck et al., "xLSTM", 2024, section 2.2.

    Args:
        n_head: heads, which do not read each other's h: R is block-diagonal.
        expand: hidden channels per model channel.
    """

    causal = True

    def __init__(self, d_model: int, *, n_head: int = 1, expand: int = 1):
        super().__init__()
        d_hidden = expand * d_model
        self.shape = (3, n_head, head_size(d_hidden, n_head, "gru"))
        self.in_proj = nn.Linear(d_model, 3 * d_hidden)
        self.R = nn.Parameter(uniform_recurrence(*self.shape))
        self.bias_n = nn.Parameter(torch.zeros(d_hidden))
        self.out_proj = nn.Linear(d_hidden, d_model, bias=False)
        nn.init.zeros_(self.in_proj.bias)

    def forward(
        self, x: Tensor, state: tuple[Tensor, ...] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:  # [B, T, D] -> [B, T, D]
        nothing = torch.zeros_like(self.bias_n)
        bias = torch.stack([nothing, nothing, self.bias_n]).view(self.shape)
        h, end = run_cell("gru", self.in_proj(x).unflatten(-1, self.shape), self.R, bias, state, lengths)
        return self.out_proj(h.flatten(-2)), end


def run_cell(
    cell: str,
    raw: Tensor,
    R: Tensor,
    bias: Tensor | None,
    state: tuple[Tensor, ...] | None,
    lengths: Tensor | None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The operator `recurrent` on a right-padded batch, in the dtype of R even under autocast.

    Args:
        cell: `slstm`, `lstm` or `gru`.
        raw: what the inputs add to the gates `[B, T, J, H, P]`.
        R: `[J, H, P, P]`, from the last state (third axis) to the gate (fourth).
        bias: `[J, H, P]` or None.
        state: of the operator, h first.
        lengths: `[B]` or None.

    Returns:
        h `[B, T, H, P]`, and the state after the last valid step of each sequence.
    """
    raw = raw.to(R.dtype)
    if lengths is not None:
        valid = valid_mask(lengths, raw.shape[1])[..., None, None, None]
        raw = torch.where(valid, raw, raw.new_tensor(_IDENTITY[cell])[:, None, None])
    h, end = recurrent(cell, raw, R, bias, initial_state=state)
    # in padding the memory stands still, but the output gate, and with it h, does not
    return h, end if lengths is None else (at_end(h, lengths), *end[1:])


def head_size(channels: int, n_head: int, name: str) -> int:
    """Channels of each head."""
    if channels % n_head:
        raise InputError(f"{name}: n_head is {n_head}, expected a divisor of the {channels} channels")
    return channels // n_head


def uniform_recurrence(n_gate: int, n_head: int, d_head: int) -> Tensor:
    """Recurrent weights as torch starts them, `[n_gate, n_head, d_head, d_head]`."""
    return torch.empty(n_gate, n_head, d_head, d_head).uniform_(-(d_head**-0.5), d_head**-0.5)
