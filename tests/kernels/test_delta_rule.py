import functools
import math
import time

import pytest
import torch
import torch.nn.functional as F
from helixwave_kernels import delta_rule
from helixwave_kernels.agreement import error, results
from helixwave_kernels.delta_rule.cases import MEASURED, random_inputs
from helixwave_kernels.delta_rule.peers import peers
from torch.autograd.graph import saved_tensors_hooks

RUNNABLE = [impl for impl in delta_rule.impls if delta_rule.refusal(impl, **random_inputs(T=2)) is None]
IMPLS = pytest.mark.parametrize("impl", RUNNABLE)
FAST = pytest.mark.parametrize("impl", [impl for impl in RUNNABLE if impl != "reference"])


@IMPLS
def test_equals_a_product_of_dense_transitions(impl):
    """`S_t = prod_j (I - beta k k^T) exp(g_t) S_{t-1} + ...`, with the matrices written out."""
    inputs = random_inputs("product", B=1, T=40, H=1, state=True, dtype=torch.float64)
    n, S, ys = inputs["n_householder"], inputs["initial_state"][0, 0], []
    for t in range(40):
        S = inputs["log_decay"][0, t, 0].exp() * S
        for r in range(t * n, t * n + n):
            k, v, beta = (inputs[name][0, r, 0] for name in ("k", "v", "beta"))
            S = (torch.eye(len(k), dtype=S.dtype) - beta * torch.outer(k, k)) @ S + beta * torch.outer(k, v)
        ys.append(inputs["q"][0, t, 0] @ S / math.sqrt(len(k)))
    y, state = delta_rule(**inputs, impl=impl)
    torch.testing.assert_close(y[0, :, 0], torch.stack(ys))
    torch.testing.assert_close(state[0, 0], S)


@IMPLS
def test_recalls_what_was_stored_under_orthogonal_keys(impl):
    """Later values replace earlier ones under the same key."""
    keys = torch.linalg.qr(torch.randn(8, 8))[0]
    k, v = keys.repeat(5, 1).view(1, 40, 1, 8), torch.randn(1, 40, 1, 3)
    _, state = delta_rule(torch.zeros_like(k), k, v, torch.ones(1, 40, 1), impl=impl)
    recalled, _ = delta_rule(
        k[:, :8], k[:, :8], v[:, :8], torch.zeros(1, 8, 1), scale=1, initial_state=state, impl=impl
    )
    torch.testing.assert_close(recalled, v[:, -8:])


@IMPLS
@pytest.mark.parametrize("variant", ["plain", "gated"])
def test_two_writes_per_token_are_two_tokens(impl, variant):
    """The decay belongs to the first of them, and only the second is read."""
    inputs = random_inputs(variant, T=70, dtype=torch.float64, state=True)
    never_read = torch.randn_like(inputs["q"][:, ::2])
    inputs["q"] = torch.stack([never_read, inputs["q"][:, ::2]], dim=2).flatten(1, 2)
    if variant == "gated":
        inputs["log_decay"] = inputs["log_decay"] * (torch.arange(70) % 2 == 0)[:, None]
    y, state = delta_rule(**inputs, impl=impl)
    inputs |= {name: inputs[name][:, start::2] for name, start in [("q", 1), ("log_decay", 0)] if name in inputs}
    product_y, product_state = delta_rule(**inputs, n_householder=2, impl=impl)
    torch.testing.assert_close(product_y, y[:, 1::2])
    torch.testing.assert_close(product_state, state)


@IMPLS
def test_reflections_track_the_parity_of_a_bit_string(impl):
    """With beta = 2 a write of zero turns the memory's sign over, which no decay in (0, 1) can do."""
    bits = torch.randint(2, (1, 100, 1))
    k = torch.ones(1, 100, 1, 1)
    y, _ = delta_rule(k, k, torch.zeros_like(k), 2.0 * bits, initial_state=torch.ones(1, 1, 1, 1), impl=impl)
    torch.testing.assert_close(y.flatten(), (-1.0) ** bits.cumsum(1).flatten())


@IMPLS
def test_reflections_track_permutations(impl):
    """A reflection at the difference of two axes swaps two places; products of swaps are all permutations."""
    swaps = torch.tensor([torch.randperm(4)[:2].tolist() for _ in range(60)])
    k = (F.one_hot(swaps[:, 0], 4) - F.one_hot(swaps[:, 1], 4)).float() / math.sqrt(2)
    k = k.view(1, 60, 1, 4)
    state = torch.eye(4).view(1, 1, 4, 4)
    _, state = delta_rule(k, k, torch.zeros_like(k), torch.full((1, 60, 1), 2.0), initial_state=state, impl=impl)
    places = torch.arange(4)
    for a, b in swaps.tolist():
        places[[a, b]] = places[[b, a]]
    torch.testing.assert_close(state[0, 0], F.one_hot(places, 4).float(), atol=1e-5, rtol=0)


@IMPLS
def test_minus_infinite_decay_is_a_reset(impl):
    inputs = random_inputs("gated", T=90, state=True, reset=True, dtype=torch.float64)
    expected = delta_rule(**inputs, impl=impl)
    reset = inputs.pop("reset")
    inputs["log_decay"] = inputs["log_decay"].masked_fill(reset[..., None], -torch.inf).requires_grad_()
    actual = delta_rule(**inputs, impl=impl)
    torch.testing.assert_close(actual, expected)
    (actual[0].sum() + actual[1].sum()).backward()
    assert inputs["log_decay"].grad.isfinite().all()


