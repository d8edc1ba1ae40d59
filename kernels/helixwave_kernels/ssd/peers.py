"""What `ssd` is measured against."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LONGEST = {"einsum form": 16384}


def peers() -> dict[str, Callable[..., Any]]:
    """Functions of the arguments of `ssd` by name; the first is what ratios are given against."""
    return {"einsum form": einsum_form}


def gpu_peers() -> dict[str, Callable[..., Any]]:
    """What flash-linear-attention runs on a GPU, where this is called simple GLA."""
    return {"fla chunk_simple_gla": fla_chunk} if importlib.util.find_spec("fla") else {}


def fla_chunk(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """Its kernels in Triton, with the maps repeated for each head."""
    simple_gla = importlib.import_module("fla.ops.simple_gla")
    B, C = (tensor.repeat_interleave(x.shape[2] // tensor.shape[2], dim=2) for tensor in (B, C))
    return simple_gla.chunk_simple_gla(C, B, x, log_decay, scale=1.0, output_final_state=True)


def einsum_form(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, *, chunk: int = 64) -> tuple[Tensor, Tensor]:
    """The four steps of Dao & Gu 2024, listing 1, each one einsum over all heads and chunks, B and C for each head."""
    T, H = log_decay.shape[1:]
    x, B, C = (_in_chunks(tensor.repeat_interleave(H // tensor.shape[2], dim=2), chunk) for tensor in (x, B, C))
    log_decay = _in_chunks(log_decay, chunk).permute(0, 3, 1, 2)
    sums = log_decay.cumsum(-1)
    # 1. outputs within chunks
    y_diagonal = torch.einsum("bclhn,bcshn,bhcls,bcshp->bclhp", C, B, _segment_sums(log_decay).exp(), x)
    # 2. what each chunk adds to the state
    added = torch.einsum("bclhn,bhcl,bclhp->bchnp", B, (sums[..., -1:] - sums).exp(), x)
    # 3. states between chunks, all at once
    added = torch.cat([torch.zeros_like(added[:, :1]), added], dim=1)
    states = torch.einsum("bhzc,bchnp->bzhnp", _segment_sums(F.pad(sums[..., -1], (1, 0))).exp(), added)
    # 4. outputs from the state before the chunk
    y_before = torch.einsum("bclhn,bchnp,bhcl->bclhp", C, states[:, :-1], sums.exp())
    return (y_diagonal + y_before).flatten(1, 2)[:, :T], states[:, -1]


def _in_chunks(tensor: Tensor, chunk: int) -> Tensor:
    T = tensor.shape[1]
    return F.pad(tensor, (0, 0) * (tensor.ndim - 2) + (0, -T % chunk)).unflatten(1, (-1, chunk))


def _segment_sums(log_decay: Tensor) -> Tensor:
    """Sums over the steps after j up to i, `[..., i, j]`; -inf for j > i."""
    T = log_decay.shape[-1]
    lower = torch.ones(T, T, dtype=torch.bool, device=log_decay.device).tril(-1)
    sums = log_decay.unsqueeze(-1).expand(*log_decay.shape, T).masked_fill(~lower, 0).cumsum(-2)
    return sums.masked_fill(lower.mT, -torch.inf)
