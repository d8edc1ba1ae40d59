"""Mamba-1: its start, and its recurrence read aloud."""

import pytest
import torch
import torch.nn.functional as F
from helixwave.blocks.mamba import Mamba
from helixwave.initialisers import inverse_softplus
from torch import Tensor


def read_aloud(block: Mamba, x: Tensor) -> Tensor:
    """Mamba, algorithm 2, step by step in float64."""
    p = {name: tensor.detach().double() for name, tensor in block.state_dict().items()}
    rank, N, _ = block.split
    inputs, z = (x.double() @ p["in_proj.weight"].T + p.get("in_proj.bias", 0)).chunk(2, dim=-1)
    W = p["conv1d.weight"].shape[-1]
    inputs = F.pad(inputs, (0, 0, W - 1, 0))
    h, ys = 0.0, []
    for t in range(x.shape[1]):
        u = F.silu((inputs[:, t : t + W].mT * p["conv1d.weight"][:, 0]).sum(-1) + p.get("conv1d.bias", 0))
        dt, B, C = (u @ p["x_proj.weight"].T).split([rank, N, N], dim=-1)
        delta = F.softplus(dt @ p["dt_proj.weight"].T + p["dt_proj.bias"])[..., None]
        decay = torch.exp(-delta * p["A_log"].exp())
        decay = 2 * decay - 1 if block.negative_eigenvalues else decay
        h = decay * h + delta * B[:, None] * u[..., None]
        ys.append(((h * C[:, None]).sum(-1) + p["D"] * u) * F.silu(z[:, t]))
    return torch.stack(ys, dim=1) @ p["out_proj.weight"].T + p.get("out_proj.bias", 0)


@pytest.mark.parametrize(
    "options",
    [{}, {"negative_eigenvalues": True}, {"bias": True, "conv_bias": False, "d_state": 3, "d_conv": 2, "dt_rank": 4}],
)
def test_equals_the_recurrence(options: dict) -> None:
    torch.manual_seed(0)
    block = Mamba(8, **options)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    x = torch.randn(2, 20, 8)
    torch.testing.assert_close(block(x)[0].double(), read_aloud(block, x), rtol=1e-4, atol=1e-5)


def test_starts_as_published() -> None:
    """A = -(1..N), D = 1, softplus(dt bias) log-uniform in [0.001, 0.1] (Mamba, section 3.6)."""
    block = Mamba(256)
    assert torch.allclose(block.A_log.exp(), torch.arange(1.0, 17.0).expand(512, 16))
    assert (block.D == 1).all()
    dt = F.softplus(block.dt_proj.bias)
    assert 1e-3 * 0.99 <= dt.min() < 1.2e-3
    assert 0.08 < dt.max() <= 0.1 * 1.01
    assert 0.009 < dt.log().mean().exp() < 0.011
    assert 0.24 < block.dt_proj.weight.abs().max() <= 16**-0.5


def test_parameters_are_named_as_published() -> None:
    names = "in_proj.weight conv1d.weight conv1d.bias x_proj.weight dt_proj.weight dt_proj.bias A_log D out_proj.weight"
    assert {*Mamba(32).state_dict()} == {*names.split()}
    assert Mamba(32).x_proj.weight.shape == (2 + 2 * 16, 64)
    assert {*Mamba.optimisation} == {"A_log", "D"}


def test_negative_eigenvalues_let_a_state_alternate() -> None:
    """A step without input shrinks the state; with a decay of 1/4 and negative eigenvalues it is halved and turned."""
    for negative, expected in ((False, 0.25), (True, -0.5)):
        torch.manual_seed(0)
        block = Mamba(4, d_state=1, d_conv=1, conv_bias=False, negative_eigenvalues=negative)
        with torch.no_grad():
            # without input delta is ln 4, and A is -1
            block.dt_proj.bias.fill_(inverse_softplus(torch.tensor(4.0).log()))
        _, state = block(torch.randn(1, 1, 4))
        _, after = block(torch.zeros(1, 1, 4), state)
        torch.testing.assert_close(after[1], expected * state[1])
