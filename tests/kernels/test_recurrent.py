import functools
import time
from typing import Any

import pytest
import torch
from helixwave_kernels import native, recurrent
from helixwave_kernels.agreement import error, results
from helixwave_kernels.recurrent.cases import comparable, random_inputs
from helixwave_kernels.recurrent.peers import xlstm_vanilla
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

NATIVE = pytest.param("native", marks=pytest.mark.skipif(native.reason() is not None, reason=str(native.reason())))
IMPLS = pytest.mark.parametrize("impl", ["reference", "chunked", NATIVE])
FAST = pytest.mark.parametrize("impl", ["chunked", NATIVE])
CELLS = pytest.mark.parametrize("cell", ["slstm", "lstm", "gru", "elman"])


@IMPLS
@pytest.mark.parametrize("cell", ["lstm", "gru", "elman"])
def test_one_head_is_the_cell_of_torch(cell, impl):
    """With weights and gradients: torch stores the gates' matrices side by side, output first."""
    T, P, D = 23, 5, 3
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "elman": torch.nn.RNN}[cell](D, P, batch_first=True).double()
    J = layer.weight_hh_l0.shape[0] // P
    u = torch.randn(2, T, D, dtype=torch.float64)
    start = tuple(torch.randn(2, P, dtype=torch.float64) for _ in range(2 if cell == "lstm" else 1))
    hx = tuple(part.unsqueeze(0) for part in start)
    expected_y, expected_state = layer(u, hx if cell == "lstm" else hx[0])
    x = torch.nn.functional.linear(u, layer.weight_ih_l0, layer.bias_ih_l0).view(2, T, J, 1, P)
    R = layer.weight_hh_l0.view(J, P, P).mT.unsqueeze(1)
    bias = layer.bias_hh_l0.view(J, 1, P)
    y, state = recurrent(cell, x, R, bias, initial_state=tuple(part.unsqueeze(1) for part in start), impl=impl)
    torch.testing.assert_close(y.squeeze(2), expected_y)
    for part, expected in zip(state, expected_state if cell == "lstm" else [expected_state], strict=True):
        torch.testing.assert_close(part.squeeze(1), expected.squeeze(0))
    parameters = list(layer.parameters())
    gradients, expected_gradients = (torch.autograd.grad(each.square().sum(), parameters) for each in (y, expected_y))
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected)


@IMPLS
@pytest.mark.parametrize("reset", [False, True], ids=["", "reset"])
@CELLS
def test_heads_are_independent(cell, reset, impl):
    inputs = random_inputs(cell, T=17, H=3, state=True, reset=reset, dtype=torch.float64)
    y, state = recurrent(**inputs, impl=impl)
    for h in range(3):
        one = inputs | {name: inputs[name][..., h : h + 1, :] for name in ("x", "bias")}
        one["R"] = inputs["R"][:, h : h + 1]
        one["initial_state"] = tuple(part[:, h : h + 1] for part in inputs["initial_state"])
        y_h, state_h = recurrent(**one, impl=impl)
        torch.testing.assert_close(y[:, :, h : h + 1], y_h)
        for part, part_h in zip(state, state_h, strict=True):
            torch.testing.assert_close(part[:, h : h + 1], part_h)


@IMPLS
def test_slstm_is_the_recurrence_without_stabiliser(impl):
    """As printed in the paper's equations 8 to 14, with exponentials that may overflow elsewhere."""
    inputs = random_inputs(T=30, dtype=torch.float64)
    h = c = n = torch.zeros(2, 2, 4, dtype=torch.float64)
    ys = []
    for x_t in inputs["x"].unbind(1):
        raw = x_t + torch.einsum("bhp,jhpq->bjhq", h, inputs["R"]) + inputs["bias"]
        i, f, z, o = raw[:, 0].exp(), raw[:, 1].sigmoid(), raw[:, 2].tanh(), raw[:, 3].sigmoid()
        c, n = f * c + i * z, f * n + i
        h = o * c / n
        ys.append(h)
    y, (_, last_c, last_n, m) = recurrent(**inputs, impl=impl)
    torch.testing.assert_close(y, torch.stack(ys, 1))
    torch.testing.assert_close(last_c * m.exp(), c)
    torch.testing.assert_close(last_n * m.exp(), n)


