"""The published models as their authors' Python computes them, in plain torch: what our speed is compared with.

Both take a model of ours and give a function from token ids `[B, T]` to logits, with the same weights. Where the
authors have kernels for GPUs, these are the functions that their packages bring for everything else.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_domains.genomics.language_model import DNALanguageModel

Logits = Callable[[Tensor], Tensor]


def caduceus(model: DNALanguageModel) -> Logits:
    """Caduceus-Ph over the reference of Mamba's scan (mamba_ssm, `selective_scan_ref`)."""
    return _logits(model, _bimamba)


def hyenadna(model: DNALanguageModel) -> Logits:
    """HyenaDNA of order 2 with Fourier transforms of twice the length (standalone_hyenadna.py)."""
    backbone: Any = model.backbone
    positions = {block: block.filter_fn.positions(block.l_max) for block in backbone.blocks[::2]}
    return _logits(model, lambda block, x: _hyena(block, positions[block], x) if block in positions else _mlp(block, x))


def _logits(model: DNALanguageModel, mixed: Callable[[Any, Tensor], Tensor]) -> Logits:
    """Embedding, blocks between norm and residual, norm and head."""
    backbone: Any = model.backbone

    def logits(ids: Tensor) -> Tensor:
        hidden: Tensor = model.embedding(ids)
        residual: Any = None
        for norm, block in zip(backbone.norms, backbone.blocks, strict=True):
            residual = hidden if residual is None else hidden + residual
            hidden = mixed(block, norm(residual))
        return model.head(backbone.norm(hidden + residual))

    return logits


def _bimamba(block: Any, x: Tensor) -> Tensor:
    shared = block.mamba_fwd
    return _mamba(block.mamba_fwd, shared, x) + _mamba(block.mamba_rev, shared, x.flip(1)).flip(1)


def _mamba(scan: Any, projections: Any, x: Tensor) -> Tensor:  # [B, T, D] -> [B, T, D]
    """With every tensor laid out in memory as in mamba_simple.py: channels, then sequences, then time."""
    B, T, D = x.shape
    xz = projections.in_proj.weight @ x.reshape(B * T, D).T
    u, z = xz.unflatten(1, (B, T)).transpose(0, 1).chunk(2, dim=1)
    u = F.silu(F.conv1d(u, scan.conv1d.weight, scan.conv1d.bias, padding=3, groups=u.shape[1])[..., :T])
    dt, *maps = F.linear(u.mT.reshape(B * T, -1), scan.x_proj.weight).split(scan.split, dim=-1)
    into, out = (m.view(B, T, -1).mT.contiguous() for m in maps)
    delta = (scan.dt_proj.weight @ dt.T).unflatten(1, (B, T)).transpose(0, 1)
    delta = F.softplus(delta + scan.dt_proj.bias[:, None])
    y = selective_scan(u, delta, -scan.A_log.exp(), into, out, scan.D, z)
    return F.linear(y.mT, projections.out_proj.weight)


def selective_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor, z: Tensor) -> Tensor:
    """`[B, D, T]` -> `[B, D, T]`, with all transitions and inputs laid out first and a loop over time."""
    transitions = torch.exp(torch.einsum("bdt,dn->bdtn", delta, A))
    inputs = torch.einsum("bdt,bnt,bdt->bdtn", delta, B, u)
    state, ys = torch.zeros_like(transitions[:, :, 0]), []
    for t in range(u.shape[-1]):
        state = transitions[:, :, t] * state + inputs[:, :, t]
        ys.append(torch.einsum("bdn,bn->bd", state, C[..., t]))
    return (torch.stack(ys, dim=2) + u * skip[:, None]) * F.silu(z)


def _mlp(block: Any, x: Tensor) -> Tensor:
    return block.fc2(F.gelu(block.fc1(x), approximate="tanh"))


def _hyena(block: Any, positions: Tensor, x: Tensor) -> Tensor:  # [B, T, D] -> [B, T, D]
    T, short = x.shape[1], block.short_filter
    u = block.in_proj(x).mT
    u = F.conv1d(u, short.weight, short.bias, padding=len(short.weight[0, 0]) - 1, groups=u.shape[1])[..., :T]
    gate, gate_before, v = u.chunk(3, dim=1)
    window = torch.exp(-positions[:T, :1] * block.filter_fn.deltas) + block.filter_fn.shift
    kernel = (block.filter_fn.implicit_filter(positions[:T]) * window).T
    v = _convolved(v * gate_before, kernel, block.filter_fn.bias)
    return block.out_proj((v * gate).mT)


def _convolved(u: Tensor, kernel: Tensor, skip: Tensor) -> Tensor:
    n = 2 * u.shape[-1]
    product = torch.fft.rfft(u, n=n) * (torch.fft.rfft(kernel, n=n) / n)
    return torch.fft.irfft(product, n=n, norm="forward")[..., : u.shape[-1]] + u * skip[:, None]
