import time

import pytest
import torch
from helixwave_kernels import diagonal_ssm, native
from helixwave_kernels.diagonal_ssm.cases import MEASURED, random_inputs
from helixwave_kernels.diagonal_ssm.peers import kernel_and_fft
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

needs_native = pytest.mark.skipif(native.reason() is not None, reason=str(native.reason()))
IMPLS = pytest.mark.parametrize(
    "impl", [pytest.param(impl, marks=[needs_native] * (impl == "native")) for impl in diagonal_ssm.impls]
)


def is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


@pytest.mark.parametrize("T", [1, 17, 64, 130])
@IMPLS
def test_equals_the_long_convolution_of_s4d(impl, T):
    inputs = random_inputs(T=T, dtype=torch.float64)
    torch.testing.assert_close(diagonal_ssm(**inputs, impl=impl)[0], kernel_and_fft(**inputs))


@pytest.mark.parametrize(
    ("discretization", "transition", "input_map"),
    [
        ("zoh", lambda z: z.exp(), lambda z, dt: dt * (z.exp() - 1) / z),
        ("bilinear", lambda z: (1 + z / 2) / (1 - z / 2), lambda z, dt: dt / (1 - z / 2)),
        ("dirac", lambda z: z.exp(), lambda z, dt: torch.ones_like(z)),
    ],
)
@IMPLS
def test_response_to_an_impulse(impl, discretization, transition, input_map):
    """`2 Re(C Abar^l Bbar)`, plus the skip at lag 0."""
    inputs = random_inputs(discretization, B=1, T=70, dtype=torch.float64)
    inputs["u"] = torch.zeros_like(inputs["u"]).index_fill(1, torch.tensor(0), 1)
    dt = inputs["dt"].unsqueeze(-1)
    z = dt * inputs["A"]
    lags = torch.arange(70)[:, None, None]
    expected = 2 * (inputs["C"] * inputs["B"] * input_map(z, dt) * transition(z) ** lags).sum(-1).real
    expected[0] += inputs["skip"]
    torch.testing.assert_close(diagonal_ssm(**inputs, impl=impl)[0][0], expected)


@pytest.mark.parametrize("size", [1e-8, 1e-4, 0.1, 0.49, 0.51, 3.0])
@IMPLS
def test_zero_order_hold_does_not_cancel(impl, size):
    """`exp(dt A) - 1` loses all digits of a small `dt A` in float32, unless care is taken; in its gradient too."""
    inputs = random_inputs(B=1, T=1, D=4, N=4)
    inputs |= {
        "A": torch.polar(torch.ones(4, 4), torch.linspace(1.6, 3.1, 16).view(4, 4)),
        "dt": torch.full((4,), size),
    }
    exact = {name: widened(value) for name, value in inputs.items()}
    actual, expected = (state_and_gradient(each, impl) for each in (inputs, exact))
    for value, wide in zip(actual, expected, strict=True):
        torch.testing.assert_close(value, wide.to(value.dtype), rtol=2e-6, atol=0)


def widened(value):
    return value.to(torch.promote_types(value.dtype, torch.float64)) if is_tensor(value) else value


def state_and_gradient(inputs, impl):
    A = inputs["A"].clone().requires_grad_()
    _, state = diagonal_ssm(**inputs | {"A": A, "B": torch.ones_like(A)}, impl=impl)
    return state.detach(), torch.autograd.grad(state.real.sum() + state.imag.sum(), A)[0]


@IMPLS
def test_eigenvalue_of_zero_sums_the_inputs(impl):
    inputs = random_inputs(T=70, D=3, N=2, dtype=torch.float64)
    inputs |= {"A": torch.zeros_like(inputs["A"]), "skip": None}
    weights = 2 * (inputs["C"] * inputs["B"]).sum(-1).real * inputs["dt"]
    torch.testing.assert_close(diagonal_ssm(**inputs, impl=impl)[0], inputs["u"].cumsum(1) * weights)
    inputs["A"].requires_grad_()
    assert torch.autograd.gradcheck(lambda A: diagonal_ssm(**inputs | {"A": A}, impl=impl), inputs["A"], fast_mode=True)


