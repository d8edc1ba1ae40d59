"""A linear map that keeps to parts of the channels."""

import torch
from torch import Tensor, nn


class Headwise(nn.Module):
    """Each of `n_part` equal parts of the channels mapped by itself, `[..., C]` -> `[..., C]`.

    The weight `[n_part, C / n_part out, C / n_part in]` holds the blocks of a block-diagonal matrix.

    Args:
        std: of the normal distribution that the weight is drawn from.
        bias: added to the result, zero at the start.
    """

    def __init__(self, channels: int, n_part: int, *, std: float, bias: bool = False):
        super().__init__()
        self.weight = nn.Parameter(std * torch.randn(n_part, channels // n_part, channels // n_part))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        n_part, _, size = self.weight.shape
        parts = x.reshape(-1, n_part, size).transpose(0, 1)
        y = torch.bmm(parts, self.weight.mT).transpose(0, 1).reshape(x.shape)
        return y if self.bias is None else y + self.bias
