"""The delta rule of others, for measurements beside ours."""

import importlib
import importlib.util
from collections.abc import Callable

from torch import Tensor

# the backward pass of both is quadratic
LONGEST = {"fla naive chunkwise": 16384, "fla naive recurrence": 1024}


def peers() -> dict[str, Callable[..., tuple[Tensor, Tensor]]]:
    """What flash-linear-attention runs without a GPU: its chunkwise form (T a multiple of 32) and its recurrence."""
    if importlib.util.find_spec("fla") is None:
        return {}
    return {
        "fla naive chunkwise": lambda **inputs: _fla("delta_rule_chunkwise", **inputs),
        "fla naive recurrence": lambda **inputs: _fla("delta_rule_recurrence", **inputs),
    }


def _fla(form: str, q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    naive = importlib.import_module("fla.ops.delta_rule.naive")
    y, state = getattr(naive, form)(*(tensor.transpose(1, 2) for tensor in (q, k, v, beta)))
    return y.transpose(1, 2), state
