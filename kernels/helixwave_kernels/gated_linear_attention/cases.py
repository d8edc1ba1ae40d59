"""Random inputs of `gated_linear_attention` for tests and measurements."""

from typing import Any

import torch

VARIANTS = ("vector", "scalar")
MEASURED = {"B": 2, "H": 4, "K": 64, "V": 64}
LONGEST_REFERENCE = 4096


def random_inputs(
    variant: str = "vector",
    *,
    B: int = 2,
    T: int = 64,
    H: int = 2,
    K: int = 4,
    V: int = 3,
    dtype: torch.dtype = torch.float32,
    state: bool = False,
    reset: bool = False,
) -> dict[str, Any]:
    """Arguments of one call, with a decay for each key dimension or for each head."""
    wide = torch.promote_types(dtype, torch.float32)
    rates = (B, T, H, K) if variant == "vector" else (B, T, H)
    inputs: dict[str, Any] = {
        "q": torch.randn(B, T, H, K, dtype=wide).to(dtype),
        "k": torch.randn(B, T, H, K, dtype=wide).to(dtype),
        "v": torch.randn(B, T, H, V, dtype=wide).to(dtype),
        "log_decay": -torch.randn(rates, dtype=wide).sub(1.5).exp().to(dtype),
    }
    if state:
        inputs["initial_state"] = torch.randn(B, H, K, V, dtype=wide)
    if reset:
        inputs["reset"] = torch.rand(B, T) < 0.1
    return inputs


def work(*, B: int, T: int, H: int, K: int, V: int) -> tuple[int, int]:
    """Bytes and operations of a forward pass: q, k, the decays, v and y; three operations for S, two for q S."""
    return 4 * B * T * H * (3 * K + 2 * V), B * T * H * (5 * K * V + 2 * K)
