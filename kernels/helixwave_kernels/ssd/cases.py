"""Random inputs of `ssd` for tests and measurements."""

from typing import Any

import torch

VARIANTS = ("mamba2", "grouped")
MEASURED = {"B": 2, "H": 4, "P": 64, "N": 64}
LONGEST_REFERENCE = 4096


def random_inputs(
    variant: str = "mamba2",
    *,
    B: int = 2,
    T: int = 64,
    H: int = 2,
    P: int = 3,
    N: int = 4,
    dtype: torch.dtype = torch.float32,
    state: bool = False,
    reset: bool = False,
) -> dict[str, Any]:
    """Arguments of one call; one group of heads, or four heads in two groups for "grouped"."""
    wide = torch.promote_types(dtype, torch.float32)
    if variant == "grouped":
        H = 4
    G = 2 if variant == "grouped" else 1
    inputs: dict[str, Any] = {
        "x": torch.randn(B, T, H, P, dtype=wide).to(dtype),
        "log_decay": -torch.randn(B, T, H, dtype=wide).sub(1).exp().to(dtype),
        "B": torch.randn(B, T, G, N, dtype=wide).to(dtype),
        "C": torch.randn(B, T, G, N, dtype=wide).to(dtype),
    }
    if state:
        inputs["initial_state"] = torch.randn(B, H, N, P, dtype=wide)
    if reset:
        inputs["reset"] = torch.rand(B, T) < 0.1
    return inputs


def work(*, B: int, T: int, H: int, P: int, N: int) -> tuple[int, int]:
    """Bytes and operations of a forward pass: x, y, the decays, B and C; three operations for h, two for C h."""
    return 4 * B * T * (2 * H * P + H + 2 * N), B * T * H * (5 * N * P + 1)
