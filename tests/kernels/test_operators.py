"""Every implementation of every operator means what its reference means; the registry is the list of tests.

`triton` runs on a GPU (`test_gpu.py`) and in the interpreter (`test_triton.py`); here is what runs on the CPU.
"""

import functools
import importlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from helixwave_kernels import OPS, Op
from helixwave_kernels.agreement import continuous, error, is_continuous, results
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 8e-3}
LENGTHS = [1, 2, 63, 64, 257]
BY_NAME = {op.__name__: op for op in OPS}


def cases(op: Op) -> Any:
    return importlib.import_module(f"helixwave_kernels.{op.__name__}.cases")


def comparable(op: Op) -> Callable[[Any], Any] | None:
    return getattr(cases(op), "comparable", None)


def runs_here(op: Op, impl: str, variant: str) -> bool:
    return op.refusal(impl, **cases(op).random_inputs(variant, T=2)) is None


def variants() -> Iterator[tuple[Op, str, str]]:
    """Each (operator, variant, implementation) that runs on this machine's CPU."""
    for op in OPS:
        for variant in cases(op).VARIANTS:
            yield from ((op, variant, impl) for impl in op.impls if runs_here(op, impl, variant))


def parameters(chosen: Iterator[tuple[Op, str, str]]) -> list[Any]:
    return [pytest.param(op, variant, impl, id=f"{op.__name__}-{variant}-{impl}") for op, variant, impl in chosen]


ALL = parameters(variants())
# what has a state and runs in time: all but kernels, and the convolutions that look ahead or wrap around
CAUSAL = parameters(
    each for each in variants() if "initial_state" in cases(each[0]).random_inputs(each[1], T=2, state=True)
)
DEFAULTS = [
    each for each in ALL if each.values[1] == cases(each.values[0]).VARIANTS[0] and each.values[2] != "reference"
]


def slow_unless(quick: Callable[[Any], bool], chosen: list[Any]) -> list[Any]:
    """The same parameters, of which those that are not quick are for `make test-all`."""
    return [each if quick(each) else pytest.param(*each.values, id=each.id, marks=pytest.mark.slow) for each in chosen]


def agreement_cases() -> Iterator[Any]:
    """Everything with everything for an operator's first variant, two lengths for the others.

    Implementations change fastest, so that they share the reference's result.
    """
    for op in OPS:
        for variant in cases(op).VARIANTS:
            everything = itertools.product(LENGTHS, TOLERANCE, [False, True], [False, True])
            little = [(T, torch.float32, both, both) for T in (2, 63) for both in (False, True)]
            impls = [impl for impl in op.impls if impl != "reference" and runs_here(op, impl, variant)]
            for T, dtype, state, reset in everything if variant == cases(op).VARIANTS[0] else little:
                for impl in impls:
                    options = f"{'-state' if state else ''}{'-reset' if reset else ''}"
                    name = f"{op.__name__}-{variant}-{impl}-{T}-{str(dtype).removeprefix('torch.')}{options}"
                    yield pytest.param(op.__name__, variant, T, dtype, state, reset, impl, id=name)


def is_quick_agreement(parameters: Any) -> bool:
    """A state and a reset alone are tried at one length, in bfloat16 is no length that full precision has not."""
    _, _, T, dtype, state, reset, _ = parameters.values
    return (T == 63 and dtype == torch.float32) or (state == reset and (dtype == torch.float32 or T in (2, 63, 257)))


@pytest.mark.parametrize(
    ("name", "variant", "T", "dtype", "state", "reset", "impl"),
    slow_unless(is_quick_agreement, list(agreement_cases())),
)
def test_matches_reference(name, variant, T, dtype, state, reset, impl):
    expected, actual = (result(name, variant, T, dtype, state, reset, each) for each in ("reference", impl))
    assert actual.keys() == expected.keys()
    for what, value in actual.items():
        assert_close(f"{what} of {name} ({impl})", value, expected[what], TOLERANCE[dtype])


@functools.lru_cache(maxsize=2)
def result(
    name: str, variant: str, T: int, dtype: torch.dtype, state: bool, reset: bool, impl: str
) -> dict[str, Tensor]:
    op = BY_NAME[name]
    torch.manual_seed(T)
    inputs = cases(op).random_inputs(variant, T=T, dtype=dtype, state=state, reset=reset)
    return results(functools.partial(op, impl=impl), inputs, comparable(op))


