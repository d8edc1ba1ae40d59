"""C for the operators: a library without headers of Python or torch, loaded by ctypes where it was built.

`HELIXWAVE_NATIVE=0` does without it. Each C function exists in both precisions, `name_f32` and `name_f64`, beside a
text with one letter for each argument, so that no call with other arguments gets through.
"""

import ctypes
import functools
import importlib.machinery
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# counts changes of the conventions between C and Python, as HELIXWAVE_ABI in machine.h
ABI = 1
REBUILD = "Build it again: `pip install --force-reinstall --no-deps helixwave`, in a checkout `pip install -e .`"

_LETTERS = {type(None): "p", int: "i", bool: "i", float: "d"}
_C_TYPES: dict[str, Any] = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "d": ctypes.c_double}
_PRECISIONS = {torch.float32: "f32", torch.float64: "f64"}
_ACCEPTED = {torch.float32, torch.float64, torch.bfloat16, torch.bool}


# a constant for torch.compile, which cannot look into ctypes
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
        if tensor is not None and tensor.dtype not in _ACCEPTED:
            return f"{tensor.dtype} is not float32, float64 or bfloat16"
    return None


def contiguous(*tensors: Tensor | None) -> list[Any]:
    """The tensors as C reads them; None stays."""
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


def call(name: str, *args: Tensor | int | float | None) -> None:
    """Run the C function of that name, in the precision of the first floating tensor.

    Args:
        name: without the ending `_f32` or `_f64`.
        args: contiguous tensors, all of one precision (and masks); None for an absent one; sizes and options. The
            number of threads is added behind.
    """
    values: list[int | float | None] = []
    letters, precision = "", None
    for value in args:
        if isinstance(value, Tensor):
            assert value.is_contiguous(), f"{name}: argument {len(values)} is not contiguous"
            assert value.is_cpu, f"{name}: argument {len(values)} is on {value.device}"
            if value.is_floating_point():
                precision = precision or value.dtype
            expected = {precision} if value.is_floating_point() else {torch.bool, torch.uint8}
            assert value.dtype in expected, f"{name}: argument {len(values)} is {value.dtype}, expected {expected}"
            values.append(value.data_ptr())
            letters += "p"
        else:
            values.append(value)
            letters += _LETTERS[type(value)]
    assert precision is not None, f"{name}: there is no floating tensor among the arguments"
    _function(name, precision, letters + "i")(*values, torch.get_num_threads())


def instruction_set() -> str | None:
    """Which code runs on this machine, `avx512`, `avx2` or `generic`; None without the library."""
    library = _loaded()[0]
    if library is None:
        return None
    library.helixwave_instruction_set.restype = ctypes.c_char_p
    return library.helixwave_instruction_set().decode()


@functools.cache
def _loaded() -> tuple[ctypes.CDLL | None, str | None]:
    """The library, or why there is none."""
    paths = [Path(__file__).parents[1] / f"_native{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return None, f"the library was not built, there was no C compiler at install. {REBUILD}"
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return None, f"the library does not load ({error}). {REBUILD}"
    if stale := _stale(library):
        return None, f"the library is older than this version: {stale}. {REBUILD}"
    return library, None


def _stale(library: ctypes.CDLL) -> str | None:
    """What in the library is not as the sources beside this file say."""
    if not hasattr(library, "helixwave_abi") or library.helixwave_abi() != ABI:
        return "it has other conventions"
    for name, arguments in _exports():
        for precision in _PRECISIONS.values():
            if _arguments(library, name, precision) != arguments:
                return f"{name} is missing or has other arguments"
    return None


def _exports() -> Iterator[tuple[str, str]]:
    """Name and arguments of each function of the sources."""
    for path in Path(__file__).parent.glob("*.c"):
        yield from re.findall(r'^EXPORT\((\w+), "(\w+)"\)', path.read_text(), re.MULTILINE)


def _arguments(library: ctypes.CDLL, name: str, precision: str) -> str | None:
    """A letter for each argument of a function, as the library says; None if it lacks the function."""
    try:
        text = ctypes.c_char.in_dll(library, f"{name}_arguments_{precision}")
    except ValueError:
        return None
    return ctypes.string_at(ctypes.addressof(text)).decode()


@functools.cache
def _function(name: str, precision: torch.dtype, letters: str) -> Callable[..., None]:
    library, why = _loaded()
    if library is None:
        raise RuntimeError(f"{name}: {why}")
    ending = _PRECISIONS[precision]
    known = _arguments(library, name, ending)
    assert known is not None, f"the native library has no {name}_{ending}"
    assert known == letters, f"{name}_{ending} takes arguments {known}, not {letters}"
    function = library[f"{name}_{ending}"]
    function.argtypes = [_C_TYPES[letter] for letter in letters]
    function.restype = None
    return function
