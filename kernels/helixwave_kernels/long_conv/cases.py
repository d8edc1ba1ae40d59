"""Random inputs of `long_conv` for tests and measurements."""

import math
from typing import Any

import torch

VARIANTS = ("causal", "short_kernel", "long_kernel", "circular", "circular_long_kernel", "same", "same_long_kernel")
MEASURED = {"B": 2, "D": 256}
LONGEST_REFERENCE = 1024


def random_inputs(
    variant: str = "causal",
    *,
    B: int = 2,
    T: int = 64,
    D: int = 8,
    dtype: torch.dtype = torch.float32,
    state: bool = False,
    reset: bool = False,
) -> dict[str, Any]:
    """Arguments of one call; `state` and `reset` add the optional ones, which only causal variants have."""
    wide = torch.promote_types(dtype, torch.float32)
    L = 5 if "short" in variant else 2 * T + 3 if "long" in variant else T
    envelope = torch.exp(-3 * torch.linspace(0, 1, L, dtype=wide))
    inputs: dict[str, Any] = {
        "x": torch.randn(B, T, D, dtype=wide).to(dtype),
        "kernel": torch.randn(D, L, dtype=wide) * envelope,
        "skip": torch.randn(D, dtype=wide),
        "mode": variant.split("_")[0] if variant.startswith(("circular", "same")) else "causal",
    }
    if inputs["mode"] != "causal":
        return inputs
    inputs["return_state"] = True
    if state:
        inputs["initial_state"] = torch.randn(B, D, L - 1, dtype=wide)
    if reset:
        inputs["reset"] = torch.rand(B, T) < 0.1
    return inputs


def work(*, B: int, T: int, D: int) -> tuple[int, int]:
    """Bytes and operations of a forward pass: x, kernel and y; real transforms of length 2 T of each of them."""
    # 2.5 n log2(n) operations for a transform of length n, six for a product of complex numbers
    transforms = (2 * B + 1) * D
    operations = transforms * 2.5 * 2 * T * math.log2(2 * T) + 6 * B * D * T
    return 4 * (2 * B * T * D + D * T), round(operations)