@IMPLS
def test_input_map_of_zero_keeps_the_initial_state(impl):
    """Nothing is divided by the input map."""
    inputs = random_inputs(T=20, state=True, dtype=torch.float64)
    inputs["B"] = torch.zeros_like(inputs["B"]).requires_grad_()
    y, state = diagonal_ssm(**inputs, impl=impl)
    powers = torch.exp(20 * inputs["dt"].unsqueeze(-1) * inputs["A"])
    torch.testing.assert_close(state, powers * inputs["initial_state"])
    gradient = torch.autograd.grad(y.sum() + state.real.sum(), inputs["B"])[0]
    assert gradient.isfinite().all()
    assert gradient.abs().min() > 0


@IMPLS
def test_real_parameters_are_taken_as_complex(impl):
    inputs = random_inputs(T=33, dtype=torch.float64)
    real = inputs | {name: inputs[name].real.clone() for name in "ABC"}
    as_complex = inputs | {name: inputs[name].real + 0j for name in "ABC"}
    for value, expected in zip(*(diagonal_ssm(**each, impl=impl) for each in (real, as_complex)), strict=True):
        torch.testing.assert_close(value, expected)


@IMPLS
def test_nothing_of_an_earlier_document_gets_through_a_reset(impl):
    """Not even NaN, from the state or from the inputs, in the middle of a chunk as at its start."""
    inputs = random_inputs(T=150, state=True)
    inputs["reset"] = torch.zeros(2, 150, dtype=torch.bool)
    inputs["reset"][0, 70] = inputs["reset"][1, 64] = inputs["reset"][1, 148] = True
    expected_y, expected_state = diagonal_ssm(**inputs, impl=impl)
    inputs["u"] = inputs["u"].clone()
    inputs["u"][0, :70] = inputs["u"][1, :148] = torch.nan
    inputs["initial_state"] = torch.full_like(inputs["initial_state"], torch.nan)
    y, state = diagonal_ssm(**inputs, impl=impl)
    torch.testing.assert_close(state, expected_state)
    torch.testing.assert_close(y[0, 70:], expected_y[0, 70:])
    torch.testing.assert_close(y[1, 148:], expected_y[1, 148:])


def test_says_what_is_wrong():
    inputs = random_inputs(T=3)
    with pytest.raises(ValueError, match="discretization is 'euler', expected 'zoh', 'bilinear' or 'dirac'"):
        diagonal_ssm(**inputs | {"discretization": "euler"})
    with pytest.raises(ValueError, match=r"C has shape \[7, 4\], expected \[D, N\] with B=2, T=3, D=8, N=4"):
        diagonal_ssm(**inputs | {"C": inputs["C"][:7]})
    with pytest.raises(ValueError, match="u and dt are real"):
        diagonal_ssm(**inputs | {"u": inputs["u"] + 0j})


@pytest.mark.parametrize("impl", ["chunked", pytest.param("native", marks=needs_native)])
def test_keeps_little_for_the_backward_pass(impl):
    """Linear in T, and far below the states `[B, T, D, N]`."""
    B, D, N = 2, 16, 32
    short, long = (saved_bytes(random_inputs(B=B, T=T, D=D, N=N), impl) for T in (4096, 8192))
    assert long < 2.02 * short
    assert long - short < B * 4096 * D * N * 8 / 8


def saved_bytes(inputs, impl):
    storages = {}

    def remember(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    tensors = {name: value.requires_grad_() if is_tensor(value) else value for name, value in inputs.items()}
    with saved_tensors_hooks(remember, lambda tensor: tensor):
        output = diagonal_ssm(**tensors, impl=impl)
    return sum(storages.values()) if output else 0


@pytest.mark.slow
@pytest.mark.parametrize(("impl", "ratio"), [("chunked", 10), pytest.param("native", 60, marks=needs_native)])
def test_is_faster_than_kernel_and_fft(impl, ratio):
    """Forward, in cpu time, in one run."""
    inputs = random_inputs(T=4096, **MEASURED)
    runs = {"peer": lambda: kernel_and_fft(**inputs), "ours": lambda: diagonal_ssm(**inputs, impl=impl)}
    seconds = {name: min(cpu_seconds(run) for _ in range(3)) for name, run in runs.items()}
    assert seconds["peer"] / seconds["ours"] >= ratio, seconds


def cpu_seconds(run) -> float:
    start = time.process_time()
    with torch.no_grad():
        run()
    return time.process_time() - start
