"""What others offer for `selective_scan`, to measure against."""

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

# the scans step by step have a backward pass that is quadratic in T
LONGEST = {"mambapy parallel scan": 16384, "mambapy loop": 1024, "transformers slow path": 1024}


def peers() -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    if find_spec("mambapy"):
        found |= {"mambapy parallel scan": mambapy_pscan, "mambapy loop": _mambapy_loop}
    if find_spec("transformers"):
        found["transformers slow path"] = _transformers_slow_path
    return found


def gpu_peers() -> dict[str, Callable[..., Any]]:
    return {"mamba-ssm": _mamba_ssm} if find_spec("mamba_ssm") else {}


def mambapy_pscan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """What mambapy's block does between its convolution and its output projection, with its parallel scan."""
    pscan = importlib.import_module("mambapy.pscan").pscan
    steps = softplus(delta + delta_bias).unsqueeze(-1)
    h = pscan(torch.exp(steps * A), steps * B.unsqueeze(2) * u.unsqueeze(-1))
    return ((h @ C.unsqueeze(-1)).squeeze(3) + skip * u) * silu(z)


def _mambapy_loop(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """The same with mambapy's sequential scan, a method of its block that reads two sizes of the configuration."""
    scan = importlib.import_module("mambapy.mamba").MambaBlock.selective_scan_seq
    block = SimpleNamespace(config=SimpleNamespace(d_inner=A.shape[0], d_state=A.shape[1]))
    return scan(block, u, softplus(delta + delta_bias), A, B, C, skip) * silu(z)


def _transformers_slow_path(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, **arguments: Tensor) -> Any:
    """The published Python reference as transformers keeps it for machines without the CUDA kernel."""
    scan = importlib.import_module("transformers.models.mamba.modeling_mamba").mamba_selective_scan
    return _channels_first(scan, u, delta, A, B, C, **arguments)


def _mamba_ssm(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, **arguments: Tensor) -> Any:
    scan = importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    return _channels_first(scan, u, delta, A, B, C, **arguments)


def _channels_first(
    scan: Callable[..., Tensor],
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor,
    z: Tensor,
    delta_bias: Tensor,
) -> Tensor:
    """A scan that wants [B, D, T]; contiguous copies, which the CUDA kernel asks for."""
    u, delta, B, C, z = (each.mT.contiguous() for each in (u, delta, B, C, z))
    return scan(u, delta, A, B, C, skip, z=z, delta_bias=delta_bias, delta_softplus=True).mT
