"""Compiles, without a GPU, what the Triton implementations of operators launch.

    python tests/kernels/compile_kernels.py selective_scan ssd --target 90:bfloat16 --cubin

The implementation runs forward and backward on CPU tensors, with every launch caught and compiled for the wanted GPUs
instead of run. Prints one line of JSON for each kernel that was compiled.
"""

import argparse
import importlib
import inspect
import json
import os
import tempfile
from collections.abc import Iterator
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

import torch
import triton
from helixwave_kernels import OPS, Op
from helixwave_kernels.agreement import results
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

TARGETS = ["80:float32", "80:bfloat16", "90:float32", "90:bfloat16"]
TYPES = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.bool: "i1",
    torch.uint8: "u8",
    torch.int32: "i32",
    torch.int64: "i64",
}
Launch = tuple[JITFunction, dict[str, Any], dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("operator", nargs="+", choices=[op.__name__ for op in OPS if "triton" in op.impls])
    parser.add_argument("--target", nargs="+", default=TARGETS, metavar="80:float32")
    parser.add_argument("--first", action="store_true", help="only the first variant of each operator")
    parser.add_argument(
        "--size", nargs="+", default=[], metavar="P=128", help="other than the bench's, of axes that there are"
    )
    parser.add_argument("--chunk", type=int, help="steps of a chunk, where there are chunks")
    parser.add_argument("--cubin", action="store_true", help="go on to machine code, not only to PTX")
    arguments = parser.parse_args()
    if not arguments.cubin:
        CUDABackend.make_cubin = lambda *_: b""
    for op in OPS:
        if op.__name__ in arguments.operator:
            compile_operator(op, arguments)


def compile_operator(op: Op, arguments: argparse.Namespace) -> None:
    cases = importlib.import_module(f"helixwave_kernels.{op.__name__}.cases")
    sizes = {"T": 300} | cases.MEASURED
    given = {name: int(size) for name, _, size in (part.partition("=") for part in arguments.size)}
    sizes |= {name: size for name, size in given.items() if name in sizes}
    implementation = importlib.import_module(f"helixwave_kernels.{op.__name__}.triton")
    if arguments.chunk and hasattr(implementation, "CHUNK"):
        implementation.CHUNK = arguments.chunk
    seen: set[str] = set()
    for variant in cases.VARIANTS[: 1 if arguments.first else None]:
        for target in arguments.target:
            arch, _, name = target.partition(":")
            dtype = getattr(torch, name)
            inputs = cases.random_inputs(variant, dtype=dtype, state=True, reset=True, **sizes)
            for launch in launches(op, inputs, getattr(cases, "comparable", None)):
                for line in compiled(launch, int(arch), seen):
                    line = {"operator": op.__name__, "variant": variant, "dtype": name} | line
                    print(json.dumps(line), flush=True)


def launches(op: Op, inputs: dict[str, Any], comparable: Any) -> list[Launch]:
    """What a forward and backward pass would launch: kernels, their arguments by name, and the launch's options."""
    caught: list[Launch] = []

    def catch(kernel: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        names = [name for name in kwargs if name in kernel.arg_names]
        bound = inspect.signature(kernel.fn).bind(*args, **{name: kwargs.pop(name) for name in names})
        bound.apply_defaults()
        assert grid(bound.arguments) if callable(grid) else all(isinstance(size, int) and size > 0 for size in grid)
        caught.append((kernel, dict(bound.arguments), kwargs))

    JITFunction.run = catch
    results(op.impls["triton"], inputs, comparable)
    return caught


def compiled(launch: Launch, arch: int, seen: set[str]) -> Iterator[dict[str, Any]]:
    kernel, arguments, options = launch
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}
    for position, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        specialize = not parameter.do_not_specialize
        is_constant = parameter.is_constexpr or value is None or (specialize and type(value) is int and value == 1)
        signature[parameter.name] = "constexpr" if is_constant else type_of(value)
        if signature[parameter.name] == "constexpr":
            constants[(position,)] = value
        elif isinstance(value, torch.Tensor) or (specialize and type(value) is int and value % 16 == 0):
            attributes[(position,)] = [["tt.divisibility", 16]]
    key = repr((kernel.fn.__name__, signature, constants, attributes, options, arch))
    if key in seen:
        return
    seen.add(key)
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    binary = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    yield {
        "kernel": kernel.fn.__name__,
        "arch": arch,
        "target": next(line for line in binary.asm["ptx"].splitlines() if line.startswith(".target")).split()[1],
        "shared": binary.metadata.shared,
        "warps": binary.metadata.num_warps,
        "bytes": len(binary.asm.get("cubin", b"")),
    }


def type_of(value: Any) -> str:
    """Triton's name of an argument's type."""
    if isinstance(value, torch.Tensor):
        return "*" + TYPES[value.dtype]
    if isinstance(value, bool):
        return "i1"
    if isinstance(value, int):
        return "i32" if -(2**31) <= value < 2**31 else "i64"
    return "fp32"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="triton-") as cache:
        os.environ["TRITON_CACHE_DIR"] = cache
        main()
