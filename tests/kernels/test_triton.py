"""The Triton implementations mean what their references mean, and compile for GPUs that are not here.

Without a GPU the kernels run in Triton's interpreter (see conftest.py), slowly: sizes are tiny. The registry is the
list of tests.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helixwave_kernels import OPS, Op
from helixwave_kernels.agreement import error, results
from torch import Tensor
from torch.utils._pytree import tree_leaves

pytest.importorskip("triton")

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 8e-3}
IN_TRITON = [op for op in OPS if "triton" in op.impls]
# matrix products over a chunk weigh the steps of another document with zero, which hides numbers only
MIXES_STEPS = ("delta_rule", "gated_linear_attention", "ssd")
# what one program may have in shared memory, in bytes
SHARED = {80: 163 * 1024, 90: 227 * 1024}
NEEDS_NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here: test_gpu.py runs the real kernels")
# of an infinity that a GPU would compute in silence, often in a lane that is masked out
NUMPY_WARNS = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def cases(op: Op) -> Any:
    return importlib.import_module(f"helixwave_kernels.{op.__name__}.cases")


def implementation(op: Op) -> Any:
    return importlib.import_module(f"helixwave_kernels.{op.__name__}.triton")


def runs() -> Iterator[Any]:
    """Each (operator, variant, sizes, dtype, state, reset): several of the default variant, one of each other.

    One sequence alone is enough where what is new is not how sequences lie in memory.
    """
    for op in IN_TRITON:
        default, *others = cases(op).VARIANTS
        slow = {"marks": pytest.mark.slow}
        # two and three chunks; where steps follow each other one by one, few are enough and many are slow
        T, longer = (19, 37) if hasattr(implementation(op), "CHUNK") else (5, 8)
        # channels that fill their block, and channels that do not
        full, not_full = ({"D": 4}, {"D": 3}) if "D" in cases(op).MEASURED else ({}, {})
        alone = full | {"B": 1}
        yield pytest.param(op, default, alone | {"T": 1}, torch.float32, False, False, id=f"{op.__name__}-1")
        yield pytest.param(op, default, full | {"T": 2}, torch.float32, True, True, id=f"{op.__name__}-2")
        yield pytest.param(op, default, alone | {"T": T}, torch.float32, False, False, id=f"{op.__name__}-{T}", **slow)
        one_head = {"H": 1} if "H" in cases(op).MEASURED else {}
        yield pytest.param(
            op, default, not_full | one_head | {"T": longer}, torch.float32, True, True, id=f"{op.__name__}-{longer}"
        )
        yield pytest.param(op, default, alone | {"T": T}, torch.bfloat16, True, False, id=f"{op.__name__}-bfloat16")
        for variant in others:
            marks = {} if variant == others[0] else slow
            name = f"{op.__name__}-{variant}"
            yield pytest.param(op, variant, alone | {"T": T}, torch.float32, True, True, id=name, **marks)


@NEEDS_NO_GPU
@NUMPY_WARNS
@pytest.mark.parametrize(("op", "variant", "sizes", "dtype", "state", "reset"), list(runs()))
def test_matches_reference_in_the_interpreter(op, variant, sizes, dtype, state, reset, monkeypatch):
    shorten_chunks(op, monkeypatch)
    torch.manual_seed(sizes["T"])
    inputs = cases(op).random_inputs(variant, **sizes, dtype=dtype, state=state, reset=reset)
    skip_if_refused(op, inputs)
    assert_agrees(op, inputs, TOLERANCE[dtype])


@NEEDS_NO_GPU
@NUMPY_WARNS
@pytest.mark.parametrize("op", [op for op in IN_TRITON if op.__name__ not in MIXES_STEPS], ids=lambda op: op.__name__)
def test_nothing_comes_through_a_reset(op, monkeypatch):
    """Not even what is not a number, from the document before or, in the backward pass, from the one after."""
    shorten_chunks(op, monkeypatch)
    T, begin, end = (23, 3, 19) if hasattr(implementation(op), "CHUNK") else (7, 2, 5)
    torch.manual_seed(0)
    inputs = cases(op).random_inputs(T=T, reset=True)
    inputs["reset"] = torch.arange(T).expand(2, T) == begin
    inputs["reset"][:, end] = True
    expected, actual = (middle_document(op, impl, inputs, begin, end) for impl in ("reference", "triton"))
    for name, value in actual.items():
        assert error(value, expected[name]) <= TOLERANCE[torch.float32], name


def middle_document(op: Op, impl: str, inputs: dict[str, Any], begin: int, end: int) -> dict[str, Tensor]:
    """Outputs and gradients of the steps between, where for others than the reference all around is not a number."""
    T = inputs["reset"].shape[1]
    in_time = {}
    for name, value in inputs.items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 2 and value.shape[1] % T == 0:
            steps = value.unflatten(1, (T, -1)).clone()
            if impl != "reference":
                steps[:, :begin] = steps[:, end:] = torch.nan
            in_time[name] = steps.flatten(1, 2).requires_grad_()
    y = tree_leaves(op.impls[impl](**inputs | in_time))[0][:, begin:end]
    gradients = torch.autograd.grad(y.square().sum(), list(in_time.values()))
    parts = {f"gradient of {name}": gradient for name, gradient in zip(in_time, gradients, strict=True)}
    parts = {name: value.unflatten(1, (T, -1))[:, begin:end] for name, value in parts.items()}
    return {"y": y.detach()} | parts


@NEEDS_NO_GPU
@NUMPY_WARNS
@pytest.mark.parametrize(
    "op",
    [
        pytest.param(op, id=op.__name__, marks=[] if op.__name__ in ("delta_rule", "short_conv") else pytest.mark.slow)
        for op in IN_TRITON
    ],
)
def test_is_one_node_of_a_graph(op, monkeypatch):
    """torch.compile traces the shapes only, forward and backward."""
    shorten_chunks(op, monkeypatch)
    one_head = {"H": 1} if "H" in cases(op).MEASURED else {}
    inputs = cases(op).random_inputs(B=1, T=3, **one_head, state=True, reset=True)
    compiled = torch.compile(op.impls["triton"], backend="aot_eager", fullgraph=True)
    comparable = getattr(cases(op), "comparable", None)
    expected, actual = (results(function, inputs, comparable) for function in (op.impls["triton"], compiled))
    for name, value in actual.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0, equal_nan=True)


@NEEDS_NO_GPU
@NUMPY_WARNS
@pytest.mark.parametrize("cell", ["slstm", "lstm", "gru", "elman"])
def test_recurrent_heads_too_wide_for_one_program(cell, monkeypatch):
    recurrent = next(op for op in OPS if op.__name__ == "recurrent")
    monkeypatch.setattr(implementation(recurrent), "MOST_UNITS", 0)
    inputs = cases(recurrent).random_inputs(cell, T=4, P=5, state=True, reset=True)
    inputs["reset"][:, 0::2] = True
    assert_agrees(recurrent, inputs, TOLERANCE[torch.float32])


def shorten_chunks(op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks in a short sequence; no matrix product takes less than 16."""
    if hasattr(implementation(op), "CHUNK"):
        monkeypatch.setattr(implementation(op), "CHUNK", 16)


