import time

import pytest
import torch
from helixwave_kernels import selective_scan
from helixwave_kernels.selective_scan.cases import random_inputs
from helixwave_kernels.selective_scan.peers import mambapy_pscan
from torch.autograd.graph import saved_tensors_hooks

RUNNING = [impl for impl in selective_scan.impls if selective_scan.refusal(impl, **random_inputs(T=2)) is None]
IMPLS = pytest.mark.parametrize("impl", RUNNING)


@IMPLS
def test_delta_of_minus_infinity_freezes_the_state(impl):
    """How a block keeps right padding out of the state: neither state nor gradients notice the padded steps."""
    inputs = random_inputs(T=30, state=True, dtype=torch.float64)
    padding = torch.arange(30) >= 21
    inputs["delta"][:, padding] = -torch.inf
    tensors = {name: value.requires_grad_() for name, value in inputs.items()}
    y, state = selective_scan(**tensors, impl=impl)
    (y[:, ~padding].sum() + state.square().sum()).backward()
    short = {name: value[:, ~padding] if value.shape[1:2] == (30,) else value for name, value in inputs.items()}
    torch.testing.assert_close(state, selective_scan(**short, impl=impl)[1])
    for name, value in tensors.items():
        assert value.grad.isfinite().all(), name
    assert not tensors["delta"].grad[:, padding].any()
    assert tensors["delta"].grad[:, ~padding].any()


@IMPLS
def test_strong_decay_and_large_steps_stay_finite(impl):
    inputs = random_inputs(T=100)
    inputs["A"] = inputs["A"] * 1e4
    inputs["delta"] = inputs["delta"] * 100
    tensors = {name: value.requires_grad_() for name, value in inputs.items()}
    y, state = selective_scan(**tensors, impl=impl)
    (y.sum() + state.sum()).backward()
    assert all(value.grad.isfinite().all() for value in tensors.values())


@IMPLS
def test_softplus_is_linear_above_twenty(impl):
    inputs = {name: torch.ones(shape) for name, shape in [("u", (1, 1, 1)), ("B", (1, 1, 1)), ("C", (1, 1, 1))]}
    y, _ = selective_scan(**inputs, delta=torch.full((1, 1, 1), 25.0), A=-torch.ones(1, 1), impl=impl)
    assert y.item() == 25


def test_chunked_keeps_little_for_the_backward_pass():
    """Linear in T, and far below the [B, T, D, N] states that plain automatic differentiation keeps."""
    B, D, N = 2, 64, 16
    short, long = (saved_bytes(random_inputs("bare", B=B, T=T, D=D, N=N)) for T in (512, 1024))
    assert long / short == pytest.approx(2, rel=0.02)
    assert long < B * 1024 * D * N * 4 / 3


def saved_bytes(inputs: dict[str, torch.Tensor]) -> int:
    storages = {}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    for name in inputs.keys() - {"softplus"}:
        inputs[name].requires_grad_()
    with saved_tensors_hooks(remember, lambda tensor: tensor):
        output = selective_scan(**inputs, impl="chunked")
    return sum(storages.values()) if output else 0


@pytest.mark.slow
def test_chunked_is_faster_than_a_parallel_scan():
    """Forward and backward at least 2.5 times as fast as mambapy's pscan, in cpu time, in one run."""
    pytest.importorskip("mambapy")
    inputs = random_inputs("mamba", B=2, T=2048, D=256, N=16)
    tensors = {name: value.requires_grad_() for name, value in inputs.items()}

    def ours(**tensors):
        return selective_scan(**tensors, impl="chunked")[0]

    torch.testing.assert_close(ours(**tensors), mambapy_pscan(**tensors), rtol=1e-4, atol=1e-4)
    seconds = {run: min(cpu_seconds(run, tensors) for _ in range(3)) for run in (ours, mambapy_pscan)}
    assert seconds[mambapy_pscan] / seconds[ours] >= 2.5, seconds


def cpu_seconds(run, tensors) -> float:
    start = time.process_time()
    torch.autograd.grad(run(**tensors).sum(), list(tensors.values()))
    return time.process_time() - start
