"""DSS against its kernel as a sum over all states and lags."""

import pytest
import torch
import torch.nn.functional as F
from helixwave.blocks.dss import DSS
from helixwave.errors import InputError
from torch import Tensor, nn

D, N, T = 6, 5, 40


def build(**options) -> DSS:
    torch.manual_seed(0)
    block = DSS(D, d_state=N, **options).eval()
    with torch.no_grad():  # two step sizes that differ, as after some training
        block.kernel.log_dt.add_(torch.randn(block.kernel.log_dt.shape) / 4)
    return block


def inputs(B: int, T: int) -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(T))


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


def gradients(block: nn.Module, y: Tensor) -> dict[str, Tensor]:
    """Of the mean square of y, for every parameter."""
    block.zero_grad()
    y.square().mean().backward()
    return {name: parameter.grad.double() for name, parameter in block.named_parameters()}


def assert_all_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() <= 1e-4 * gradient.abs().max(), name


def exponents(block: DSS, Lambda: Tensor) -> Tensor:
    dt = block.kernel.log_dt.exp()
    if dt.ndim == 1:
        return dt[:, None] * Lambda
    return torch.complex(dt[:, :1] * Lambda.real, dt[:, 1:] * Lambda.imag)


def applied(block: DSS, K: Tensor, x: Tensor) -> Tensor:
    """A causal convolution with K `[D, T]`, and what comes behind it."""
    ys = [sum(K[:, lag] * x[:, t - lag] for lag in range(t + 1)) + block.D * x[:, t] for t in range(x.shape[1])]
    return F.gelu(torch.stack(ys, dim=1)) @ block.output_linear.weight.T + block.output_linear.bias


@pytest.mark.parametrize("separate_dt", [True, False])
def test_exp_equals_its_formula(separate_dt: bool) -> None:
    block, x = build(separate_dt=separate_dt), inputs(2, T)
    found, _ = block(x)
    found_gradients = gradients(block, found)
    kernel = block.double().kernel
    Lambda = torch.complex(-kernel.Lambda_log_neg_re.exp(), kernel.Lambda_im)
    z = exponents(block, Lambda)
    W = torch.view_as_complex(kernel.W) * (z.exp() - 1) / Lambda
    K = torch.einsum("dn,dnl->dl", W, (z[..., None] * torch.arange(T)).exp()).real
    expected = applied(block, K, x.double())
    assert_close(found, expected)
    assert_all_close(found_gradients, gradients(block, expected))


@pytest.mark.parametrize("l_max", [T, 16])
@pytest.mark.parametrize("separate_dt", [True, False])
def test_softmax_equals_its_formula(separate_dt: bool, l_max: int) -> None:
    """The softmax over `l_max` lags; its exponentials go on beyond."""
    options = {"separate_dt": separate_dt, "l_max": l_max, "dt_min": 0.05, "dt_max": 0.2}
    block, x = build(version="softmax", **options), inputs(2, T)
    found, _ = block(x)
    found_gradients = gradients(block, found)
    kernel = block.double().kernel
    Lambda = torch.view_as_complex(kernel.Lambda)
    S = (exponents(block, Lambda)[..., None] * torch.arange(T)).exp()
    softmax = S / S[..., :l_max].sum(-1, keepdim=True)
    K = torch.einsum("dn,dnl->dl", torch.view_as_complex(kernel.W) / Lambda, softmax).real
    expected = applied(block, K, x.double())
    assert_close(found, expected)
    assert_all_close(found_gradients, gradients(block, expected))


@torch.no_grad()
def test_softmax_holds_real_parts_at_zero() -> None:
    block, x = build(version="softmax", dt_min=0.1, dt_max=0.2), inputs(1, 3000)
    block.kernel.Lambda[0, 0] = 0
    expected, _ = block(x)
    block.kernel.Lambda[0, 0] = 3
    found, state = block(x)
    assert found.equal(expected)
    assert torch.view_as_real(state).isfinite().all()


@pytest.mark.parametrize("version", ["exp", "softmax"])
@torch.no_grad()
def test_a_state_and_lengths_together(version: str) -> None:
    block, lengths = build(version=version), [9, 4, 1]
    _, state = block(inputs(3, 12))
    x = inputs(3, 9)
    y, last = block(x, state, torch.tensor(lengths))
    for i, length in enumerate(lengths):
        alone, state_alone = block(x[i : i + 1, :length], state[i : i + 1])
        assert_close(y[i : i + 1, :length], alone)
        assert_close(last[i : i + 1], state_alone)


def test_starts_with_the_eigenvalues_of_skew_hippo() -> None:
    root = (2 * torch.arange(2 * N, dtype=torch.float64) + 1).sqrt()
    lower = torch.outer(root, root).tril(-1)
    frequencies = torch.linalg.eigvals((lower - lower.T) / 2).imag.sort(descending=True).values[:N].float()
    exp, softmax = DSS(D, d_state=N).kernel, DSS(D, d_state=N, version="softmax").kernel
    assert torch.allclose(exp.Lambda_im, frequencies)
    assert torch.allclose(-exp.Lambda_log_neg_re.exp(), torch.tensor(-0.5))
    assert torch.allclose(softmax.Lambda[:, 1], frequencies)
    assert torch.allclose(softmax.Lambda[:, 0], torch.tensor(-0.5))
    assert exp.log_dt[:, 0].equal(exp.log_dt[:, 1])


def test_says_what_it_cannot_do() -> None:
    with pytest.raises(InputError, match="version is 'clip', expected 'exp' or 'softmax'"):
        DSS(D, version="clip")
    with pytest.raises(InputError, match="l_max is 0, expected at least 1"):
        DSS(D, version="softmax", l_max=0)
