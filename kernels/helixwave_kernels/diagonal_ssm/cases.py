"""Random inputs of `diagonal_ssm` for tests and measurements."""

import math
from typing import Any

import torch

VARIANTS = ("zoh", "bilinear", "dirac")
MEASURED = {"B": 2, "D": 128, "N": 32}
LONGEST_REFERENCE = 4096


def random_inputs(
    variant: str = "zoh",
    *,
    B: int = 2,
    T: int = 64,
    D: int = 8,
    N: int = 4,
    dtype: torch.dtype = torch.float32,
    state: bool = False,
    reset: bool = False,
) -> dict[str, Any]:
    """Arguments of one call, S4D-Lin's frequencies; `state` and `reset` add the optional ones."""
    wide = torch.promote_types(dtype, torch.float32)
    complex_ = torch.promote_types(wide, torch.complex64)
    inputs: dict[str, Any] = {
        "u": torch.randn(B, T, D, dtype=wide).to(dtype),
        "A": torch.complex(-torch.rand(D, N, dtype=wide) - 0.1, math.pi * torch.arange(N, dtype=wide).expand(D, N)),
        "B": torch.randn(D, N, dtype=complex_),
        "C": torch.randn(D, N, dtype=complex_),
        "dt": 10 ** (-1 - 2 * torch.rand(D, dtype=wide)),
        "skip": torch.randn(D, dtype=wide),
        "discretization": variant,
    }
    if state:
        inputs["initial_state"] = torch.randn(B, D, N, dtype=complex_)
    if reset:
        inputs["reset"] = torch.rand(B, T) < 0.1
    return inputs


def work(*, B: int, T: int, D: int, N: int) -> tuple[int, int]:
    """Bytes and operations of a forward pass: u and y; a complex product and two sums for h, four for Re(C h)."""
    return 4 * 2 * B * T * D, B * T * D * (12 * N + 2)
