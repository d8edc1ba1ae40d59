"""Random inputs of `linear_scan` for tests and measurements."""

from typing import Any

import torch

VARIANTS = ("real", "complex", "any_sign", "zeros")
MEASURED = {"B": 2, "D": 256}
LONGEST_REFERENCE = 16384


def random_inputs(
    variant: str = "real",
    *,
    B: int = 2,
    T: int = 64,
    D: int = 8,
    dtype: torch.dtype = torch.float32,
    state: bool = False,
    reset: bool = False,
) -> dict[str, Any]:
    """Arguments of one call; `state` and `reset` add the optional ones."""
    if variant == "complex":
        dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
    real = torch.float64 if dtype in (torch.float64, torch.complex128) else torch.float32
    wide = torch.promote_types(dtype, real)
    decay = torch.sigmoid(torch.randn(B, T, D, dtype=real) + 3).to(wide)
    if variant == "complex":
        decay = decay * torch.exp(1j * torch.randn(B, T, D, dtype=real))
    if variant == "any_sign":
        decay = decay * torch.randn(B, T, D, dtype=real).sign()
    if variant == "zeros":
        decay = decay * (torch.rand(B, T, D, dtype=real) > 0.2)
    inputs: dict[str, Any] = {"x": torch.randn(B, T, D, dtype=wide).to(dtype), "decay": decay.to(dtype)}
    if state:
        inputs["initial_state"] = torch.randn(B, D, dtype=wide)
    if reset:
        inputs["reset"] = torch.rand(B, T) < 0.1
    return inputs


def work(*, B: int, T: int, D: int) -> tuple[int, int]:
    """Bytes and operations of a forward pass of the real variant: x, decay and y; a product and a sum a step."""
    return 4 * 3 * B * T * D, 2 * B * T * D