def assert_agrees(op: Op, inputs: dict[str, Any], tolerance: float) -> None:
    comparable = getattr(cases(op), "comparable", None)
    expected, actual = (results(op.impls[impl], inputs, comparable) for impl in ("reference", "triton"))
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        assert value.dtype == expected[name].dtype, name
        assert value.shape == expected[name].shape, name
        ratio = error(value, expected[name])
        assert ratio <= tolerance, f"{name} is off by {ratio:.1e} of its size, allowed {tolerance:.0e}"


def skip_if_refused(op: Op, inputs: dict[str, Any]) -> None:
    """Skip a call that would be refused on a GPU too: for another reason than that its tensors are on the CPU."""
    reason = op.refusal("triton", **inputs)
    if reason and not reason.endswith("is on cpu"):
        pytest.skip(f"refused: {reason}")


def compile_lines(*arguments: str) -> list[dict[str, Any]]:
    script = Path(__file__).with_name("compile_kernels.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_compiled(lines: list[dict[str, Any]]) -> None:
    kernels = {line["kernel"] for line in lines}
    assert any("_fwd_" in kernel for kernel in kernels), kernels
    assert any("_bwd_" in kernel for kernel in kernels), kernels
    for line in lines:
        assert line["target"].startswith(f"sm_{line['arch']}"), line
        assert line["shared"] <= SHARED[line["arch"]], line


SMALL_TILES = ["--chunk", "16", "--size", "K=16", "V=16", "P=16", "N=16"]


QUICKLY_COMPILED = ["delta_rule", "linear_scan", "recurrent", "selective_scan", "short_conv"]
ALL_IN_TRITON = [op.__name__ for op in IN_TRITON]


@pytest.mark.parametrize(
    ("names", "target"),
    [
        (QUICKLY_COMPILED, "90:bfloat16"),
        pytest.param(ALL_IN_TRITON, "90:bfloat16", marks=pytest.mark.slow),
        pytest.param(ALL_IN_TRITON, "80:float32", marks=pytest.mark.slow),
    ],
    ids=["quick", "90:bfloat16", "80:float32"],
)
def test_compiles_to_ptx(names, target):
    """The default variants, forward and backward, in small tiles; test_compiles_to_machine_code: full size."""
    lines = compile_lines(*names, "--first", "--target", target, *SMALL_TILES)
    for name in names:
        check_compiled([line for line in lines if line["operator"] == name])


@pytest.mark.slow
@pytest.mark.parametrize("op", IN_TRITON, ids=lambda op: op.__name__)
def test_compiles_to_machine_code(op):
    """All variants; then sizes of one, which Triton takes for constants."""
    lines = compile_lines(op.__name__, "--cubin")
    check_compiled(lines)
    assert all(line["bytes"] for line in lines)
    check_compiled(compile_lines(op.__name__, "--size", "B=1", "T=1", "--target", "80:float32"))
