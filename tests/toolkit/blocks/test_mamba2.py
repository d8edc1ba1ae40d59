"""Mamba-2: its start, its recurrence read aloud, and the sizes of its heads."""

import pytest
import torch
import torch.nn.functional as F
from helixwave.blocks.mamba2 import Mamba2
from helixwave.errors import InputError
from torch import Tensor


def read_aloud(block: Mamba2, x: Tensor, dt_limit: tuple[float, float] = (0.0, torch.inf)) -> Tensor:
    """The recurrence of each head, step by step in float64."""
    p = {name: tensor.detach().double() for name, tensor in block.state_dict().items()}
    H, G, (d_inner, d_maps, _) = block.n_head, block.n_group, block.split_conv
    P, N, W = d_inner // H, d_maps // G, p["conv1d.weight"].shape[-1]
    projected = x.double() @ p["in_proj.weight"].T + p.get("in_proj.bias", 0)
    z, mixed, dt = projected.split([d_inner, d_inner + 2 * d_maps, H], dim=-1)
    mixed = F.pad(mixed, (0, 0, W - 1, 0))
    state, ys = torch.zeros(len(x), H, P, N, dtype=torch.float64), []
    for t in range(x.shape[1]):
        taps = F.silu((mixed[:, t : t + W].mT * p["conv1d.weight"][:, 0]).sum(-1) + p.get("conv1d.bias", 0))
        u, B, C = taps.split([d_inner, d_maps, d_maps], dim=-1)
        step = F.softplus(dt[:, t] + p["dt_bias"]).clamp(*dt_limit)
        heads = []
        for h in range(H):
            u_h, step_h, group = u[:, h * P : (h + 1) * P], step[:, h, None, None], h * G // H
            B_h, C_h = (map_[:, group * N : (group + 1) * N] for map_ in (B, C))
            decay = torch.exp(-step_h * p["A_log"][h].exp())
            state[:, h] = decay * state[:, h] + step_h * u_h[:, :, None] * B_h[:, None]
            skip = p["D"][h] if len(p["D"]) == H else p["D"][h * P : (h + 1) * P]
            heads.append((state[:, h] * C_h[:, None]).sum(-1) + skip * u_h)
        ys.append(torch.cat(heads, dim=-1))
    y = torch.stack(ys, dim=1) * F.silu(z)
    groups = y.unflatten(-1, (G, -1))
    y = (groups / (groups.square().mean(-1, keepdim=True) + 1e-5).sqrt()).flatten(-2) * p["norm.weight"]
    return y @ p["out_proj.weight"].T + p.get("out_proj.bias", 0)


@pytest.mark.parametrize(
    "options",
    [
        {"d_state": 6},
        {"d_state": 6, "d_head": 4, "n_group": 2},
        {"d_state": 5, "d_head": 2, "skip_per_channel": True, "d_conv": 3},
        {"d_state": 6, "d_head": 8, "dt_limit": (0.05, 0.1), "bias": True, "conv_bias": False},
    ],
)
def test_equals_the_recurrence(options: dict) -> None:
    torch.manual_seed(0)
    block = Mamba2(8, dt_min=0.01, dt_max=1.0, **options)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    x = torch.randn(2, 20, 8)
    expected = read_aloud(block, x, options.get("dt_limit", (0.0, torch.inf)))
    torch.testing.assert_close(block(x)[0].double(), expected, rtol=1e-4, atol=1e-5)


def test_starts_as_published() -> None:
    """A uniform in [1, 16], D = 1, softplus(dt_bias) log-uniform in [0.001, 0.1]."""
    torch.manual_seed(0)
    block = Mamba2(512, d_head=2)
    A, dt = block.A_log.exp(), F.softplus(block.dt_bias)
    assert 1 <= A.min() < 1.3
    assert 15.7 < A.max() <= 16 * 1.001
    assert 8 < A.mean() < 9
    assert 1e-3 * 0.99 <= dt.min() < 1.2e-3
    assert 0.08 < dt.max() <= 0.1 * 1.01
    assert (block.D == 1).all()


def test_parameters_are_named_as_published() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in Mamba2(64).state_dict().items()}
    assert shapes == {
        "in_proj.weight": (2 * 128 + 2 * 128 + 2, 64),
        "conv1d.weight": (128 + 2 * 128, 1, 4),
        "conv1d.bias": (128 + 2 * 128,),
        "dt_bias": (2,),
        "A_log": (2,),
        "D": (2,),
        "norm.weight": (128,),
        "out_proj.weight": (64, 128),
    }
    assert {*Mamba2.optimisation} <= {*shapes}


@pytest.mark.parametrize(("d_model", "n_head"), [(16, 1), (36, 2), (64, 2), (100, 4)])
def test_heads_have_64_channels_or_what_divides(d_model: int, n_head: int) -> None:
    assert Mamba2(d_model, d_state=2).n_head == n_head


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_head": 24}, "d_head is 24, expected a divisor of the 32 inner channels"),
        ({"d_head": 16, "n_group": 4}, "n_group is 4, expected a divisor of the 2 heads"),
        ({"dt_limit": (0.1, 0.01)}, "dt_limit is .*, expected the least step from 0 and a larger one"),
    ],
)
def test_options_that_do_not_fit(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Mamba2(16, **options)