@IMPLS
def test_strong_decay_stays_exact(impl):
    """Nothing is divided by a product of decays, and no sum of log decays subtracted from another."""
    inputs = random_inputs("gated", T=130, state=True)
    inputs["log_decay"] = inputs["log_decay"] * torch.rand(2, 130, 2).mul(5).exp2()
    inputs["log_decay"][:, ::7] -= 1e4
    tensors = {name: value.requires_grad_() for name, value in inputs.items()}
    y, _ = delta_rule(**tensors, impl=impl)
    gradients = torch.autograd.grad(y.square().sum(), list(tensors.values()))
    expected_y, _ = delta_rule(**{name: value.double() for name, value in tensors.items()}, impl="reference")
    expected = torch.autograd.grad(expected_y.square().sum(), list(tensors.values()))
    assert error(y, expected_y) < 1e-6
    for name, actual, wanted in zip(tensors, gradients, expected, strict=True):
        assert error(actual, wanted) < 5e-6, name


@IMPLS
def test_a_reset_stops_what_is_not_a_number(impl):
    inputs = random_inputs("gated", T=100, state=True)
    inputs["initial_state"][:] = torch.nan
    inputs["reset"] = torch.zeros(2, 100, dtype=torch.bool).index_fill(1, torch.tensor([0]), True)
    y, state = delta_rule(**inputs, impl=impl)
    assert y.isfinite().all()
    assert state.isfinite().all()


@FAST
@pytest.mark.parametrize(("K", "V"), [(1, 1), (7, 33), (130, 65)])
def test_heads_of_any_width(impl, K, V):
    inputs = random_inputs("gated", T=40, K=K, V=V, state=True, reset=True)
    expected = results(functools.partial(delta_rule, impl="reference"), inputs)
    for name, value in results(functools.partial(delta_rule, impl=impl), inputs).items():
        assert error(value, expected[name]) < 1e-5, name


def test_wrong_number_of_writes_is_refused():
    inputs = random_inputs(T=6)
    with pytest.raises(ValueError, match=r"delta_rule: k has shape \[2, 6, 2, 6\], expected \[B, T\*n, H, K\]"):
        delta_rule(**inputs, n_householder=2)
    with pytest.raises(ValueError, match="n_householder is 0, expected 1 or more"):
        delta_rule(**inputs, n_householder=0)


@FAST
def test_keeps_memory_linear_in_time(impl):
    short, long = (saved_bytes(random_inputs(B=1, T=T, K=16, V=16), impl) for T in (512, 1024))
    assert long / short == pytest.approx(2, rel=0.05)
    inputs = sum(value.nbytes for value in random_inputs(B=1, T=1024, K=16, V=16).values())
    assert long < 3 * inputs


def saved_bytes(inputs: dict[str, torch.Tensor], impl: str) -> int:
    storages = {}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(remember, lambda tensor: tensor):
        output = delta_rule(**{name: value.requires_grad_() for name, value in inputs.items()}, impl=impl)
    return sum(storages.values()) if output else 0


@IMPLS
def test_agrees_with_flash_linear_attention(impl):
    pytest.importorskip("fla.ops.delta_rule.naive", exc_type=ImportError)
    inputs = random_inputs(T=64)
    for expected in (peer(**inputs) for peer in peers().values()):
        torch.testing.assert_close(delta_rule(**inputs, impl=impl), expected, rtol=1e-4, atol=1e-5)


@IMPLS
def test_agrees_with_gated_flash_linear_attention(impl):
    naive = pytest.importorskip("fla.ops.gated_delta_rule.naive", exc_type=ImportError)
    inputs = random_inputs("gated", T=70)
    y, state = naive.naive_recurrent_gated_delta_rule(
        **{name: inputs[name] for name in ("q", "k", "v", "beta")}, g=inputs["log_decay"], output_final_state=True
    )
    actual_y, actual_state = delta_rule(**inputs, impl=impl)
    torch.testing.assert_close(actual_y, y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(actual_state, state, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_is_faster_than_a_chunkwise_form():
    """At least 2.5 times forward, 4 times forward and backward as fast as flash-linear-attention without a GPU."""
    pytest.importorskip("fla.ops.delta_rule.naive", exc_type=ImportError)
    if "native" not in RUNNABLE:
        pytest.skip("the native library is not here")
    peer = peers()["fla naive chunkwise"]
    inputs = random_inputs(T=1024, **MEASURED)
    for backward, ratio in [(False, 2.5), (True, 4)]:
        seconds = [min(cpu_seconds(run, inputs, backward) for _ in range(4)) for run in (delta_rule, peer)]
        assert seconds[1] / seconds[0] >= ratio, seconds


def cpu_seconds(run, inputs, backward) -> float:
    tensors = {name: value.requires_grad_(backward) for name, value in inputs.items()}
    start = time.process_time()
    y, _ = run(**tensors)
    if backward:
        torch.autograd.grad(y.sum(), list(tensors.values()))
    return time.process_time() - start
