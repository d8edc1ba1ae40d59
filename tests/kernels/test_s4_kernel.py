import time

import numpy as np
import pytest
import torch
from helixwave_kernels import diagonal_ssm, s4_kernel
from helixwave_kernels.agreement import error
from helixwave_kernels.s4_kernel.cases import MEASURED, random_inputs
from helixwave_kernels.s4_kernel.peers import as_product, cauchy_kernel, corrected, elementwise
from torch import Tensor

IMPLS = pytest.mark.parametrize("impl", list(s4_kernel.impls))
HIPPO = pytest.mark.parametrize("name", ["legs", "legt", "fout"])


def hippo(name: str, N: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A `[N, N]`, B `[N]` and P `[R, N]` with A + P^T P normal (Gu et al. 2020 and 2021, appendix; Gu et al. 2022b)."""
    n = np.arange(N, dtype=float)
    root = np.sqrt(2 * n + 1)
    if name == "legs":
        return -np.tril(np.outer(root, root), -1) - np.diag(n + 1), root, np.sqrt(n + 0.5)[None]
    if name == "legt":
        signs = np.where(n[:, None] >= n, 1, (-1.0) ** (n[:, None] - n))
        return (
            -0.5 * np.outer(root, root) * signs,
            root / 2,
            np.stack([root * (n % 2), root * (1 - n % 2)]) / np.sqrt(2),
        )
    A, B = np.zeros((N, N)), np.sqrt(2) * (n % 2 == 0)
    B[0] = 1
    k = np.arange(N // 2)
    A[2 * k, 2 * k + 1], A[2 * k + 1, 2 * k] = -np.pi * k, np.pi * k
    return A - np.outer(B, B), B, B[None]


def halves(name: str, A: np.ndarray, P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One half of the eigenvalues of the normal matrix A + P^T P, and their eigenvectors `[N, N / 2]`."""
    normal, N = A + P.T @ P, len(A)
    middle = np.diag(normal).mean()
    skew = normal - middle * np.eye(N)
    assert abs(skew + skew.T).max() < 1e-8
    frequencies, V = np.linalg.eigh(-1j * skew)
    V = V[:, : N // 2]
    if name == "fout":  # the frequency 0 is there twice: the pair of vectors that are conjugates of each other
        V[:, -1] = 0
        V[:2, -1] = np.array([1, 1j]) / np.sqrt(2)
    return middle + 1j * frequencies[: N // 2], V


def hippo_inputs(name: str, N: int, length: int, D: int = 4) -> tuple[dict, Tensor]:
    """Arguments of one call in complex128, and the kernel from the matrix itself, step by step."""
    A, B, P = hippo(name, N)
    w, V = halves(name, A, P)
    rng = np.random.default_rng(0)
    C, dt = rng.standard_normal((1, D, N)), np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), D))
    arguments = {
        "w": np.tile(w, (D, 1)),
        "P": np.tile((P @ V.conj())[:, None], (1, D, 1)),
        "B": np.tile(B @ V.conj(), (D, 1)),
        "C": C @ V,
        "dt": dt,
    }
    half_steps, identity = dt[:, None, None] / 2 * A, np.eye(N)
    transition = np.linalg.solve(identity - half_steps, identity + half_steps)
    h = np.linalg.solve(identity - half_steps, (dt[:, None] * B)[..., None])
    kernel = np.empty((1, D, length))
    for lag in range(length):
        kernel[..., lag] = (C[0] * h[..., 0]).sum(-1)
        h = transition @ h
    return {k: torch.from_numpy(v) for k, v in arguments.items()} | {"length": length}, torch.from_numpy(kernel)


def single(inputs: dict) -> dict:
    return {
        k: v.to(torch.complex64 if v.is_complex() else torch.float32) if k != "length" else v for k, v in inputs.items()
    }


def double(inputs: dict) -> dict:
    return {k: v.to(torch.promote_types(v.dtype, torch.float64)) if k != "length" else v for k, v in inputs.items()}


@HIPPO
@IMPLS
def test_equals_the_recurrence_with_the_hippo_matrix(impl, name):
    inputs, expected = hippo_inputs(name, 64, 1000)
    assert error(s4_kernel(**inputs, impl=impl), expected) < 1e-9


