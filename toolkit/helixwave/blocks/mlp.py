"""Position-wise networks. They keep no state: the state they return is None."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# positions at a time where no gradient is asked for: what stands between the layers stays in the cache
_POSITIONS = 512


class MLP(nn.Module):
    """Two linear layers with a GELU between them, at every position alone.

    Args:
        expand: inner channels per model channel.
    """

    causal = True
    pointwise = True

    def __init__(self, d_model: int, *, expand: int = 4):
        super().__init__()
        self.fc1 = nn.Linear(d_model, expand * d_model)
        self.fc2 = nn.Linear(expand * d_model, d_model)

    def forward(
        self, x: Tensor, state: None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, None]:  # [B, T, D] -> [B, T, D]
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or x.device.type != "cpu":
            return self.fc2(F.gelu(self.fc1(x), approximate="tanh")), None
        parts = [self.fc2(_gelu_over(self.fc1(part))) for part in x.flatten(0, -2).split(_POSITIONS)]
        return torch.cat(parts).unflatten(0, x.shape[:-1]), None


class SwiGLU(nn.Module):
    """`out(silu(gate(x)) * up(x))` at every position alone.

    Source: Shazeer, "GLU Variants Improve Transformer", 2020.

    Args:
        expand: inner channels per model channel.
        multiple: inner channels are rounded up to a multiple of it; to the nearest number if 1. xLSTM-7B and TiRex:
            `expand=2.6667, multiple=64`.
    """

    causal = True
    pointwise = True

    def __init__(self, d_model: int, *, expand: float = 8 / 3, multiple: int = 1):
        super().__init__()
        d_inner = inner_size(expand * d_model, multiple)
        self.in_proj = nn.Linear(d_model, 2 * d_inner, bias=False)
        self.out_proj = nn.Linear(d_inner, d_model, bias=False)

    def forward(
        self, x: Tensor, state: None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, None]:  # [B, T, D] -> [B, T, D]
        gate, up = self.in_proj(x).chunk(2, dim=-1)
        return self.out_proj(F.silu(gate) * up), None


class GeGLU(nn.Module):
    """`out(gelu(gate(x)) * up(x))` at every position alone: what follows an sLSTM in the published xLSTM block.

    Source: Shazeer, "GLU Variants Improve Transformer", 2020; sizes, names and start of Beck et al., "xLSTM", 2024.

    Args:
        expand: inner channels per model channel.
        multiple: inner channels are rounded up to a multiple of it; to the nearest number if 1.
        n_block: residual blocks of the model, an sLSTM and what follows it counted as one: the more there are, the
            smaller the output at the start. None: `proj_down` starts as any linear layer, as if there were about 4.
    """

    causal = True
    pointwise = True

    def __init__(self, d_model: int, *, expand: float = 1.3, multiple: int = 64, n_block: int | None = None):
        super().__init__()
        d_inner = inner_size(expand * d_model, multiple)
        self.proj_up = nn.Linear(d_model, 2 * d_inner, bias=False)
        self.proj_down = nn.Linear(d_inner, d_model, bias=False)
        nn.init.normal_(self.proj_up.weight, std=small_std(d_model))
        start_output(self.proj_down, d_model, n_block)

    def forward(
        self, x: Tensor, state: None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, None]:  # [B, T, D] -> [B, T, D]
        gate, up = self.proj_up(x).chunk(2, dim=-1)
        return self.proj_down(F.gelu(gate) * up), None


def _gelu_over(x: Tensor) -> Tensor:
    """The GELU with a tanh, written over x: `(1 + tanh(u)) / 2` is `sigmoid(2 u)`, which takes half the time."""
    if x.dtype != torch.float32:
        return F.gelu(x, approximate="tanh")
    scale = 2 * math.sqrt(2 / math.pi)
    return x.mul_((x * x).mul_(0.044715 * scale).add_(scale).mul_(x).sigmoid_())


def inner_size(size: float, multiple: int) -> int:
    """Inner channels: the next multiple, or the nearest whole number."""
    return round(size) if multiple == 1 else math.ceil(size / multiple) * multiple


def small_std(d_model: int) -> float:
    """Standard deviation of the inner weights of xLSTM at the start (Nguyen and Salazar, 2019)."""
    return math.sqrt(2 / (5 * d_model))


def start_output(linear: nn.Linear, d_model: int, n_block: int | None) -> None:
    """Draw the weight of the last layer of a residual block as xLSTM does, for a model of so many of them."""
    if n_block is not None:
        nn.init.normal_(linear.weight, std=2 / n_block / math.sqrt(d_model))
