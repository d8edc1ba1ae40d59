"""The short convolution that stands before most recurrences."""

from typing import Literal

import torch
from helixwave_kernels import short_conv
from torch import Tensor, nn

from helixwave.lengths import last_valid


class CausalConv(nn.Conv1d):
    """Causal depthwise convolution, `[B, T, C]` -> `[B, T, C]`; its state is the last `width - 1` inputs.

    Parameters and their start are those of `nn.Conv1d`: `weight` `[C, 1, width]`, the last tap on the present.
    """

    def __init__(self, channels: int, width: int, *, bias: bool = True, activation: Literal["silu"] | None = None):
        super().__init__(channels, channels, width, groups=channels, bias=bias)
        self.activation = activation

    def forward(  # type: ignore[override]
        self, x: Tensor, state: Tensor | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns the outputs and, after each sequence's last valid input, the state `[B, C, width - 1]` in float32."""
        y, end = short_conv(x, self.weight.squeeze(1), self.bias, activation=self.activation, initial_state=state)
        return y, end if lengths is None else self._end(x, state, lengths)

    def _end(self, x: Tensor, before: Tensor | None, lengths: Tensor) -> Tensor:
        n = self.kernel_size[0] - 1
        if before is None:
            return last_valid(x, n, lengths).float().transpose(1, 2)
        joined = torch.cat([before.transpose(1, 2), x.float()], dim=1)
        return last_valid(joined, n, lengths + n).transpose(1, 2)
