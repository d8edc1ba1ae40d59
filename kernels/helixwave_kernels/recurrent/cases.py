"""Random inputs of `recurrent` for tests and measurements."""

from typing import Any

import torch
from torch import Tensor

from helixwave_kernels.recurrent.reference import CELLS

VARIANTS = ("slstm", "lstm", "gru", "elman", "no_bias")
MEASURED = {"B": 2, "H": 4, "P": 64}
LONGEST_REFERENCE = 4096


def random_inputs(
    variant: str = "slstm",
    *,
    B: int = 2,
    T: int = 64,
    H: int = 2,
    P: int = 4,
    dtype: torch.dtype = torch.float32,
    state: bool = False,
    reset: bool = False,
) -> dict[str, Any]:
    """Arguments of one call; `state` and `reset` add the optional ones. Parameters are in float32 or wider."""
    wide = torch.promote_types(dtype, torch.float32)
    cell = "slstm" if variant == "no_bias" else variant
    J = len(CELLS[cell].gates)
    inputs: dict[str, Any] = {
        "x": torch.randn(B, T, J, H, P, dtype=wide).to(dtype),
        "cell": cell,
        "R": torch.randn(J, H, P, P, dtype=wide) * 0.5 / P**0.5,
    }
    if variant != "no_bias":
        inputs["bias"] = torch.randn(J, H, P, dtype=wide)
    if state:
        parts = {name: torch.randn(B, H, P, dtype=wide) for name in CELLS[cell].state}
        if cell == "slstm":
            parts["n"] = parts["n"].abs() + 0.5
        inputs["initial_state"] = tuple(parts.values())
    if reset:
        inputs["reset"] = torch.rand(B, T) < 0.1
    return inputs


def comparable(outputs: tuple[Tensor, tuple[Tensor, ...]]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The state of an sLSTM as what it means, `(h, c e^m, n e^m)`; that of the others as it is."""
    y, state = outputs
    if len(state) == len(CELLS["slstm"].state):
        h, c, n, m = state
        state = (h, c * m.exp(), n * m.exp())
    return y, state


def work(*, B: int, T: int, H: int, P: int) -> tuple[int, int]:
    """Bytes and operations of a forward pass of an sLSTM: x and y; the products with R, some 40 operations a unit."""
    return 4 * 5 * B * T * H * P, B * T * H * P * (8 * P + 40)
