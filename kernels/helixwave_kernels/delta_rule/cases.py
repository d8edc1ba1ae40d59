"""Random inputs of `delta_rule` for tests and measurements."""

from typing import Any

import torch
import torch.nn.functional as F

VARIANTS = ("plain", "gated", "product")
MEASURED = {"B": 2, "H": 4, "K": 32, "V": 32}
LONGEST_REFERENCE = 4096


def random_inputs(
    variant: str = "plain",
    *,
    B: int = 2,
    T: int = 64,
    H: int = 2,
    K: int = 6,
    V: int = 5,
    D: int | None = None,
    dtype: torch.dtype = torch.float32,
    state: bool = False,
    reset: bool = False,
) -> dict[str, Any]:
    """Arguments of one call; `state` and `reset` add the optional ones. `D`, if given, is the width of a head, K and V.

    A `product` has three writes per token, decays, and negative eigenvalues.
    """
    K, V = (K, V) if D is None else (D, D)
    wide = torch.promote_types(dtype, torch.float32)
    n = 3 if variant == "product" else 1
    inputs: dict[str, Any] = {
        "q": torch.randn(B, T, H, K, dtype=wide).to(dtype),
        "k": F.normalize(torch.randn(B, T * n, H, K, dtype=wide), dim=-1).to(dtype),
        "v": torch.randn(B, T * n, H, V, dtype=wide).to(dtype),
        "beta": (torch.randn(B, T * n, H, dtype=wide).sigmoid() * (1 if n == 1 else 2)).to(dtype),
    }
    if variant != "plain":
        inputs["log_decay"] = F.logsigmoid(torch.randn(B, T, H, dtype=wide) + 2).to(dtype)
    if n > 1:
        inputs["n_householder"] = n
    if state:
        inputs["initial_state"] = torch.randn(B, H, K, V, dtype=wide)
    if reset:
        inputs["reset"] = torch.rand(B, T) < 0.1
    return inputs


def work(*, B: int, T: int, H: int, K: int, V: int) -> tuple[int, int]:
    """Bytes and operations of a forward pass: q, k, v, beta and y; two operations each to recall, write and read."""
    return 4 * B * T * H * (2 * K + 2 * V + 1), B * T * H * (6 * K * V + 2 * V + K)
