"""Random inputs of `mlstm` for tests and measurements."""

from typing import Any

import torch
from torch import Tensor

VARIANTS = ("exp", "sigmoid", "sigmoid_unnormalized")
MEASURED = {"B": 2, "H": 4, "K": 64, "V": 64}
LONGEST_REFERENCE = 1024


def random_inputs(
    variant: str = "exp",
    *,
    B: int = 2,
    T: int = 64,
    H: int = 2,
    K: int = 4,
    V: int = 6,
    dtype: torch.dtype = torch.float32,
    state: bool = False,
    reset: bool = False,
) -> dict[str, Any]:
    """Arguments of one call; `state` and `reset` add the optional ones."""
    wide = torch.promote_types(dtype, torch.float32)
    inputs: dict[str, Any] = {
        name: torch.randn(B, T, H, size, dtype=wide).to(dtype) for name, size in (("q", K), ("k", K), ("v", V))
    }
    inputs["i"] = torch.randn(B, T, H, dtype=wide).to(dtype)
    inputs["f"] = (torch.randn(B, T, H, dtype=wide) + 3).to(dtype)
    if variant != "exp":
        inputs |= {"input_gate": "sigmoid", "normalize": variant == "sigmoid"}
    if state:
        C, n, m = (torch.randn(B, H, *sizes, dtype=wide) for sizes in ((K, V), (K,), ()))
        inputs["initial_state"] = (C, n, m)
    if reset:
        inputs["reset"] = torch.rand(B, T) < 0.1
    return inputs


def comparable(outputs: tuple[Tensor, tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Outputs and the state without its stabiliser, which may be chosen freely."""
    y, (C, n, m) = outputs
    level = torch.exp(m)
    return y, (C * level[..., None, None], n * level[..., None])


def work(*, B: int, T: int, H: int, K: int, V: int) -> tuple[int, int]:
    """Bytes and operations of a forward pass: q, k, v, y and the gates; three operations for C and n, two to read."""
    return 4 * B * T * H * (2 * K + 2 * V + 2), B * T * H * (5 * K * (V + 1) + 4)
