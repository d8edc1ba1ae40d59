"""Norms over parts of the channels."""

import torch
import torch.nn.functional as F
from helixwave_kernels.shapes import compute_dtype
from torch import Tensor, nn


class HeadNorm(nn.Module):
    """Each head normalised by itself, then a weight per channel: `[B, T, H, P]` -> `[B, T, H P]`, in float32 or wider.

    Args:
        centred: subtract each head's mean, as layer norm does (xLSTM's multi-head norm); else root mean square.
    """

    def __init__(self, n_head: int, d_head: int, *, centred: bool, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_head * d_head))
        self.centred, self.eps = centred, eps

    def forward(self, x: Tensor) -> Tensor:
        heads = x.to(compute_dtype(x))
        if self.centred:
            heads = heads - heads.mean(-1, keepdim=True)
        heads = heads * torch.rsqrt(heads.square().mean(-1, keepdim=True) + self.eps)
        return (heads.flatten(-2) * self.weight.to(heads.dtype)).to(x.dtype)


class GatedNorm(nn.Module):
    """Root mean square norm and a gate: `norm(x silu(z))`, or `norm(x) silu(z)`; `[B, T, C]`, in float32 or wider.

    Args:
        n_group: parts of the channels that are normalised each by itself (Mamba-2's groups).
        gate_first: the published order of Mamba-2; Hydra, GLA and DeltaNet gate after the norm.
    """

    def __init__(self, channels: int, *, n_group: int = 1, gate_first: bool, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.n_group, self.gate_first, self.eps = n_group, gate_first, eps

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        y = x.to(compute_dtype(x))
        gate = F.silu(z.to(y.dtype))
        y = y * gate if self.gate_first else y
        groups = y.unflatten(-1, (self.n_group, -1))
        y = (groups * torch.rsqrt(groups.square().mean(-1, keepdim=True) + self.eps)).flatten(-2) * self.weight.to(
            y.dtype
        )
        return (y if self.gate_first else y * gate).to(x.dtype)
