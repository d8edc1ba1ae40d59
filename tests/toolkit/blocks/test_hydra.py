"""Hydra: its start, and its matrix written out."""

import pytest
import torch
import torch.nn.functional as F
from helixwave.blocks.hydra import Hydra
from helixwave.errors import InputError
from torch import Tensor


def as_a_matrix(block: Hydra, x: Tensor) -> Tensor:
    """Each head as a T x T matrix in float64; entry (i, j) says what position i gets from position j."""
    p = {name: tensor.detach().double() for name, tensor in block.state_dict().items()}
    H, G, (d_inner, two_maps, _) = block.n_head, block.n_group, block.split_conv
    (T, _), P, N = x.shape, d_inner // H, two_maps // 2 // G
    projected = x.double() @ p["in_proj.weight"].T + p.get("in_proj.bias", 0)
    z, mixed, dt = projected.split([d_inner, d_inner + 2 * two_maps, 2 * H], dim=-1)
    width = p["conv1d.weight"].shape[-1]
    window = F.pad(mixed, (0, 0, width // 2, width // 2)).unfold(0, width, 1)
    mixed = F.silu((window * p["conv1d.weight"][:, 0]).sum(-1) + p.get("conv1d.bias", 0))
    u, *maps = mixed.split([d_inner, *(two_maps // 2,) * 4], dim=-1)
    dt = F.softplus(dt + p["dt_bias"].repeat(2))
    own = u @ p["fc_D.weight"].T + p["D"]
    ys = []
    for h in range(H):
        group = slice(h * G // H * N, (h * G // H + 1) * N)
        B_ahead, C_ahead, B_behind, C_behind = (map_[:, group] for map_ in maps)
        A, dt_ahead, dt_behind = -p["A_log"][h].exp(), dt[:, h], dt[:, H + h]
        M = torch.diag(own[:, h])
        for i in range(T):
            for j in range(i):
                M[i, j] = C_ahead[i - 1] @ B_ahead[j] * dt_ahead[j] * torch.exp(A * dt_ahead[j + 1 : i].sum())
            for j in range(i + 1, T):
                M[i, j] = C_behind[i + 1] @ B_behind[j] * dt_behind[j] * torch.exp(A * dt_behind[i + 1 : j].sum())
        ys.append(M @ u[:, h * P : (h + 1) * P])
    y = torch.cat(ys, dim=-1)
    y = y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * p["norm.weight"] * F.silu(z)
    return y @ p["out_proj.weight"].T + p.get("out_proj.bias", 0)


@pytest.mark.parametrize("T", [1, 2, 15])
@pytest.mark.parametrize(
    "options",
    [{"d_state": 6}, {"d_state": 5, "d_head": 4, "n_group": 2, "d_conv": 3, "bias": True, "conv_bias": False}],
)
def test_equals_a_quasiseparable_matrix(options: dict, T: int) -> None:
    torch.manual_seed(0)
    block = Hydra(8, dt_min=0.01, dt_max=1.0, **options)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    x = torch.randn(T, 8)
    torch.testing.assert_close(block(x[None])[0][0].double(), as_a_matrix(block, x), rtol=1e-4, atol=1e-5)


def test_starts_as_published() -> None:
    """A = -1, D = 1, softplus(dt_bias) log-uniform in [0.001, 0.1]."""
    torch.manual_seed(0)
    block = Hydra(512, d_head=2, d_state=2)
    dt = F.softplus(block.dt_bias)
    assert (block.A_log == 0).all()
    assert (block.D == 1).all()
    assert 1e-3 * 0.99 <= dt.min() < 1.2e-3
    assert 0.08 < dt.max() <= 0.1 * 1.01


def test_parameters_are_named_as_published() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in Hydra(64).state_dict().items()}
    assert shapes == {
        "in_proj.weight": (2 * 128 + 4 * 64 + 2 * 2, 64),
        "conv1d.weight": (128 + 4 * 64, 1, 7),
        "conv1d.bias": (128 + 4 * 64,),
        "dt_bias": (2,),
        "A_log": (2,),
        "D": (2,),
        "fc_D.weight": (2, 128),
        "norm.weight": (128,),
        "out_proj.weight": (64, 128),
    }
    assert {*Hydra.optimisation} <= {*shapes}


def test_options_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="d_conv is 4, expected an odd number"):
        Hydra(16, d_conv=4)
    with pytest.raises(InputError, match="hydra: d_head is 24"):
        Hydra(16, d_head=24)


def test_refuses_a_state() -> None:
    with pytest.raises(ValueError, match="hydra: a state cannot be carried over"):
        Hydra(16)(torch.zeros(1, 4, 16), state=(None,))
