"""S4D against the recurrence and the published layer's algebra, both written out."""

import math

import pytest
import torch
import torch.nn.functional as F
from helixwave.blocks.s4d import S4D, complex_expm1
from helixwave.errors import InputError
from torch import Tensor, nn

D, N = 6, 8


def build(**options) -> S4D:
    torch.manual_seed(0)
    return S4D(D, d_state=N, **options).eval()


def inputs(B: int, T: int) -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(T))


def mixed(block: S4D, y: Tensor) -> Tensor:
    mix = block.output_linear[0].double()
    return F.glu(F.gelu(y) @ mix.weight.squeeze(-1).T + mix.bias, dim=-1)


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


@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
@pytest.mark.parametrize("initialisation", ["lin", "inv", "legs", "real"])
def test_equals_the_recurrence(initialisation: str, discretization: str) -> None:
    block = build(initialisation=initialisation, discretization=discretization)
    x = inputs(2, 50)
    found, last = block(x)
    found_gradients = gradients(block, found)
    parameters = block.double().kernel
    is_real = initialisation == "real"
    A = -parameters.log_A_real.exp() + (0j if is_real else 1j * parameters.A_imag)
    C = parameters.C if is_real else 2 * torch.view_as_complex(parameters.C)
    dt = parameters.log_dt.exp()[:, None]
    if discretization == "zoh":
        a, b = (dt * A).exp(), ((dt * A).exp() - 1) / A
    else:
        a, b = (1 + dt * A / 2) / (1 - dt * A / 2), dt / (1 - dt * A / 2)
    h, ys = torch.zeros(2, *A.shape, dtype=torch.complex128), []
    for u in x.double().unbind(1):
        h = a * h + b * u[..., None]
        ys.append((C * h).sum(-1).real + block.D * u)
    expected = mixed(block, torch.stack(ys, dim=1))
    assert_close(found, expected)
    assert_all_close(found_gradients, gradients(block, expected))
    assert last.dtype == torch.complex64
    assert (last.imag == 0).all() == is_real


@torch.no_grad()
def test_loads_and_equals_the_published_layer() -> None:
    """Its names and shapes; its kernel by a sum over all states and lags, and its convolution by FFT."""
    torch.manual_seed(1)
    T = 60
    published = {
        "D": torch.randn(D),
        "kernel.C": torch.randn(D, N // 2, 2),
        "kernel.log_dt": torch.rand(D) * math.log(100) + math.log(1e-3),
        "kernel.log_A_real": torch.randn(D, N // 2) / 4 - 1,
        "kernel.A_imag": math.pi * torch.arange(N / 2).repeat(D, 1) + torch.randn(D, N // 2) / 4,
        "output_linear.0.weight": torch.randn(2 * D, D, 1) / 2,
        "output_linear.0.bias": torch.randn(2 * D),
    }
    block = build()
    block.load_state_dict(published)
    x = inputs(3, T)
    found, _ = block(x)

    p = {name: value.double() for name, value in published.items()}
    A = torch.complex(-p["kernel.log_A_real"].exp(), p["kernel.A_imag"])
    z = A * p["kernel.log_dt"].exp()[:, None]
    C = torch.view_as_complex(p["kernel.C"]) * (z.exp() - 1) / A
    K = 2 * torch.einsum("hn,hnl->hl", C, (z[..., None] * torch.arange(T)).exp()).real
    u = x.double().mT
    y = torch.fft.irfft(torch.fft.rfft(u, n=2 * T) * torch.fft.rfft(K, n=2 * T), n=2 * T)[..., :T]
    y = F.gelu(y + u * p["D"][:, None])
    y = F.glu(F.conv1d(y, p["output_linear.0.weight"], p["output_linear.0.bias"]), dim=-2)
    assert_close(found, y.mT)


def test_starts_as_published() -> None:
    n = torch.arange(N // 2)
    expected = {"lin": math.pi * n, "inv": N / math.pi * (N / (2 * n + 1) - 1)}
    for initialisation, frequency in expected.items():
        kernel = build(initialisation=initialisation).kernel
        assert torch.allclose(kernel.A_imag, frequency.float().expand(D, -1))
        assert torch.allclose(kernel.log_A_real.exp(), torch.tensor(0.5))
        assert 1e-3 * 0.99 < kernel.log_dt.exp().min() < kernel.log_dt.exp().max() < 0.1 * 1.01
    real = build(initialisation="real").kernel
    assert torch.allclose(real.log_A_real.exp(), torch.arange(1.0, N + 1).expand(D, -1))
    assert "A_imag" not in real.state_dict()


def test_legs_starts_with_the_eigenvalues_of_its_normal_part() -> None:
    n = torch.arange(N, dtype=torch.float64)
    P = (n + 0.5).sqrt()
    normal = -(2 * torch.outer(P, P)).tril(-1) - torch.diag(n + 1) + torch.outer(P, P)
    expected = torch.linalg.eigvals(normal)
    kernel = build(initialisation="legs").kernel
    found = torch.cat([kernel.A_imag[0], -kernel.A_imag[0]]).sort().values
    assert torch.allclose(found.double(), expected.imag.sort().values, atol=1e-5)
    assert (kernel.A_imag > 0).all()
    assert torch.allclose(-kernel.log_A_real.exp().double(), expected.real[: N // 2])


@torch.no_grad()
def test_a_state_and_lengths_together() -> None:
    """Sequences of several lengths that each go on from a state."""
    block, lengths = build(), [9, 4, 1]
    _, state = block(inputs(3, 12))
    x = inputs(3, 9)
    y, last = block(x, state, torch.tensor(lengths))
    for i, length in enumerate(lengths):
        alone, state_alone = block(x[i : i + 1, :length], state[i : i + 1])
        assert_close(y[i : i + 1, :length], alone)
        assert_close(last[i : i + 1], state_alone)


def test_small_arguments_of_the_exponential() -> None:
    z = torch.tensor([1e-4 + 2e-4j, -3e-5 + 0j, -2 + 3j, 5e-4j, -1 + 0.1j])
    assert torch.allclose(complex_expm1(z), (z.to(torch.complex128).exp() - 1).to(torch.complex64), rtol=1e-6, atol=0)


def test_says_what_it_cannot_do() -> None:
    with pytest.raises(InputError, match="d_state is 7, expected an even number"):
        S4D(D, d_state=7)
    with pytest.raises(InputError, match="initialisation is 'linear', expected 'lin', 'inv', 'legs' or 'real'"):
        S4D(D, initialisation="linear")