@IMPLS
@pytest.mark.filterwarnings("ignore")
def test_slstm_is_that_of_the_xlstm_package(impl):
    pytest.importorskip("xlstm")
    inputs = random_inputs(T=20, dtype=torch.float64)
    y, state = recurrent(**inputs, impl=impl)
    expected_y, expected = xlstm_vanilla(**inputs)
    torch.testing.assert_close(y, expected_y)
    for part, expected_part in zip(state, expected, strict=True):
        torch.testing.assert_close(part, expected_part)


@FAST
@pytest.mark.parametrize(("B", "H", "P"), [(1, 1, 1), (1, 2, 33), (3, 2, 5), (5, 1, 20), (7, 3, 16), (66, 2, 3)])
@CELLS
def test_all_sizes_match_the_reference(cell, B, H, P, impl):
    """Batches that fill no block, heads that fill no vector, lengths that fill no chunk."""
    inputs = random_inputs(cell, B=B, H=H, P=P, T=70, state=True, reset=True, dtype=torch.float64)
    expected, actual = (
        results(functools.partial(recurrent, impl=each), inputs, comparable) for each in ("reference", impl)
    )
    for name, value in expected.items():
        assert error(actual[name], value) < 1e-10, name


@FAST
@CELLS
def test_wide_head_matches_the_reference(cell, impl):
    inputs = random_inputs(cell, B=2, H=1, P=300, T=12, state=True)
    expected, actual = (
        results(functools.partial(recurrent, impl=each), inputs, comparable) for each in ("reference", impl)
    )
    for name, value in expected.items():
        assert error(actual[name], value) < 1e-5, name


@IMPLS
@CELLS
def test_gradients_by_finite_differences(cell, impl):
    """That of an initial m too, for what reads the state as c e^m and n e^m."""
    inputs = random_inputs(cell, B=2, H=1, P=2, T=5, state=True, reset=True, dtype=torch.float64)
    inputs["reset"][0, 3] = True
    state = inputs.pop("initial_state")
    tensors = {name: inputs.pop(name) for name in ("x", "R", "bias")}
    values = [value.requires_grad_() for value in (*tensors.values(), *state)]

    def call(*values: Tensor) -> tuple[Tensor, ...]:
        given = inputs | dict(zip(tensors, values[:3], strict=True))
        y, state = comparable(recurrent(**given, initial_state=values[3:], impl=impl))
        return y, *state

    assert torch.autograd.gradcheck(call, values)


@IMPLS
def test_slstm_state_is_meant_up_to_its_scale(impl):
    inputs = random_inputs(T=20, state=True, dtype=torch.float64)
    h, c, n, m = inputs["initial_state"]
    y, state = comparable(recurrent(**inputs, impl=impl))
    other = inputs | {"initial_state": (h, c / 8, n / 8, m + torch.tensor(8.0).log())}
    other_y, other_state = comparable(recurrent(**other, impl=impl))
    torch.testing.assert_close(y, other_y)
    for part, other_part in zip(state, other_state, strict=True):
        torch.testing.assert_close(part, other_part)


@IMPLS
def test_slstm_padding_leaves_the_memory_alone(impl):
    """i = -inf and f = inf, before anything was seen and after all: c, n, m and all gradients are those without."""
    T, padding = 24, torch.arange(24)
    padding = (padding < 5) | (padding >= 19)
    inputs = random_inputs(T=T, dtype=torch.float64)
    inputs["x"][:, padding, 0] = -torch.inf
    inputs["x"][:, padding, 1] = torch.inf
    padded, short = dict(inputs), inputs | {"x": inputs["x"][:, ~padding]}
    expected, actual = (gradients_and_state(each, impl) for each in (short, padded))
    y = actual.pop("y")
    assert not y[:, :5].any()
    torch.testing.assert_close(y[:, ~padding], expected.pop("y"))
    dx = actual.pop("x")
    assert not dx[:, padding, :2].any()
    assert dx.isfinite().all()
    torch.testing.assert_close(dx[:, ~padding], expected.pop("x"))
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, msg=lambda text, name=name: f"{name}: {text}")