@HIPPO
def test_is_more_accurate_in_single_precision_than_the_cauchy_form(name):
    inputs = single(hippo_inputs(name, 64, 2048)[0])
    expected = s4_kernel(**double(inputs), impl="reference")
    C = corrected(*(inputs[key] for key in ("w", "P", "C", "dt", "length")))
    naive = cauchy_kernel(**inputs | {"C": C}, cauchy_sum=elementwise)
    ours = error(s4_kernel(**inputs, impl="chunked"), expected)
    assert ours <= min(1e-6, error(naive, expected))


@pytest.mark.parametrize("rank", [1, 2])
@IMPLS
def test_equals_the_diagonal_system_without_a_low_rank_part(impl, rank):
    """The response of `diagonal_ssm` to an impulse."""
    inputs = random_inputs("rank_2" if rank == 2 else "rank_1", T=70, dtype=torch.float64)
    inputs["P"] = torch.zeros_like(inputs["P"])
    u = torch.zeros(1, 70, 8, dtype=torch.float64)
    u[:, 0] = 1
    y, _ = diagonal_ssm(u, inputs["w"], inputs["B"], inputs["C"][0], inputs["dt"], discretization="bilinear")
    torch.testing.assert_close(s4_kernel(**inputs, impl=impl), y.mT)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 100])
@pytest.mark.parametrize("variant", ["rank_1", "rank_2"])
def test_equals_the_cauchy_form_at_any_length(variant, length):
    inputs = random_inputs(variant, B=3, T=length, dtype=torch.float64)
    C = corrected(*(inputs[key] for key in ("w", "P", "C", "dt", "length")))
    expected = s4_kernel(**inputs, impl="chunked")
    assert expected.shape == (3, 8, length)
    torch.testing.assert_close(s4_kernel(**inputs, impl="reference"), expected)
    for cauchy_sum in (elementwise, as_product):
        torch.testing.assert_close(cauchy_kernel(**inputs | {"C": C}, cauchy_sum=cauchy_sum), expected)


@IMPLS
def test_a_shorter_kernel_is_the_start_of_a_longer_one(impl):
    inputs = random_inputs(T=90)
    long, short = (s4_kernel(**inputs | {"length": length}, impl=impl) for length in (90, 41))
    torch.testing.assert_close(short, long[..., :41])


@pytest.mark.parametrize("M", [1, 3])
@IMPLS
def test_gradients_of_all_arguments(impl, M):
    inputs = random_inputs("rank_2", B=M, T=11, D=2, N=2, dtype=torch.float64)
    names = ("w", "P", "B", "C", "dt")
    tensors = tuple(inputs[name].requires_grad_() for name in names)
    assert torch.autograd.gradcheck(lambda *values: s4_kernel(*values, length=11, impl=impl), tensors)


def test_says_what_is_wrong():
    inputs = random_inputs(T=0)
    with pytest.raises(ValueError, match="length is 0, expected at least 1"):
        s4_kernel(**inputs)
    with pytest.raises(ValueError, match=r"P has shape \[8, 4\], expected \[R, D, N\]"):
        s4_kernel(**inputs | {"P": inputs["P"][0], "length": 3})
    with pytest.raises(ValueError, match="dt is real"):
        s4_kernel(**inputs | {"dt": inputs["dt"] + 0j, "length": 3})


@pytest.mark.slow
@HIPPO
def test_is_accurate_over_many_steps(name):
    inputs, _ = hippo_inputs(name, 64, 1)
    inputs = single(inputs) | {"length": 16384}
    expected = s4_kernel(**double(inputs), impl="reference")
    C = corrected(*(inputs[key] for key in ("w", "P", "C", "dt", "length")))
    naive = cauchy_kernel(**inputs | {"C": C}, cauchy_sum=elementwise)
    assert error(s4_kernel(**inputs, impl="chunked"), expected) <= min(1e-6, error(naive, expected))


@pytest.mark.slow
def test_is_faster_than_the_cauchy_form():
    """Forward, at least 15 times, in cpu time, in one run; what a layer corrects once is not counted."""
    inputs = random_inputs(T=16384, **MEASURED)
    cauchy = inputs | {"C": corrected(*(inputs[key] for key in ("w", "P", "C", "dt", "length")))}
    runs = {
        "peer": lambda: cauchy_kernel(**cauchy, cauchy_sum=elementwise),
        "ours": lambda: s4_kernel(**inputs, impl="chunked"),
    }
    seconds = {name: min(cpu_seconds(run) for _ in range(2)) for name, run in runs.items()}
    assert seconds["peer"] / seconds["ours"] >= 15, seconds


def cpu_seconds(run) -> float:
    start = time.process_time()
    with torch.no_grad():
        run()
    return time.process_time() - start
