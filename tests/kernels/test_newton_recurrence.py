import functools

import pytest
import torch
from helixwave_kernels import native, newton_recurrence
from helixwave_kernels.agreement import error, results
from helixwave_kernels.newton_recurrence import chunked
from helixwave_kernels.newton_recurrence.cases import VARIANTS, random_inputs
from torch import Tensor

NATIVE = pytest.param("native", marks=pytest.mark.skipif(native.reason() is not None, reason=str(native.reason())))
IMPLS = pytest.mark.parametrize("impl", ["reference", "chunked", NATIVE])
FAST = pytest.mark.parametrize("impl", ["chunked", NATIVE])
CELLS = pytest.mark.parametrize("cell", ["gru", "lstm"])


@pytest.fixture
def short_segments(monkeypatch):
    """Sixteen steps at a time."""
    monkeypatch.setitem(chunked.SEGMENT, "cpu", 1)


@pytest.mark.parametrize("reset", [False, True], ids=["", "reset"])
@pytest.mark.parametrize("T", [1, 15, 16, 17, 100])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.usefixtures("short_segments")
def test_segments_follow_each_other(variant, T, reset):
    inputs = random_inputs(variant, T=T, state=True, reset=reset, dtype=torch.float64)
    expected, actual = (results(functools.partial(newton_recurrence, impl=i), inputs) for i in ("reference", "chunked"))
    for name, value in expected.items():
        assert error(actual[name], value) < 1e-10, name


@FAST
@pytest.mark.parametrize(("B", "D"), [(1, 1), (3, 65), (2, 130), (5, 17)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_all_sizes_match_the_reference(variant, B, D, impl):
    inputs = random_inputs(variant, B=B, T=37, D=D, state=True, reset=True, dtype=torch.float64)
    expected, actual = (results(functools.partial(newton_recurrence, impl=i), inputs) for i in ("reference", impl))
    for name, value in expected.items():
        assert error(actual[name], value) < 1e-10, name


@pytest.mark.parametrize("variant", VARIANTS)
def test_few_iterations_solve_a_long_sequence(variant):
    inputs = random_inputs(variant, T=2000, D=16)
    y, state, iterations = newton_recurrence(**inputs, impl="chunked", return_iterations=True)
    expected_y, expected_state, none = newton_recurrence(**inputs, impl="reference", return_iterations=True)
    assert none.item() == 0
    assert 2 <= iterations.item() <= 7
    assert iterations.dtype == torch.int64
    assert error(y, expected_y) < 1e-5
    assert all(error(part, expected) < 1e-5 for part, expected in zip(state, expected_state, strict=True))


@CELLS
def test_refuses_to_return_what_has_not_converged(cell):
    inputs = random_inputs(cell, T=200)
    message = r"not converged after 2 iterations: the last changed a state by .* Raise max_iterations, or .*'reference'"
    with pytest.raises(RuntimeError, match=message):
        newton_recurrence(**inputs, max_iterations=2, impl="chunked")
    inputs["x"][0, 5] = torch.nan
    with pytest.raises(RuntimeError, match="changed a state by nan"):
        newton_recurrence(**inputs, impl="chunked")


@CELLS
def test_wild_weights_converge_or_raise(cell):
    """Where the recurrence is chaotic, iterations overflow; what comes back is right all the same."""
    inputs = random_inputs(cell, T=64, dtype=torch.float64)
    inputs["diagonal"] = inputs["diagonal"] * 12
    expected = newton_recurrence(**inputs, impl="reference")[0]
    try:
        y = newton_recurrence(**inputs, max_iterations=100, impl="chunked")[0]
    except RuntimeError:
        return
    assert error(y, expected) < 1e-6


def test_tolerance_is_obeyed():
    inputs = random_inputs(T=200, dtype=torch.float64)
    loose, tight = (
        newton_recurrence(**inputs, tolerance=tolerance, impl="chunked", return_iterations=True)[2]
        for tolerance in (1e-1, 1e-12)
    )
    assert loose < tight


@IMPLS
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_by_finite_differences(variant, impl):
    inputs = random_inputs(variant, T=6, D=2, state=True, reset=True, dtype=torch.float64)
    inputs["reset"][0, 3] = True
    state = inputs.pop("initial_state")
    tensors = {name: inputs.pop(name) for name in ("x", "diagonal", "peephole") if name in inputs}
    values = [value.requires_grad_() for value in (*tensors.values(), *state)]

    def call(*values: Tensor) -> tuple[Tensor, ...]:
        given = inputs | dict(zip(tensors, values, strict=False))
        y, state = newton_recurrence(**given, initial_state=values[len(tensors) :], impl=impl)
        return y, *state

    assert torch.autograd.gradcheck(call, values)


@IMPLS
@CELLS
def test_open_gates_keep_the_memory(cell, impl):
    """z = -inf freezes a gru, f = inf the memory of an lstm; the gradients stay finite."""
    inputs = random_inputs(cell, T=12, state=True)
    inputs["x"][:, 6:, 0] = -torch.inf if cell == "gru" else torch.inf
    x = inputs["x"].requires_grad_()
    y, state = newton_recurrence(**inputs, impl=impl)
    _, before = newton_recurrence(**inputs | {"x": x[:, :6]}, impl=impl)
    torch.testing.assert_close(state[-1], before[-1])
    (y.sum() + state[-1].square().sum()).backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("impl", ["reference", NATIVE])
@CELLS
def test_nan_does_not_pass_a_reset(cell, impl):
    inputs = random_inputs(cell, T=12)
    inputs["reset"] = torch.zeros(2, 12, dtype=torch.bool)
    inputs["reset"][:, 7] = True
    inputs["x"][:, 3] = torch.nan
    x = inputs["x"].requires_grad_()
    y, _ = newton_recurrence(**inputs, impl=impl)
    y[:, 7:].sum().backward()
    assert y[:, 7:].isfinite().all()
    assert x.grad[:, 7:].isfinite().all()


def test_names_what_is_wrong():
    inputs = random_inputs(T=3)
    with pytest.raises(ValueError, match="cell is 'rnn', expected one of gru, lstm"):
        newton_recurrence(**inputs | {"cell": "rnn"})
    with pytest.raises(ValueError, match="peephole is for lstm, not for gru"):
        newton_recurrence(**inputs, peephole=torch.zeros(2, 8))
    with pytest.raises(ValueError, match="initial_state has 2 parts, expected 1 for gru: h"):
        newton_recurrence(**inputs, initial_state=(torch.zeros(2, 8),) * 2)
    with pytest.raises(ValueError, match="max_iterations is 0"):
        newton_recurrence(**inputs, max_iterations=0)
