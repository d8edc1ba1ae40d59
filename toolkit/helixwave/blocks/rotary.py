"""Rotary positions: a query and a key meet at an angle that grows with the distance between them."""

import math

import torch
from torch import Tensor, nn

# parts of a full turn, in whole numbers: what is beyond a turn is cut off without rounding
_TURN = 1 << 40


class Rotary(nn.Module):
    """Turns pairs of channels by angles that grow with the position, `[B, T, H, K]` -> `[B, T, H, K]`.

    Channels i and `i + K // 2` are one pair, turned by `position theta^(-2 i / K)`; the last channel of an odd K stays
    as it is. The angle is as good as float32 at any position. Source: Su et al., "RoFormer", 2021, section 3.2.

    Args:
        theta: the slowest pair takes about `2 pi theta` positions for a full turn.
    """

    steps: Tensor

    def __init__(self, d_head: int, theta: float = 10000.0):
        super().__init__()
        self.n_pair = d_head // 2
        exponent = torch.arange(self.n_pair, dtype=torch.float64) / max(self.n_pair, 1)
        steps = (theta**-exponent * (_TURN / (2 * math.pi))).round().long()
        self.register_buffer("steps", steps, persistent=False)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """`position`: whole numbers `[B, T]`, or `[1, T]` where they are the same for all sequences."""
        phase = (position[..., None, None] * self.steps) & (_TURN - 1)
        angle = phase.float() * (2 * math.pi / _TURN)
        cos, sin = angle.cos(), angle.sin()
        first, second, rest = x.split([self.n_pair, self.n_pair, x.shape[-1] - 2 * self.n_pair], dim=-1)
        return torch.cat([first * cos - second * sin, first * sin + second * cos, rest], dim=-1).to(x.dtype)
