"""Random inputs of `prefix_attention` for tests and measurements."""

from typing import Any

import torch
from torch import Tensor

VARIANTS = ("moderate", "peaked")
MEASURED = {"B": 2, "H": 4, "K": 32, "V": 32}
LONGEST_REFERENCE = 4096


def random_inputs(
    variant: str = "moderate",
    *,
    B: int = 2,
    T: int = 64,
    H: int = 3,
    K: int = 6,
    V: int = 5,
    D: int | None = None,
    dtype: torch.dtype = torch.float32,
    state: bool = False,
    reset: bool = False,
) -> dict[str, Any]:
    """Arguments of one call; `state` and `reset` add the optional ones. `D`, if given, is the width of a head, K and V.

    `peaked` scores spread over some tens: the maximum, most of the weight, moves now and then.
    """
    K, V = (K, V) if D is None else (D, D)
    wide = torch.promote_types(dtype, torch.float32)
    inputs: dict[str, Any] = {
        "k": torch.randn(B, T, H, K, dtype=wide).to(dtype),
        "q": (torch.randn(H, K, dtype=wide) * (10 if variant == "peaked" else 1)).to(dtype),
        "v": torch.randn(B, T, H, V, dtype=wide).to(dtype),
    }
    if state:
        m, u = torch.randn(B, H, dtype=wide), torch.rand(B, H, dtype=wide) + 0.5
        inputs["initial_state"] = (m, u, torch.randn(B, H, V, dtype=wide))
    if reset:
        inputs["reset"] = torch.rand(B, T) < 0.1
    return inputs


def comparable(outputs: tuple[Tensor, tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The sums of the state without the maximum they are divided by."""
    y, (m, u, w) = outputs
    total = m.exp()
    return y, (u * total, w * total[..., None])


def work(*, B: int, T: int, H: int, K: int, V: int) -> tuple[int, int]:
    """Bytes and operations of a forward pass: k, v and y; the scores, two exponentials, four operations a value."""
    return 4 * B * T * H * (K + 2 * V), B * T * H * (2 * K + 4 * V + 6)
