"""SGConv: long convolutions with a filter of several scales."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helixwave.blocks.derived import Derived
from helixwave.blocks.windows import WindowState, windowed_conv
from helixwave.errors import InputError


class SGConv(nn.Module):
    """Long convolution with a filter of several scales: the further back, the coarser and weaker (SGConv).

    `y = out(gelu(k * x + D x))`, `k = [w_0, w_1 / a, up_2(w_2) / a^2, up_4(w_3) / a^3, ...]`, divided by its norm at
    the start: every part has `kernel_dim` weights, stretched to twice the length of the one before by linear
    interpolation. Cost `O(T log T)`, for one token `O(l_max)`; the state is the last `l_max - 1` inputs, of full size
    from the first step on, `[B, D, l_max - 1]`. Inputs further back have no influence. Source: Li et al., "What Makes
    Convolutional Models Great on Long Sequence Modeling?", 2022, equation 1; parameters have the published names.

    Args:
        l_max: length of the filter.
        kernel_dim: weights of each scale, and positions of the finest.
        decay_min, decay_max: the factor a between one scale and the next, from the first channel to the last.
        glu: a gate behind the output projection, as in the paper's experiments on long range arena.
    """

    causal = True
    multiplier: Tensor
    kernel_norm: Tensor

    def __init__(
        self,
        d_model: int,
        *,
        l_max: int = 1024,
        kernel_dim: int = 64,
        decay_min: float = 2.0,
        decay_max: float = 2.0,
        glu: bool = False,
    ):
        super().__init__()
        if l_max < 1 or kernel_dim < 1:
            raise InputError(f"l_max is {l_max} and kernel_dim {kernel_dim}, expected both to be at least 1")
        self.l_max, self.glu = l_max, glu
        n_scale = 1 + max(math.ceil(math.log2(l_max / kernel_dim)), 0)
        self.D = nn.Parameter(torch.randn(d_model))
        self.kernel_list = nn.ParameterList(nn.Parameter(torch.randn(d_model, kernel_dim)) for _ in range(n_scale))
        self.output_linear = nn.Linear(d_model, 2 * d_model if glu else d_model)
        # the published learning rate of the filter; how many parts it has depends on the options
        self.optimisation = {f"kernel_list.{i}": {"lr": 1e-3} for i in range(n_scale)}
        self.register_buffer("multiplier", torch.linspace(decay_min, decay_max, d_model)[:, None], persistent=False)
        with torch.no_grad():
            self.register_buffer("kernel_norm", self._joined_scales().norm(dim=-1, keepdim=True))
        self._remembered = Derived()

    def forward(
        self, x: Tensor, state: WindowState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, WindowState]:  # [B, T, D] -> [B, T, D]
        kernel = self._remembered(self.filter, [*self.kernel_list, self.kernel_norm])
        window = None if state is None else state[0]
        y, window = windowed_conv(x, kernel, self.D, window, lengths, n_window=self.l_max - 1)
        y = self.output_linear(F.gelu(y))
        return (F.glu(y, dim=-1) if self.glu else y), (window,)

    def filter(self) -> Tensor:  # -> [D, l_max]
        return (self._joined_scales() / self.kernel_norm)[:, : self.l_max]

    def _joined_scales(self) -> Tensor:
        """All scales one after another, the finest first, before the division by the norm."""
        n_scale, scales = len(self.kernel_list), []
        for i, weights in enumerate(self.kernel_list):
            stretched = F.interpolate(weights[None], scale_factor=2 ** max(i - 1, 0), mode="linear")[0]
            scales.append(stretched * self.multiplier ** (n_scale - 1 - i))
        return torch.cat(scales, dim=-1)
