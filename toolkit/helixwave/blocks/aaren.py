"""Aaren: attention as a recurrent network."""

import torch
from helixwave_kernels import prefix_attention
from torch import Tensor, nn

from helixwave.blocks.attention import head_width
from helixwave.lengths import valid_mask

AarenState = tuple[Tensor, Tensor, Tensor]


class Aaren(nn.Module):
    """Softmax attention of one learned query per head over all that has come (Aaren).

    `y_t = sum_{s <= t} softmax_s(q k_s / sqrt(K)) v_s` with a query that is a parameter, so that a new position updates
    a maximum, a sum of weights and a weighted sum of values. Cost `O(T)`, state `d_model + 2 n_head`. Source: Feng et
    al., "Attention as an RNN", 2024, section 3.

    Args:
        n_head: heads, each with its query.
    """

    causal = True

    def __init__(self, d_model: int, *, n_head: int = 4):
        super().__init__()
        d_head = head_width("the model", d_model, n_head)
        self.query = nn.Parameter(torch.randn(n_head, d_head))
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_model, bias=False)
        self.out_proj = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self, x: Tensor, state: AarenState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, AarenState]:  # [B, T, D] -> [B, T, D]
        heads = self.query.shape
        k, v = self.k_proj(x).unflatten(-1, heads), self.v_proj(x).unflatten(-1, heads)
        if lengths is not None:
            padded = ~valid_mask(lengths, x.shape[1])[..., None, None]
            # a key of -inf has no weight
            k, v = k.masked_fill(padded, -torch.inf), v.masked_fill(padded, 0)
        y, state = prefix_attention(self.query, k, v, initial_state=state)
        return self.out_proj(y.flatten(-2)), state
