"""Random inputs of `short_conv` for tests and measurements."""

from typing import Any

import torch

VARIANTS = ("silu", "linear", "one_tap")
MEASURED = {"B": 2, "D": 256, "W": 4}
LONGEST_REFERENCE = 16384


def random_inputs(
    variant: str = "silu",
    *,
    B: int = 2,
    T: int = 64,
    D: int = 8,
    W: int = 4,
    dtype: torch.dtype = torch.float32,
    state: bool = False,
    reset: bool = False,
) -> dict[str, Any]:
    """Arguments of one call; `state` and `reset` add the optional ones."""
    wide = torch.promote_types(dtype, torch.float32)
    W = 1 if variant == "one_tap" else W
    inputs: dict[str, Any] = {"x": torch.randn(B, T, D, dtype=wide).to(dtype), "weight": torch.randn(D, W, dtype=wide)}
    if variant == "silu":
        inputs |= {"bias": torch.randn(D, dtype=wide), "activation": "silu"}
    if state:
        inputs["initial_state"] = torch.randn(B, D, W - 1, dtype=wide)
    if reset:
        inputs["reset"] = torch.rand(B, T) < 0.1
    return inputs


def work(*, B: int, T: int, D: int, W: int) -> tuple[int, int]:
    """Bytes and operations of a forward pass: x and y; W products and sums, the bias and four operations of silu."""
    return 4 * 2 * B * T * D, (2 * W + 5) * B * T * D
