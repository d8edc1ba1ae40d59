"""What others offer for `short_conv`, to measure against."""

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from torch import Tensor
from torch.nn.functional import conv1d, pad, silu


def peers() -> dict[str, Callable[..., Any]]:
    return {"torch conv1d": _torch_conv1d}


def gpu_peers() -> dict[str, Callable[..., Any]]:
    return {"causal-conv1d": _causal_conv1d} if find_spec("causal_conv1d") else {}


def _torch_conv1d(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    D, W = weight.shape
    return silu(conv1d(pad(x.mT, (W - 1, 0)), weight.unsqueeze(1), bias, groups=D).mT)


def _causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    """The CUDA kernel, on its channel-last path: a transposed view of what lies channel last."""
    return importlib.import_module("causal_conv1d").causal_conv1d_fn(x.mT, weight, bias, activation=activation).mT
