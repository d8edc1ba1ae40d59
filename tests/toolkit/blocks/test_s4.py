"""S4 against its recurrence in float64, from its parameters alone."""

import math

import pytest
import torch
import torch.nn.functional as F
from helixwave.blocks.s4 import S4
from helixwave.initialisers import hippo, nplr
from helixwave_kernels import s4_kernel
from torch import Tensor

D, N = 8, 16


def build(**options: object) -> S4:
    torch.manual_seed(0)
    return S4(D, d_state=N, **options)


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < tolerance, f"relative error {error:.1e}"


def whole(half: Tensor) -> Tensor:
    return torch.cat([half, half.conj()], dim=-1)


def recurrence(block: S4, u: Tensor) -> Tensor:
    """S4 as in the paper, equation 4, with all conjugate pairs: `[B, T, D]` -> `[B, T, M D]` before the activation."""
    copies = D // len(block.A_real)
    w = whole(torch.complex(-block.A_real.double().exp(), -block.A_imag.double())).repeat(copies, 1)
    B, P, C = (whole(torch.view_as_complex(value.detach().double())) for value in (block.B, block.P, block.C))
    B, P = B[0].repeat(copies, 1), P.repeat(1, copies, 1)
    identity, outputs = torch.eye(N), []
    for channel in range(D):
        A = torch.diag(w[channel]) - sum(torch.outer(p, p.conj()) for p in P[:, channel])
        dt = block.inv_dt[channel].double().exp()
        inverse = torch.linalg.inv(identity - dt / 2 * A)
        transition, inject = inverse @ (identity + dt / 2 * A), inverse @ B[channel] * dt
        h, ys = torch.zeros(len(u), N, dtype=torch.complex128), []
        for u_t in u[..., channel].double().unbind(1):
            h = h @ transition.T + inject * u_t[:, None]
            ys.append((h @ C[:, channel].T).real + block.D[:, channel].double() * u_t[:, None])
        outputs.append(torch.stack(ys, dim=1))
    return torch.stack(outputs, dim=-1).flatten(2)


@pytest.mark.parametrize(
    "options",
    [{"measure": "legs"}, {"measure": "legt"}, {"measure": "fout"}, {"n_ssm": 4, "channels": 3}],
    ids=lambda options: "-".join(map(str, options.values())),
)
@torch.no_grad()
def test_equals_the_recurrence(options: dict[str, object]) -> None:
    block, x = build(**options), torch.randn(2, 150, D)
    for parameter in (block.A_real, block.A_imag, block.B, block.P):
        parameter += 0.1 * torch.randn_like(parameter)
    y, _ = block(x)
    linear = block.output_linear.double()
    assert_close(y, F.glu(linear(F.gelu(recurrence(block, x))), dim=-1))


@pytest.mark.parametrize("measure", ["legs", "legt", "fout"])
@torch.no_grad()
def test_first_values_of_its_kernel_are_those_of_the_operator(measure: str) -> None:
    block = build(measure=measure, channels=2)
    block.D.zero_()
    maps = block.maps(1000)
    w, P, B, C, dt = block.system()
    kernel = s4_kernel(w, P, B, C, dt, length=maps.convolve.shape[-1])
    assert_close(maps.convolve[:, 0], kernel.transpose(0, 1))


@torch.no_grad()
def test_starts_as_published() -> None:
    """HiPPO's matrix for all channels, dt log-uniform in [0.001, 0.1], B clipped, C a standard complex normal."""
    block = S4(64)
    w, P, B, _ = nplr("legs", 64)
    assert_close(-block.A_real.exp(), w.real.float()[None])
    assert_close(-block.A_imag, w.imag.float()[None])
    torch.testing.assert_close(torch.view_as_complex(block.P)[0, 0], P[0].to(torch.complex64))
    clipped = torch.complex(B.real, B.imag.clamp(-2, 2)).to(torch.complex64)
    torch.testing.assert_close(torch.view_as_complex(block.B)[0, 0], clipped)
    dt = block.inv_dt.exp()
    assert dt.min() >= 1e-3 * 0.99
    assert dt.max() <= 0.1 * 1.01
    assert abs(block.C.square().sum(-1).mean() - 1) < 0.1
    assert block.output_linear.weight.shape == (128, 64)


@pytest.mark.parametrize(("measure", "rank"), [("legs", 1), ("legt", 2), ("fout", 1)])
@torch.no_grad()
def test_starts_with_the_matrix_of_its_measure(measure: str, rank: int) -> None:
    block = build(measure=measure, clip=None)
    w, P, _, _, _ = block.system()
    assert len(P) == rank
    _, _, _, V = nplr(measure, N)
    w, P, V = whole(w[0]), whole(P[:, 0]), whole(V)
    A = V @ (torch.diag(w) - P.T @ P.conj()) @ V.mH
    expected, _ = hippo(measure, N)
    # the floor of the real parts, 1e-4, is all that differs from the matrix of a window
    assert (A - expected).abs().max() < 2e-4 + 1e-6 * expected.abs().max()


def test_parameters_of_the_state_space_are_trained_slowly() -> None:
    names = dict(build().named_parameters())
    assert set(S4.optimisation) == set(names) - {"C", "D", "output_linear.weight", "output_linear.bias"}
    assert all(settings == {"lr": 1e-3, "weight_decay": 0.0} for settings in S4.optimisation.values())


@torch.no_grad()
def test_lengths_together_with_a_state() -> None:
    block, x, more = build(), torch.randn(3, 70, D), torch.randn(3, 90, D)
    lengths = torch.tensor([90, 65, 1])
    padded = more.clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = 1e3
    _, state = block(x)
    y, end = block(padded, state, lengths)
    for row, length in enumerate(lengths):
        alone, alone_end = block(torch.cat([x[row], more[row, :length]])[None])
        assert_close(y[row, :length], alone[0, 70:])
        assert_close(end[row], alone_end[0])


def test_the_state_does_not_grow_and_its_maps_are_remembered() -> None:
    block = build().eval()
    with torch.no_grad():
        _, state = block(torch.randn(2, 1, D))
        assert state.shape == (2, D, N)
        assert state.dtype == torch.float32
        assert block.maps(1) is block.maps(1)
        before = block.maps(1)
        block.inv_dt += 1
        assert block.maps(1) is not before


@torch.no_grad()
def test_long_memory() -> None:
    """LegS keeps an impulse for about 1 / dt steps, and forgets it after many times that."""
    block = S4(4, dt_min=0.01, dt_max=0.01)
    assert math.isclose(block.inv_dt.exp().mean().item(), 0.01, rel_tol=1e-5)
    impulse = torch.zeros(1, 3000, 4)
    impulse[:, 0] = 1
    _, near = block(impulse[:, :100])
    _, far = block(impulse)
    assert 1e-3 < near.norm() < 10
    assert far.norm() < 1e-5


def test_errors_say_what_is_expected() -> None:
    with pytest.raises(ValueError, match="n_ssm is 3, expected a divisor of d_model 8"):
        S4(8, n_ssm=3)
    with pytest.raises(ValueError, match="N is 7, expected an even number"):
        S4(8, d_state=7)
    with pytest.raises(ValueError, match="measure is 'legx'"):
        S4(8, measure="legx")
