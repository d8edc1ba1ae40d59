"""Random inputs of `newton_recurrence` for tests and measurements."""

from typing import Any

import torch

from helixwave_kernels.newton_recurrence.reference import GATES, STATE

VARIANTS = ("gru", "lstm", "no_peephole")
MEASURED = {"B": 2, "D": 256}
LONGEST_REFERENCE = 16384


def random_inputs(
    variant: str = "gru",
    *,
    B: int = 2,
    T: int = 64,
    D: int = 8,
    dtype: torch.dtype = torch.float32,
    state: bool = False,
    reset: bool = False,
) -> dict[str, Any]:
    """Arguments of one call; `state` and `reset` add the optional ones. Parameters are in float32 or wider."""
    wide = torch.promote_types(dtype, torch.float32)
    cell = "gru" if variant == "gru" else "lstm"
    inputs: dict[str, Any] = {
        "x": torch.randn(B, T, len(GATES[cell]), D, dtype=wide).to(dtype),
        "cell": cell,
        "diagonal": 0.5 * torch.randn(len(GATES[cell]), D, dtype=wide),
    }
    if variant == "lstm":
        inputs["peephole"] = 0.5 * torch.randn(2, D, dtype=wide)
    if state:
        inputs["initial_state"] = tuple(torch.randn(B, D, dtype=wide) for _ in STATE[cell])
    if reset:
        inputs["reset"] = torch.rand(B, T) < 0.1
    return inputs


def work(*, B: int, T: int, D: int) -> tuple[int, int]:
    """Bytes and operations of a forward pass of the GRU, step by step: x and y; some 60 operations a step."""
    return 4 * 4 * B * T * D, 60 * B * T * D
