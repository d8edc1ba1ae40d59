"""Random inputs of `selective_scan` for tests and measurements."""

from typing import Any

import torch

# what a variant gives: the axes of B and C, and the options
VARIANTS = ("mamba", "bare", "grouped", "time_invariant", "constant_input_map", "negative_eigenvalues")
MEASURED = {"B": 2, "D": 256, "N": 16}
LONGEST_REFERENCE = 16384


def random_inputs(
    variant: str = "mamba",
    *,
    B: int = 2,
    T: int = 64,
    D: int = 8,
    N: int = 4,
    dtype: torch.dtype = torch.float32,
    state: bool = False,
    reset: bool = False,
) -> dict[str, Any]:
    """Arguments of one call; `state` and `reset` add the optional ones. Parameters are in float32 or wider."""
    wide = torch.promote_types(dtype, torch.float32)
    map_of = {"time": (B, T, N), "group": (B, T, 2, N), "constant": (D, N)}
    kinds = {
        "grouped": ("group", "group"),
        "time_invariant": ("constant", "constant"),
        "constant_input_map": ("constant", "group"),
    }
    B_kind, C_kind = kinds.get(variant, ("time", "time"))
    inputs: dict[str, Any] = {
        "u": torch.randn(B, T, D, dtype=wide).to(dtype),
        "delta": (torch.randn(B, T, D, dtype=wide) - 2).to(dtype),
        "A": -torch.arange(1, N + 1, dtype=wide).expand(D, N) * torch.rand(D, 1, dtype=wide).add(0.5),
        "B": torch.randn(map_of[B_kind], dtype=wide).to(dtype),
        "C": torch.randn(map_of[C_kind], dtype=wide).to(dtype),
    }
    if variant == "bare":
        inputs |= {"delta": inputs["delta"].exp(), "softplus": False}
    else:
        inputs |= {"skip": torch.randn(D, dtype=wide), "delta_bias": torch.randn(D, dtype=wide)}
        inputs["z"] = torch.randn(B, T, D, dtype=wide).to(dtype)
    if variant == "negative_eigenvalues":
        inputs["negative_eigenvalues"] = True
    if state:
        inputs["initial_state"] = torch.randn(B, D, N, dtype=wide)
    if reset:
        inputs["reset"] = torch.rand(B, T) < 0.1
    return inputs


def work(*, B: int, T: int, D: int, N: int) -> tuple[int, int]:
    """Bytes and operations of a forward pass: u, delta, z, y, B and C; see the comment for the operations."""
    # a state: d A, exp, x B, two for h, two for C h; a channel: 4 for softplus, d u, 2 for the skip, 5 for the gate
    return 4 * B * T * (4 * D + 2 * N), B * T * D * (7 * N + 12)