def gradients_and_state(inputs: dict[str, Any], impl: str) -> dict[str, Tensor]:
    """For a loss on the outputs that something was seen before, and on the memory."""
    tensors = {name: inputs[name].clone().requires_grad_() for name in ("x", "R", "bias")}
    y, (_, c, n, m) = recurrent(**inputs | tensors, impl=impl)
    seen = inputs["x"][..., :1, :, :].isfinite().all(-1).all(-1)
    loss = (y * seen.unsqueeze(-1)).square().sum() + (c * m.exp()).square().sum() + n.log().sum() + m.sum()
    loss.backward()
    return {name: tensor.grad for name, tensor in tensors.items()} | {"y": y.detach(), "c": c, "n": n, "m": m}


@IMPLS
def test_slstm_that_saw_nothing_is_empty(impl):
    inputs = random_inputs(T=4)
    inputs["x"][:, :, 0] = -torch.inf
    x = inputs["x"].requires_grad_()
    y, (h, c, n, m) = recurrent(**inputs, impl=impl)
    assert not y.any()
    assert not any(part.any() for part in (h, c, n))
    assert (m == -torch.inf).all()
    y.sum().backward()
    assert not x.grad.any()


@IMPLS
@CELLS
def test_extreme_gates_stay_finite(cell, impl):
    inputs = random_inputs(cell, T=30)
    inputs["x"] = (inputs["x"] * 1e4).requires_grad_()
    y, state = recurrent(**inputs, impl=impl)
    (y.sum() + sum(part.sum() for part in state)).backward()
    assert y.isfinite().all()
    assert inputs["x"].grad.isfinite().all()


@IMPLS
@CELLS
def test_nan_does_not_pass_a_reset(cell, impl):
    inputs = random_inputs(cell, T=12, dtype=torch.float64)
    inputs["reset"] = torch.zeros(2, 12, dtype=torch.bool)
    inputs["reset"][:, 7] = True
    inputs["x"][:, 3] = torch.nan
    x = inputs["x"].requires_grad_()
    y, state = recurrent(**inputs, impl=impl)
    rest = inputs | {"x": inputs["x"][:, 7:], "reset": None}
    expected_y, expected_state = recurrent(**rest, impl=impl)
    torch.testing.assert_close(y[:, 7:], expected_y)
    for part, expected in zip(state, expected_state, strict=True):
        torch.testing.assert_close(part, expected)
    y[:, 7:].sum().backward()
    assert x.grad[:, 7:].isfinite().all()


def test_names_what_is_wrong():
    inputs = random_inputs(T=3)
    with pytest.raises(ValueError, match="cell is 'sltm', expected one of slstm, lstm"):
        recurrent(**inputs | {"cell": "sltm"})
    with pytest.raises(ValueError, match=r"initial_state has 2 parts, expected 4 for slstm: h, c, n, m"):
        recurrent(**inputs, initial_state=(torch.zeros(2, 2, 4),) * 2)
    with pytest.raises(ValueError, match=r"x has shape \[2, 3, 4, 2, 4\], expected \[B, T, J, H, P\] with J=3"):
        recurrent(**inputs | {"cell": "gru"})


@FAST
def test_keeps_little_for_the_backward_pass(impl):
    """The inputs and the states; linear in T."""
    short, long = (saved_bytes(random_inputs(T=T, B=2, H=2, P=16), impl) for T in (256, 512))
    assert long / short == pytest.approx(2, rel=0.05)
    assert long < 1.1 * 2 * 512 * 2 * 16 * (4 + 4) * 4


def saved_bytes(inputs: dict[str, Any], impl: str) -> int:
    storages = {}

    def remember(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    inputs["x"].requires_grad_()
    with saved_tensors_hooks(remember, lambda tensor: tensor):
        output = recurrent(**inputs, impl=impl)
    return sum(storages.values()) if output else 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("impl", "factor"), [("chunked", 3), pytest.param("native", 20, marks=NATIVE.marks)])
def test_is_faster_than_the_loop_of_the_xlstm_package(impl, factor):
    """The forward pass, in cpu time, in one run."""
    pytest.importorskip("xlstm")
    inputs = random_inputs(B=2, T=1024, H=4, P=64)
    ours = functools.partial(recurrent, impl=impl)
    seconds = {run: min(cpu_seconds(run, inputs) for _ in range(3)) for run in (ours, xlstm_vanilla)}
    assert seconds[xlstm_vanilla] / seconds[ours] >= factor, seconds


def cpu_seconds(run: Any, inputs: dict[str, Any]) -> float:
    start = time.process_time()
    with torch.no_grad():
        run(**inputs)
    return time.process_time() - start
