"""Position-wise networks. They keep no state: the state they return is None."""

import torch.nn.functional as F
from torch import Tensor, nn


class MLP(nn.Module):
    """Two linear layers with a GELU between them, at every position alone.

    Args:
        expand: inner channels per model channel.
    """

    causal = True

    def __init__(self, d_model: int, *, expand: int = 4):
        super().__init__()
        self.fc1 = nn.Linear(d_model, expand * d_model)
        self.fc2 = nn.Linear(expand * d_model, d_model)

    def forward(
        self, x: Tensor, state: None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, None]:  # [B, T, D] -> [B, T, D]
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh")), None


class SwiGLU(nn.Module):
    """`out(silu(gate(x)) * up(x))` at every position alone. Source: Shazeer, "GLU Variants Improve Transformer", 2020.

    Args:
        expand: inner channels per model channel.
    """

    causal = True

    def __init__(self, d_model: int, *, expand: float = 8 / 3):
        super().__init__()
        d_inner = round(expand * d_model)
        self.in_proj = nn.Linear(d_model, 2 * d_inner, bias=False)
        self.out_proj = nn.Linear(d_inner, d_model, bias=False)

    def forward(
        self, x: Tensor, state: None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, None]:  # [B, T, D] -> [B, T, D]
        gate, up = self.in_proj(x).chunk(2, dim=-1)
        return self.out_proj(F.silu(gate) * up), None
