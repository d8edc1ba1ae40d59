"""Long convolutions whose filter is a parameter."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helixwave.blocks.derived import Derived
from helixwave.blocks.windows import WindowState, windowed_conv
from helixwave.errors import InputError


class LongConv(nn.Module):
    """Long convolution with one weight for every lag, the small ones squashed to zero (LongConv).

    `y = glu(out(gelu(k * x + D x)))` with `k = sign(w) max(|w| - lam, 0)`. Cost `O(T log T)`, for one token `O(l_max)`;
    the state is the last `l_max - 1` inputs, of full size from the first step on, `[B, D, l_max - 1]`. Inputs further
    back have no influence. Source: Fu et al., "Simple Hardware-Efficient Long Convolutions for Sequence Modeling",
    2023, section 3.

    A weight within `lam` of zero has no gradient. The published start lies in there for all weights at the default
    `lam`; here the squashed filter starts as noise under the published windows, which decay in one e-fold over `l_max`
    for the first channel and in about `d_model / 2` for the last, and its energy is about one in every channel.

    Args:
        l_max: length of the filter.
        lam: what the size of every weight is reduced by, 0.001 to 0.003 in the paper's experiments.
        smooth: width of a moving average over the weights before they are squashed, an odd number; 1: none.
        glu: a gate behind the output projection.
    """

    causal = True
    optimisation: ClassVar[dict[str, dict[str, float]]] = {"kernel": {"lr": 1e-3, "weight_decay": 0.0}}

    def __init__(self, d_model: int, *, l_max: int = 1024, lam: float = 0.1, smooth: int = 1, glu: bool = True):
        super().__init__()
        if l_max < 1:
            raise InputError(f"l_max is {l_max}, expected at least 1")
        if lam < 0:
            raise InputError(f"lam is {lam}, expected at least 0")
        if smooth < 1 or smooth % 2 == 0:
            raise InputError(f"smooth is {smooth}, expected an odd number of weights to average, 1 for none")
        self.l_max, self.lam, self.smooth, self.glu = l_max, lam, smooth, glu
        start = torch.randn(d_model, l_max) * _windows(d_model, l_max)
        self.kernel = nn.Parameter(start + lam * start.sign())
        self.D = nn.Parameter(torch.randn(d_model))
        self.output_linear = nn.Linear(d_model, 2 * d_model if glu else d_model)
        self._remembered = Derived()

    def forward(
        self, x: Tensor, state: WindowState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, WindowState]:  # [B, T, D] -> [B, T, D]
        kernel = self._remembered(self.filter, [self.kernel])
        window = None if state is None else state[0]
        y, window = windowed_conv(x, kernel, self.D, window, lengths, n_window=self.l_max - 1)
        y = self.output_linear(F.gelu(y))
        return (F.glu(y, dim=-1) if self.glu else y), (window,)

    def filter(self) -> Tensor:  # -> [D, l_max]
        weights = F.avg_pool1d(self.kernel, self.smooth, stride=1, padding=self.smooth // 2)
        return F.softshrink(weights, self.lam)


def _windows(d_model: int, l_max: int) -> Tensor:
    """Exponential windows of energy one, `[D, l_max]`, the rates of the channels in a geometric series."""
    rate = (d_model / 2) ** (torch.arange(d_model) / d_model)
    window = torch.exp(-rate[:, None] * torch.arange(l_max) / l_max)
    return window / window.norm(dim=-1, keepdim=True)
