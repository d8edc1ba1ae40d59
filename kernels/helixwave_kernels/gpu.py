"""When a call can run in Triton, and what its launches share."""

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

_HAS_TRITON = importlib.util.find_spec("triton") is not None
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def refusal(*args: Any, **kwargs: Any) -> str | None:
    """Why Triton cannot run a call with these arguments; None if it can. An operator's `accepts`, or a part of it."""
    tensors = list(_tensors([("a tensor", value) for value in args]))
    tensors += _tensors(kwargs.items())
    for name, tensor in tensors:
        if (tensor.is_floating_point() or tensor.is_complex()) and tensor.dtype not in _DTYPES:
            return f"{name} is {str(tensor.dtype).removeprefix('torch.')}, it computes in float32"
    for name, tensor in tensors:
        if tensor.device.type != "cuda":
            return f"{name} is on {tensor.device.type}"
    if len({tensor.device for _, tensor in tensors}) > 1:
        return "its tensors are on several GPUs"
    return None if _HAS_TRITON else "triton is not installed"


def _tensors(named: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Tensor]]:
    """The tensors among arguments; a state may be a tuple of them."""
    for name, value in named:
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, tuple):
            yield from ((name, part) for part in value if isinstance(part, Tensor))


def device_of(tensor: Tensor) -> contextlib.AbstractContextManager[None]:
    """A context in which kernels start on the tensor's GPU; the interpreter's tensors are on the CPU."""
    return torch.cuda.device_of(tensor) if tensor.is_cuda else contextlib.nullcontext()


def power_of_2(n: int, *, least: int = 1, most: int = 1 << 30) -> int:
    """The smallest power of two that is no less than n, within bounds: the size of a block."""
    return min(max(least, 1 << (n - 1).bit_length()), most)


def contiguous(*tensors: Tensor | None) -> list[Any]:
    """The tensors as kernels read them, by bare pointers: dense, and without the flag by which torch conjugates."""
    return [None if tensor is None else tensor.resolve_conj().contiguous() for tensor in tensors]


def flags(reset: Tensor | None) -> Tensor | None:
    """A bool tensor as the bytes it consists of."""
    return None if reset is None else reset.contiguous().view(torch.uint8)
