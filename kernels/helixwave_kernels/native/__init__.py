"""C for the operators: a library without headers of Python or torch, loaded by ctypes where it was built.

`HELIXWAVE_NATIVE=0` does without it. Each C function exists in both precisions, `name_f32` and `name_f64`, beside a
text with one letter for each argument, so that no call with other arguments gets through.
"""

import ctypes
import functools
import importlib.machinery
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

# counts changes of the conventions between C and Python, as HELIXWAVE_ABI in machine.h
ABI = 1
REBUILD = "pip install --force-reinstall --no-deps helixwave, or pip install -e . in a checkout"

_LETTERS = {Tensor: "p", torch.nn.Parameter: "p", type(None): "p", int: "i", bool: "i", float: "d"}
_C_TYPES = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "d": ctypes.c_double}
_PRECISIONS = {torch.float32: "f32", torch.float64: "f64"}
_ACCEPTED = (torch.float32, torch.float64, torch.bfloat16)


@torch.compiler.assume_constant_result
def reason() -> str | None:
    """Why the native library cannot be used here; None if it can."""
    if os.environ.get("HELIXWAVE_NATIVE") == "0":
        return "HELIXWAVE_NATIVE=0 switches it off"
    return _loaded()[1]


def refusal(*tensors: Tensor | None) -> str | None:
    """Why native code cannot work on these tensors; None if it can."""
    if why := reason():
        return why
    for tensor in tensors:
        if tensor is not None and tensor.device.type != "cpu":
            return f"a tensor is on {tensor.device}, not on the CPU"
        if tensor is not None and tensor.dtype not in _ACCEPTED and tensor.dtype != torch.bool:
            return f"{tensor.dtype} is not float32, float64 or bfloat16"
    return None


def call(name: str, *args: Tensor | int | float | None) -> None:
    """Run the C function of that name, in the precision of the first floating tensor.

    Args:
        args: contiguous tensors, all of one precision; None for an absent one; sizes and options. The number of threads
            is added behind.
    """
    values: list[int | float | None] = []
    letters, precision = "", None
    for value in args:
        letters += _LETTERS[type(value)]
        if isinstance(value, Tensor):
            assert value.is_cpu and value.is_contiguous(), f"{name}: argument {len(values)} is not contiguous on the CPU"
            if value.is_floating_point():
                precision = precision or value.dtype
                assert value.dtype == precision, f"{name}: argument {len(values)} is {value.dtype}, expected {precision}"
            else:
                assert value.dtype in (torch.bool, torch.uint8), f"{name}: argument {len(values)} is {value.dtype}"
            value = value.data_ptr()
        values.append(value)
    assert precision is not None, f"{name}: no floating tensor among the arguments"
    _function(name, precision, letters + "i")(*values, torch.get_num_threads())


def contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors as C reads them; None stays."""
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


def instruction_set() -> str | None:
    """Which code the machine runs, `avx512`, `avx2` or `generic`; None without the library."""
    library = _loaded()[0]
    if library is None:
        return None
    library.helixwave_instruction_set.restype = ctypes.c_char_p
    return library.helixwave_instruction_set().decode()


@functools.cache
def _loaded() -> tuple[ctypes.CDLL | None, str | None]:
    """The library, or why there is none."""
    folder = Path(__file__).parents[1]
    found = [path for suffix in importlib.machinery.EXTENSION_SUFFIXES if (path := folder / f"_native{suffix}").exists()]
    if not found:
        return None, f"the library was not built: no C compiler at install. With one: {REBUILD}"
    try:
        library = ctypes.CDLL(str(found[0]))
        abi = library.helixwave_abi()
    except (OSError, AttributeError) as error:
        return None, f"the library does not load ({error}). Build it again: {REBUILD}"
    if abi != ABI:
        return None, f"the library is of another version ({abi}, expected {ABI}). Build it again: {REBUILD}"
    return library, None


@functools.cache
def _function(name: str, precision: torch.dtype, letters: str) -> Callable[..., None]:
    library, why = _loaded()
    if library is None:
        raise RuntimeError(f"{name}: {why}")
    full_name = f"{name}_{_PRECISIONS[precision]}"
    try:
        function = library[full_name]
        expected = ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(library, f"{name}_arguments_{_PRECISIONS[precision]}")))
    except (AttributeError, ValueError):
        raise RuntimeError(f"the native library has no {full_name}: it is older than this. Build it again: {REBUILD}") from None
    if expected.decode() != letters:
        raise RuntimeError(f"{full_name} takes {expected.decode()}, not {letters}. Build the library again: {REBUILD}")
    function.argtypes = [_C_TYPES[letter] for letter in letters]
    function.restype = None
    return function
