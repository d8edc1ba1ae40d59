"""What a block costs: parameters, state, and floating-point operations, counted while plain torch runs it."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from helixwave.registry import BLOCKS, BlockConfig

# operations for each element of the first argument; a product of complex numbers is counted apart
_REDUCTIONS = {
    **dict.fromkeys(("sum", "mean", "prod", "amax", "amin", "max", "min", "logsumexp", "var", "var_mean"), 1),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "norm", "linalg_vector_norm"), 1),
    # a maximum, differences, exponentials, a sum, quotients
    **dict.fromkeys(("_softmax", "_log_softmax"), 5),
    # a square, a sum, a product and the weight; with a mean two more
    "_fused_rms_norm": 4,
    **dict.fromkeys(("native_layer_norm", "native_group_norm"), 6),
    # pointwise too, without torch's mark
    **dict.fromkeys(("log_sigmoid", "log_sigmoid_forward", "threshold", "glu"), 1),
}
# two operations in one pass
_FUSED = {"addcmul": 2, "addcdiv": 2, "lerp": 2}
# marked as pointwise by torch, but nothing is computed
_MOVES = {"clone", "where", "masked_fill", "fill", "copy", "zeros_like", "ones_like", "conj_physical"}
# a complex number for a real one: two parts, and four products with two sums where parts meet
_COMPLEX, _COMPLEX_PRODUCT = 2, 6


@dataclass(frozen=True)
class Cost:
    """Of one block.

    Args:
        parameters: numbers that are trained.
        state: numbers that are handed on for each sequence; None where there is no handing on.
        operations: of a forward pass for each position.
    """

    parameters: int
    state: int | None
    operations: float


def block_cost(block: BlockConfig, *, d_model: int = 128, T: int = 1024) -> Cost:
    """Build a block, run one sequence of length T through it, and count."""
    module: nn.Module = BLOCKS.build(block, d_model=d_model).eval()
    x = torch.zeros(1, T, d_model)
    with torch.no_grad(), _plain_torch(), _Counter() as counter:
        _, state = module(x)
    numbers = sum(part.numel() * (1 + part.is_complex()) for part in tree_leaves(state) if isinstance(part, Tensor))
    return Cost(
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        state=numbers if module.causal else None,
        operations=counter.total / T,
    )


def count_operations(function: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """Floating-point operations of a call without gradients, with the operators in plain torch.

    A product of matrices `[m, k]` and `[k, n]` has 2 m k n, a Fourier transform of n complex numbers 5 n log2 n and of
    real ones half of it, a pointwise function one for each element of its result, a reduction one for each element that
    it reads; what only moves data has none.
    """
    with torch.no_grad(), _plain_torch(), _Counter() as counter:
        function(*args, **kwargs)
    return round(counter.total)


class _Counter(TorchDispatchMode):
    """Adds up the operations of all that torch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with self:
            if func.namespace == "helixwave":
                return _implementation(func)(*args, **kwargs)
            if _packet(func) not in flop_registry:
                result = func.decompose(*args, **kwargs)
                if result is not NotImplemented:
                    return result
        result = func(*args, **kwargs)
        self.total += _operations(func, args, kwargs, result)
        return result


def _implementation(func: Any) -> Callable[..., Any]:
    """The Python function behind one of our operators, which torch would otherwise run unseen."""
    kernel = torch.library.get_kernel(func, "CPU")
    return lambda *args, **kwargs: kernel.call_boxed(torch._C.DispatchKeySet(torch._C.DispatchKey.CPU), *args, **kwargs)


def _packet(func: Any) -> Any:
    """The operator without its variant: `add` for `add_` too."""
    packet = func._overloadpacket
    return getattr(torch.ops.aten, packet.__name__.removesuffix("_"), packet)


def _operations(func: Any, args: Any, kwargs: Any, result: Any) -> float:
    packet = _packet(func)
    name = packet.__name__
    first = next((leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)), None)
    out = next((leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)), None)
    if first is None or out is None or not (out.is_floating_point() or out.is_complex()):
        return 0
    if packet in flop_registry:
        # a complex product is four real ones, each with a sum
        return flop_registry[packet](*args, **kwargs, out_val=result) * (4 if out.is_complex() else 1)
    if name in _PRODUCTS:
        return _PRODUCTS[name](*args) * (4 if out.is_complex() else 1)
    if name.startswith("_fft_"):
        return _transform(name, first, args[1], out)
    scale = 1 if not (out.is_complex() or first.is_complex()) else _COMPLEX
    if name in _REDUCTIONS:
        return first.numel() * _REDUCTIONS[name] * scale
    if torch.Tag.pointwise not in func.tags or name in _MOVES:
        return 0
    is_product = out.is_complex() and name in {"mul", "div", *_FUSED}
    return out.numel() * (_COMPLEX_PRODUCT if is_product else _FUSED.get(name, 1) * scale)


def _transform(name: str, x: Tensor, dims: list[int], out: Tensor) -> float:
    """5 n log2 n for each transform of n complex numbers."""
    whole = out if name == "_fft_c2r" else x
    n = math.prod(whole.shape[dim] for dim in dims)
    return 5 * whole.numel() * math.log2(max(n, 1)) / (1 if name == "_fft_c2c" else 2)


def _solution(A: Tensor, B: Tensor, *_: Any) -> float:
    """By elimination: two thirds of n^3, and 2 n^2 for each right-hand side."""
    n = A.shape[-1]
    return A.numel() * n * 2 / 3 + 2 * n * B.numel()


_PRODUCTS: dict[str, Callable[..., float]] = {
    # attention for CPUs, which torch counts only for GPUs
    "_scaled_dot_product_flash_attention_for_cpu": lambda q, k, v, *_: sdpa_flop_count(q.shape, k.shape, v.shape),
    "_linalg_solve_ex": _solution,
    "linalg_solve_triangular": lambda A, B, **_: A.shape[-1] * B.numel(),
    "linalg_inv_ex": lambda A, *_: 2 * A.numel() * A.shape[-1],
    # about ten products of matrices
    "linalg_matrix_exp": lambda A: 20 * A.numel() * A.shape[-1],
}


@contextmanager
def _plain_torch() -> Iterator[None]:
    """Operators in plain torch, whatever is installed."""
    before = os.environ.get("HELIXWAVE_IMPL")
    os.environ["HELIXWAVE_IMPL"] = "chunked,reference"
    try:
        yield
    finally:
        del os.environ["HELIXWAVE_IMPL"]
        if before is not None:
            os.environ["HELIXWAVE_IMPL"] = before