@pytest.mark.parametrize("reset", [False, True], ids=["", "reset"])
@pytest.mark.parametrize(("op", "variant", "impl"), CAUSAL)
def test_state_carries_over(op, variant, impl, reset):
    """Two halves with the state handed over equal one pass."""
    torch.manual_seed(0)
    inputs = cases(op).random_inputs(variant, T=45, state=True, reset=reset, dtype=torch.float64)
    whole = op(**inputs, impl=impl)
    first_y, state = op(**in_time(inputs, slice(0, 20), 45), impl=impl)
    rest_y, state = op(**in_time(inputs, slice(20, 45), 45) | {"initial_state": state}, impl=impl)
    meaning = comparable(op) or (lambda outputs: outputs)
    halves = tree_leaves(meaning((torch.cat([first_y, rest_y], 1), state)))
    for i, (value, expected) in enumerate(zip(halves, tree_leaves(meaning(whole)), strict=True)):
        assert_close(f"state {i}" if i else "y", value, expected, 1e-10)


def is_reference_or_default(parameters: Any) -> bool:
    """Whose gradients finite differences judge each time; those of others are compared with the reference's."""
    op, variant, impl = parameters.values
    return impl == "reference" or variant == cases(op).VARIANTS[0]


@pytest.mark.parametrize(("op", "variant", "impl"), slow_unless(is_reference_or_default, ALL))
def test_gradients_by_finite_differences(op, variant, impl):
    torch.manual_seed(0)
    inputs = cases(op).random_inputs(variant, B=1, T=18, state=True, reset=True, dtype=torch.float64)
    leaves, structure = tree_flatten(inputs)
    places = [i for i, leaf in enumerate(leaves) if is_continuous(leaf)]

    def call(*values: Tensor) -> tuple[Tensor, ...]:
        changed = list(leaves)
        for place, value in zip(places, values, strict=True):
            changed[place] = value
        outputs = op(**tree_unflatten(changed, structure), impl=impl)
        meaning = comparable(op)
        return tuple(leaf for leaf in tree_leaves(meaning(outputs) if meaning else outputs) if leaf.numel())

    assert torch.autograd.gradcheck(call, tuple(leaves[place].requires_grad_() for place in places), fast_mode=True)


@pytest.mark.parametrize(("op", "variant", "impl"), ALL)
def test_result_dtypes(op, variant, impl):
    """y comes in the dtype of the input, states in float32 or wider, under autocast too."""
    for dtype, reset in itertools.product((torch.float32, torch.bfloat16, torch.float64), (False, True)):
        inputs = cases(op).random_inputs(variant, T=5, dtype=dtype, state=True, reset=reset)
        expect_dtypes(op, impl, inputs)


def expect_dtypes(op, impl, inputs):
    y, *states = tree_leaves(op(**inputs, impl=impl))
    first = next(value for value in inputs.values() if isinstance(value, Tensor))
    assert y.dtype == (first.dtype if y.is_complex() else first.dtype.to_real())
    assert all(torch.promote_types(state.dtype, torch.float32) == state.dtype for state in states)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = tree_leaves(op(**inputs, impl=impl))
    for value, expected in zip(again, [y, *states], strict=True):
        torch.testing.assert_close(value, expected, rtol=0, atol=0)


@pytest.mark.parametrize(("op", "variant", "impl"), CAUSAL)
def test_output_ignores_later_inputs(op, variant, impl):
    inputs = cases(op).random_inputs(variant, T=40, dtype=torch.float64)
    changed = {
        name: disturbed(value, after=25 * value.shape[1] // 40) if runs_in_time(value, 40) else value
        for name, value in inputs.items()
    }
    y, later_y = (tree_leaves(op(**each, impl=impl))[0][:, :25] for each in (inputs, changed))
    assert_close("y", later_y, y, 1e-10)


@pytest.mark.parametrize(("op", "variant", "impl"), [each for each in CAUSAL if each.values[2] != "chunked"])
def test_a_new_sequence_forgets_what_was_wrong_before(op, variant, impl):
    """A NaN before a reset is not seen after it, where the steps are taken one by one (a matrix product mixes rows)."""
    inputs = cases(op).random_inputs(variant, T=40, state=True)
    inputs["reset"] = torch.zeros(2, 40, dtype=torch.bool)
    inputs["reset"][:, 17] = True
    y, state = op(**inputs, impl=impl)
    first = next(name for name, value in inputs.items() if runs_in_time(value, 40))
    broken = inputs | {first: inputs[first].clone()}
    broken[first][:, 11 * broken[first].shape[1] // 40] = torch.nan
    broken_y, broken_state = op(**broken, impl=impl)
    assert_close("y", broken_y[:, 17:], y[:, 17:], 1e-6)
    for i, (value, expected) in enumerate(zip(tree_leaves(broken_state), tree_leaves(state), strict=True)):
        assert_close(f"state {i}", value, expected, 1e-6)


class Layer(torch.nn.Module):
    """An operator as torch.compile and torch.export meet it: tensors come in, options are constants."""

    def __init__(self, op: Op, impl: str, options: dict[str, Any]):
        super().__init__()
        self.op, self.impl, self.options = op, impl, options

    def forward(self, tensors: dict[str, Any]) -> Any:
        return self.op(**tensors, **self.options, impl=self.impl)


def layer(op: Op, impl: str, inputs: dict[str, Any]) -> tuple[Layer, dict[str, Any]]:
    tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor | tuple)}
    return Layer(op, impl, {name: value for name, value in inputs.items() if name not in tensors}), tensors


