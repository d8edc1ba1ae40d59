"""Every implementation that runs on a GPU means there what its reference means.

    python -m pytest --confcutdir=tests/kernels tests/kernels/test_gpu.py

needs nothing but torch, triton and pytest.
"""

import functools
import importlib
from typing import Any

import pytest
import torch
from helixwave_kernels import OPS, Op
from helixwave_kernels.agreement import error, results
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here"),
    # torch's thread for gradients says so at its first product
    pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS"),
]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 8e-3}
LENGTHS = (1, 2, 63, 64, 257, 1000)
PAIRS = [(op, impl) for op in OPS for impl in ("chunked", "triton") if impl in op.impls]


def cases(op: Op) -> Any:
    return importlib.import_module(f"helixwave_kernels.{op.__name__}.cases")


def on_gpu(op: Op, variant: str, **options: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    inputs = cases(op).random_inputs(variant, **options)
    return tree_map(lambda value: value.cuda() if isinstance(value, Tensor) else value, inputs)


def assert_agrees(op: Op, impl: str, inputs: dict[str, Any], tolerance: float) -> None:
    reason = op.refusal(impl, **inputs)
    if reason:
        pytest.skip(f"{impl} refuses: {reason}")
    comparable = getattr(cases(op), "comparable", None)
    expected, actual = (results(functools.partial(op, impl=each), inputs, comparable) for each in ("reference", impl))
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        assert value.device.type == "cuda", name
        assert (value.dtype, value.shape) == (expected[name].dtype, expected[name].shape), name
        ratio = error(value, expected[name])
        assert ratio <= tolerance, f"{name} of {op.__name__} ({impl}) is off by {ratio:.1e}, allowed {tolerance:.0e}"


@pytest.fixture(autouse=True)
def products_in_full_precision():
    """No TF32 in the reference's matrix products; the environment's choice comes back afterwards."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("reset", [False, True], ids=["", "reset"])
@pytest.mark.parametrize("state", [False, True], ids=["", "state"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize(("op", "impl"), [pytest.param(*pair, id=f"{pair[0].__name__}-{pair[1]}") for pair in PAIRS])
def test_matches_reference(op, impl, T, dtype, state, reset):
    inputs = on_gpu(op, cases(op).VARIANTS[0], T=T, dtype=dtype, state=state, reset=reset)
    assert_agrees(op, impl, inputs, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(
    ("op", "impl", "variant"),
    [
        pytest.param(op, impl, variant, id=f"{op.__name__}-{variant}-{impl}")
        for op, impl in PAIRS
        for variant in cases(op).VARIANTS[1:]
    ],
)
def test_variant_matches_reference(op, impl, variant, dtype):
    inputs = on_gpu(op, variant, T=257, dtype=dtype, state=True, reset=True)
    assert_agrees(op, impl, inputs, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("op", [op for op in OPS if "triton" in op.impls], ids=lambda op: op.__name__)
def test_matches_reference_at_full_size(op, dtype):
    """Blocks of the sizes that are launched in earnest."""
    inputs = on_gpu(op, cases(op).VARIANTS[0], T=300, dtype=dtype, state=True, reset=True, **cases(op).MEASURED)
    assert_agrees(op, "triton", inputs, TOLERANCE[dtype])


@pytest.mark.parametrize("op", [op for op in OPS if "triton" in op.impls], ids=lambda op: op.__name__)
def test_runs_are_equal_bit_by_bit(op):
    inputs = on_gpu(op, cases(op).VARIANTS[0], T=257, state=True, reset=True)
    assert op.refusal("triton", **inputs) is None
    comparable = getattr(cases(op), "comparable", None)
    first, second = (results(functools.partial(op, impl="triton"), inputs, comparable) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("op", [op for op in OPS if "triton" in op.impls], ids=lambda op: op.__name__)
def test_is_the_choice_on_a_gpu(op):
    inputs = on_gpu(op, cases(op).VARIANTS[0], T=33)
    chosen, forced = (tree_leaves(op(**inputs, impl=impl)) for impl in (None, "triton"))
    assert all(torch.equal(value, expected) for value, expected in zip(chosen, forced, strict=True))


@pytest.mark.parametrize("cell", ["slstm", "lstm", "gru", "elman"])
def test_recurrent_heads_too_wide_for_one_program(cell):
    recurrent = next(op for op in OPS if op.__name__ == "recurrent")
    inputs = on_gpu(recurrent, cell, T=33, P=96, state=True, reset=True)
    assert_agrees(recurrent, "triton", inputs, TOLERANCE[torch.float32])
