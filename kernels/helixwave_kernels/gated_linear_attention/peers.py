"""What `gated_linear_attention` is measured against."""

import importlib.util
from collections.abc import Callable
from typing import Any

from torch import Tensor

# backwards its time grows with the square of the length
LONGEST = {"fla naive recurrent": 1024}


def peers() -> dict[str, Callable[..., Any]]:
    """Functions of the arguments of the default variant by name; the first is what ratios are given against."""
    if not importlib.util.find_spec("fla"):
        return {}
    return {"fla naive recurrent": fla_recurrent}


def fla_recurrent(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor) -> tuple[Tensor, Tensor]:
    """The step by step form of flash-linear-attention, its only one for a CPU."""
    naive = importlib.import_module("fla.ops.gla.naive")
    return naive.naive_recurrent_gla(q, k, v, log_decay, output_final_state=True)


def gpu_peers() -> dict[str, Callable[..., Any]]:
    """What flash-linear-attention runs on a GPU."""
    return {"fla chunk_gla": fla_chunk} if importlib.util.find_spec("fla") else {}


def fla_chunk(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor) -> tuple[Tensor, Tensor]:
    """Its kernels in Triton."""
    gla = importlib.import_module("fla.ops.gla")
    return gla.chunk_gla(q, k, v, log_decay, output_final_state=True)
