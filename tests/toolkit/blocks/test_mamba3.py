"""Mamba-3: its start, its recurrence read aloud, and its angles over long sequences."""

import math

import pytest
import torch
import torch.nn.functional as F
from helixwave.blocks.mamba3 import Mamba3, accumulated
from helixwave.errors import InputError
from torch import Tensor


def read_aloud(block: Mamba3, x: Tensor) -> Tensor:
    """The published recurrence, step by step in float64: the angle, S, and the k and v of the step before."""
    p = {name: tensor.detach().double() for name, tensor in block.state_dict().items()}
    H, d_inner = block.n_head, block.split[0]
    N, P = p["B_norm.weight"].shape[0], d_inner // H
    S = torch.zeros(len(x), H, P, N, dtype=torch.float64)
    k_last, v_last, angle = torch.zeros(len(x), H, N), torch.zeros(len(x), H, P), torch.zeros(len(x), H, 1)
    ys = []
    for x_t in x.double().unbind(1):
        z, v, B, C, dt, decay, trap, turn = (x_t @ p["in_proj.weight"].T).split(block.split, dim=-1)
        v = v.view(-1, H, P)
        dt = F.softplus(dt + p["dt_bias"])
        heavy_tail = torch.where(decay >= 0, 1 + decay, 1 / (1 - decay))
        A = -(heavy_tail if block.decay == "heavy_tail" else F.softplus(decay))
        angle = (angle + torch.tanh(turn)[:, None] * math.pi * dt[..., None]) % (2 * math.pi)
        k, q = (turned(heads(block, p, which, map_), angle) for which, map_ in (("B", B), ("C", C)))
        alpha, share = torch.exp(A * dt), torch.sigmoid(trap)
        beta, gamma = (1 - share) * dt * alpha, share * dt
        S = alpha[..., None, None] * S
        S = S + beta[..., None, None] * v_last[..., None] * k_last[:, :, None]
        S = S + gamma[..., None, None] * v[..., None] * k[:, :, None]
        y = (S * q[:, :, None]).sum(-1) + p["D"][:, None] * v
        ys.append(y.flatten(1) * F.silu(z))
        k_last, v_last = k, v
    return torch.stack(ys, dim=1) @ p["out_proj.weight"].T


def heads(block: Mamba3, p: dict[str, Tensor], which: str, map_: Tensor) -> Tensor:
    groups = map_.unflatten(-1, (block.n_group, -1))
    normed = groups / (groups.square().mean(-1, keepdim=True) + 1e-5).sqrt() * p[f"{which}_norm.weight"]
    return normed[:, [h * block.n_group // block.n_head for h in range(block.n_head)]] + p[f"{which}_bias"][:, 0]


def turned(x: Tensor, angle: Tensor) -> Tensor:
    x = x.clone()
    for i in range(angle.shape[-1]):
        pair = torch.complex(x[..., 2 * i], x[..., 2 * i + 1]) * torch.exp(1j * angle[..., i])
        x[..., 2 * i], x[..., 2 * i + 1] = pair.real, pair.imag
    return x


@pytest.mark.parametrize(
    "options",
    [
        {"d_state": 8},
        {"d_state": 6, "d_head": 4, "n_group": 2, "rope_fraction": 1.0},
        {"d_state": 7, "d_head": 2, "decay": "softplus"},
    ],
)
def test_equals_the_recurrence(options: dict) -> None:
    torch.manual_seed(0)
    block = Mamba3(8, dt_min=0.1, dt_max=2.0, **options)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    x = torch.randn(2, 80, 8)
    torch.testing.assert_close(block(x)[0].double(), read_aloud(block, x), rtol=1e-4, atol=1e-4)


def test_starts_as_published() -> None:
    """D and the biases of B and C are 1, softplus(dt_bias) log-uniform in [0.001, 0.1]."""
    torch.manual_seed(0)
    block = Mamba3(512, d_head=2, d_state=4)
    dt = F.softplus(block.dt_bias)
    assert 1e-3 * 0.99 <= dt.min() < 1.2e-3
    assert 0.08 < dt.max() <= 0.1 * 1.01
    for ones in (block.D, block.B_bias, block.C_bias, block.B_norm.weight, block.C_norm.weight):
        assert (ones == 1).all()


def test_parameters_are_named_as_published() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in Mamba3(64).state_dict().items()}
    assert shapes == {
        "in_proj.weight": (2 * 128 + 2 * 128 + 3 * 2 + 32, 64),
        "dt_bias": (2,),
        "B_bias": (2, 1, 128),
        "C_bias": (2, 1, 128),
        "B_norm.weight": (128,),
        "C_norm.weight": (128,),
        "D": (2,),
        "out_proj.weight": (64, 128),
    }
    assert {*Mamba3.optimisation} <= {*shapes}


def test_decay_has_finite_gradients_where_its_other_branch_has_none() -> None:
    """`1 / (1 - x)` has no value at 1, where `1 + x` holds."""
    block = Mamba3(8, d_state=4)
    decay = torch.tensor([-3.0, 0.0, 1.0, 2.0], requires_grad=True)
    A = block._eigenvalue(decay)
    torch.testing.assert_close(A, torch.tensor([-0.25, -1.0, -2.0, -3.0]))
    A.sum().backward()
    assert decay.grad is not None
    assert decay.grad.isfinite().all()


def test_angles_keep_their_digits_over_long_sequences() -> None:
    """Each step turns by a third of a circle and a little, so that after T steps it is known where the angle is."""
    T = 60_000
    turn = torch.tensor(2 * math.pi / 3 + 1e-3)
    first = accumulated(turn.expand(1, T // 2, 1), None)
    second = accumulated(turn.expand(1, T // 2, 1), first[:, -1])
    exact = T * turn.double().item()
    error = (second[0, -1, 0].item() - exact + math.pi) % (2 * math.pi) - math.pi
    assert abs(error) < 1e-6
    assert (second >= 0).all()
    assert second.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rope_fraction": 1.5}, "rope_fraction is 1.5"),
        ({"d_state": 3}, "rope_fraction is 0.5, expected at most 1 and two or more of the 3 states"),
        ({"d_head": 24}, "mamba3: d_head is 24, expected a divisor of the 32 inner channels"),
    ],
)
def test_options_that_do_not_fit(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Mamba3(16, **options)