def is_preferred(parameters: Any) -> bool:
    """Whether it is the first implementation of its operator, of those beside the reference."""
    op, variant, impl = parameters.values
    return impl == next(each for each in op.impls if each != "reference" and runs_here(op, each, variant))


@pytest.mark.parametrize(("op", "variant", "impl"), slow_unless(is_preferred, DEFAULTS))
def test_compiles_as_one_graph(op, variant, impl):
    torch.manual_seed(0)
    inputs = cases(op).random_inputs(variant, T=20, state=True, reset=True)
    eager, tensors = layer(op, impl, inputs)
    torch._dynamo.reset()  # each operator is a recompilation of the same layer, and their number is limited
    compiled = torch.compile(eager, backend="aot_eager", fullgraph=True)
    calls = [lambda module=module, **tensors: module(tensors) for module in (eager, compiled)]
    expected, actual = (results(call, tensors, comparable(op)) for call in calls)
    for name, value in actual.items():
        assert_close(name, value, expected[name], 1e-6)


# what exports for any length exports for one
@pytest.mark.parametrize(("op", "variant", "impl"), slow_unless(lambda each: each not in CAUSAL, DEFAULTS))
def test_exports(op, variant, impl):
    module, tensors = layer(op, impl, cases(op).random_inputs(variant, T=20, state=True, reset=True))
    program = torch.export.export(module, (tensors,))
    for exported, eager in zip(tree_leaves(program.module()(tensors)), tree_leaves(module(tensors)), strict=True):
        torch.testing.assert_close(exported, eager)


@pytest.mark.parametrize(
    ("op", "variant", "impl"), slow_unless(is_preferred, [each for each in DEFAULTS if each in CAUSAL])
)
def test_exports_for_any_length(op, variant, impl):
    module, tensors = layer(op, impl, cases(op).random_inputs(variant, T=20, state=True, reset=True))
    _, longer = layer(op, impl, cases(op).random_inputs(variant, T=33, state=True, reset=True))
    T = torch.export.Dim("T", min=2, max=4096)
    rows = {name: value.shape[1] // 20 for name, value in tensors.items() if runs_in_time(value, 20)}
    shapes = {
        name: {1: rows[name] * T} if name in rows else tree_map(lambda _: None, value)
        for name, value in tensors.items()
    }
    program = torch.export.export(module, (tensors,), dynamic_shapes=(shapes,))
    other = tensors | {name: longer[name] for name in rows}
    for exported, eager in zip(tree_leaves(program.module()(other)), tree_leaves(module(other)), strict=True):
        torch.testing.assert_close(exported, eager)


def assert_close(name: str, actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape, f"{name} has shape {list(actual.shape)}, expected {list(expected.shape)}"
    assert actual.dtype == expected.dtype, f"{name} is {actual.dtype}, expected {expected.dtype}"
    ratio = error(actual, expected)
    assert ratio <= tolerance, f"{name} is off by {ratio:.1e} of its size, allowed {tolerance:.0e}"


def runs_in_time(value: Any, T: int) -> bool:
    """Whether the second axis of a tensor is time, with one or several rows a step."""
    return (
        isinstance(value, Tensor)
        and value.ndim > 1
        and value.shape[0] == 2
        and 0 == value.shape[1] % T < value.shape[1]
    )


def in_time(inputs: dict[str, Any], part: slice, T: int) -> dict[str, Any]:
    def cut(value: Any) -> Any:
        rows = value.shape[1] // T
        return value[:, part.start * rows : part.stop * rows]

    return {name: cut(value) if runs_in_time(value, T) else value for name, value in inputs.items()}


def disturbed(value: Tensor, *, after: int) -> Tensor:
    return torch.cat([value[:, :after], torch.randn_like(value[:, after:])], dim=1)


def test_states_that_are_tuples_are_named() -> None:
    named = continuous({"x": torch.zeros(1), "initial_state": (torch.zeros(1), torch.zeros(2)), "mode": "causal"})
    assert list(named) == ["x", "initial_state 0", "initial_state 1"]
