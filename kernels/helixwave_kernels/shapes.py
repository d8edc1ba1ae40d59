"""Shapes and dtypes at the public door of an operator."""

import re

import torch
from torch import Tensor

_EXPRESSION = re.compile(r"(\w+)([-+*])(\w+)")


def expect_shapes(where: str, **expected: "int | tuple[Tensor | None, str]") -> None:
    """Raise a ValueError at the first tensor that does not have its shape.

    Args:
        where: the operator, for the message.
        expected: by argument, the tensor and its axes (`"B T D"`, None is skipped), or the size of an axis. A letter
            binds to the size first seen; `"B D W-1"`, `"B T*n H"` and `"B 2 T"` work if the letters stand before.
    """
    sizes: dict[str, int] = {name: size for name, size in expected.items() if isinstance(size, int)}
    for name, value in expected.items():
        tensor, axes = (None, "") if isinstance(value, int) else value
        if tensor is not None and not _fits(tensor.shape, axes.split(), sizes):
            shape = f"has shape {list(tensor.shape)}, expected [{', '.join(axes.split())}]"
            raise ValueError(f"{where}: {name} {shape}{_known(sizes)}")


def expect_parts(where: str, state: "tuple[Tensor, ...] | None", names: tuple[str, ...]) -> "tuple[Tensor | None, ...]":
    """The parts of an initial state, Nones without one; a ValueError if it is no tuple of as many tensors as names."""
    if state is None:
        return (None,) * len(names)
    if isinstance(state, Tensor) or len(state) != len(names):
        came = "one tensor" if isinstance(state, Tensor) else f"{len(state)} parts"
        raise ValueError(f"{where}: initial_state has {came}, expected a tuple of {len(names)}: {', '.join(names)}")
    return tuple(state)


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype an operator computes in: at least float32, wider or complex where one of the tensors is."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _fits(shape: torch.Size, axes: list[str], sizes: dict[str, int]) -> bool:
    if len(shape) != len(axes):
        return False
    return all(
        sizes.get(axis) == size or _size(axis, size, sizes) == size for size, axis in zip(shape, axes, strict=True)
    )


def _size(axis: str, seen: int, sizes: dict[str, int]) -> int:
    if axis.isdigit():
        return int(axis)
    if axis.isidentifier():
        return sizes.setdefault(axis, seen)
    match = _EXPRESSION.fullmatch(axis)
    assert match, f"axis {axis!r} is neither a letter, a number nor `a-b`, `a+b`, `a*b`"
    a, b = _size(match[1], seen, sizes), _size(match[3], seen, sizes)
    return {"-": a - b, "+": a + b, "*": a * b}[match[2]]


def _known(sizes: dict[str, int]) -> str:
    return " with " + ", ".join(f"{axis}={size}" for axis, size in sizes.items()) if sizes else ""
