"""Every implementation of every operator means what its reference means; the registry is the list of tests."""

import functools
import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helixwave_kernels import OPS, Op
from helixwave_kernels.agreement import error, is_continuous, results
from torch import Tensor
from torch.utils._pytree import tree_leaves

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 8e-3}


def cases(op: Op) -> Any:
    return importlib.import_module(f"helixwave_kernels.{op.__name__}.cases")


def pairs(*, with_reference: bool = True, stateful_only: bool = False) -> Iterator[Any]:
    """Each (operator, variant, implementation)."""
    for op in OPS:
        for variant in cases(op).VARIANTS:
            if stateful_only and "initial_state" not in cases(op).random_inputs(variant, state=True):
                continue
            for impl in op.impls:
                if impl != "reference" or with_reference:
                    yield pytest.param(op, variant, impl, id=f"{op.__name__}-{variant}-{impl}")


PAIRS = list(pairs(with_reference=False))
ALL = list(pairs())
# all but the convolutions that look ahead or wrap around
CAUSAL = list(pairs(stateful_only=True))


@pytest.mark.parametrize("reset", [False, True], ids=["", "reset"])
@pytest.mark.parametrize("state", [False, True], ids=["", "state"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("T", [1, 2, 63, 64, 257])
@pytest.mark.parametrize(("op", "variant", "impl"), PAIRS)
def test_matches_reference(op, variant, impl, T, dtype, state, reset):
    torch.manual_seed(T)
    inputs = cases(op).random_inputs(variant, T=T, dtype=dtype, state=state, reset=reset)
    expected, actual = (results(functools.partial(op, impl=each), inputs) for each in ("reference", impl))
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        assert_close(f"{name} of {op.__name__} ({impl})", value, expected[name], TOLERANCE[dtype])


@pytest.mark.parametrize("reset", [False, True], ids=["", "reset"])
@pytest.mark.parametrize(("op", "variant", "impl"), CAUSAL)
def test_state_carries_over(op, variant, impl, reset):
    """Two halves with the state handed over equal one pass."""
    inputs = cases(op).random_inputs(variant, T=45, state=True, reset=reset, dtype=torch.float64)
    whole = tree_leaves(op(**inputs, impl=impl))
    first_y, *state = tree_leaves(op(**in_time(inputs, slice(0, 20)), impl=impl))
    rest = in_time(inputs, slice(20, None)) | {"initial_state": state[0] if len(state) == 1 else tuple(state)}
    rest_y, *state = tree_leaves(op(**rest, impl=impl))
    for name, value, expected in zip(["y", "state"], [torch.cat([first_y, rest_y], 1), *state], whole, strict=False):
        assert_close(name, value, expected, 1e-10)


@pytest.mark.parametrize(("op", "variant", "impl"), ALL)
def test_gradients_by_finite_differences(op, variant, impl):
    inputs = cases(op).random_inputs(variant, B=1, T=18, D=2, state=True, reset=True, dtype=torch.float64)
    tensors = {name: value.requires_grad_() for name, value in inputs.items() if is_continuous(value)}

    def call(*values: Tensor) -> tuple[Tensor, ...]:
        outputs = op(**inputs | dict(zip(tensors, values, strict=True)), impl=impl)
        return tuple(leaf for leaf in tree_leaves(outputs) if leaf.numel())

    assert torch.autograd.gradcheck(call, tuple(tensors.values()), fast_mode=True)


@pytest.mark.parametrize("reset", [False, True], ids=["", "reset"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize(("op", "variant", "impl"), ALL)
def test_result_dtypes(op, variant, impl, dtype, reset):
    """y comes in the dtype of the input, states in float32 or wider, under autocast too."""
    inputs = cases(op).random_inputs(variant, T=5, dtype=dtype, state=True, reset=reset)
    y, *states = tree_leaves(op(**inputs, impl=impl))
    assert y.dtype == next(iter(inputs.values())).dtype
    assert all(torch.promote_types(state.dtype, torch.float32) == state.dtype for state in states)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = tree_leaves(op(**inputs, impl=impl))
    for value, expected in zip(again, [y, *states], strict=True):
        torch.testing.assert_close(value, expected, rtol=0, atol=0)


@pytest.mark.parametrize(("op", "variant", "impl"), CAUSAL)
def test_output_ignores_later_inputs(op, variant, impl):
    inputs = cases(op).random_inputs(variant, T=40, dtype=torch.float64)
    changed = {name: disturbed(value, after=25) if runs_in_time(value, 40) else value for name, value in inputs.items()}
    y, later_y = (tree_leaves(op(**each, impl=impl))[0][:, :25] for each in (inputs, changed))
    assert_close("y", later_y, y, 1e-10)


def assert_close(name: str, actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape, f"{name} has shape {list(actual.shape)}, expected {list(expected.shape)}"
    assert actual.dtype == expected.dtype, f"{name} is {actual.dtype}, expected {expected.dtype}"
    ratio = error(actual, expected)
    assert ratio <= tolerance, f"{name} is off by {ratio:.1e} of its size, allowed {tolerance:.0e}"


def runs_in_time(value: Any, T: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 1 and value.shape[1] == T and value.shape[0] == 2


def in_time(inputs: dict[str, Any], part: slice) -> dict[str, Any]:
    T = next(iter(inputs.values())).shape[1]
    return {name: value[:, part] if runs_in_time(value, T) else value for name, value in inputs.items()}


def disturbed(value: Tensor, *, after: int) -> Tensor:
    return torch.cat([value[:, :after], torch.randn_like(value[:, after:])], dim=1)
