"""Random inputs of `s4_kernel` for tests and measurements."""

import math
from typing import Any

import torch

VARIANTS = ("rank_1", "rank_2")
MEASURED = {"D": 128, "N": 32}
LONGEST_REFERENCE = 1024


def random_inputs(
    variant: str = "rank_1",
    *,
    B: int = 1,
    T: int = 64,
    D: int = 8,
    N: int = 4,
    dtype: torch.dtype = torch.float32,
    state: bool = False,
    reset: bool = False,
) -> dict[str, Any]:
    """Arguments of one call for T lags and B output channels; there is neither a state nor a reset to add."""
    wide = torch.promote_types(dtype, torch.float32)
    complex_ = torch.promote_types(wide, torch.complex64)
    return {
        "dt": 10 ** (-1 - 2 * torch.rand(D, dtype=wide)),
        "w": torch.complex(-torch.rand(D, N, dtype=wide) - 0.1, math.pi * torch.arange(N, dtype=wide).expand(D, N)),
        "P": torch.randn(2 if variant == "rank_2" else 1, D, N, dtype=complex_),
        "B": torch.randn(D, N, dtype=complex_),
        "C": torch.randn(B, D, N, dtype=complex_),
        "length": T,
    }


def work(*, T: int, D: int, N: int) -> tuple[int, int]:
    """Bytes and operations: the kernels are written; a step of the 2N real states is a matrix product."""
    return 4 * T * D, T * D * (8 * N * N + 4 * N)
