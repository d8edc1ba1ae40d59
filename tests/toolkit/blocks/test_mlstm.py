"""Both layers are the recurrence of their papers, and start as published."""

import math

import pytest
import torch
import torch.nn.functional as F
from helixwave.blocks.mlstm import MLSTM, MLSTMLarge
from helixwave.errors import InputError
from torch import Tensor, nn

D, H = 8, 2


def build(cls: type[nn.Module], **options: object) -> nn.Module:
    """All parameters drawn at random, so that none is without influence."""
    torch.manual_seed(0)
    block = cls(D, n_head=H, **options)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.4)
    return block


def doubles(block: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().double() for name, parameter in block.named_parameters()}


def memory_by_the_paper(q: Tensor, k: Tensor, v: Tensor, write: Tensor, keep: Tensor) -> Tensor:
    """Equations 19 to 23 one step after another, with the gates as factors `[B, T, H]`."""
    q, k, v = (part.unflatten(-1, (H, -1)) for part in (q, k / math.sqrt(k.shape[-1] // H), v))
    C, n = 0.0, 0.0
    ys = []
    for t in range(q.shape[1]):
        C = keep[:, t, :, None, None] * C + write[:, t, :, None, None] * v[:, t, :, :, None] * k[:, t, :, None, :]
        n = keep[:, t, :, None] * n + write[:, t, :, None] * k[:, t]
        size = torch.einsum("bhk,bhk->bh", n, q[:, t]).abs().clamp(min=1)
        ys.append(torch.einsum("bhvk,bhk->bhv", C, q[:, t]) / size[..., None])
    return torch.stack(ys, dim=1)


def norm(h: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.layer_norm(h, h.shape[-1:], eps=eps).flatten(-2) * weight


def mlstm_by_the_paper(block: MLSTM, x: Tensor) -> Tensor:
    p, x = doubles(block), x.double()
    u, z = (x @ p["proj_up.weight"].T).chunk(2, dim=-1)
    padded = F.pad(u, (0, 0, 3, 0))
    taps = p["conv1d.weight"].squeeze(1).unbind(-1)
    c = F.silu(sum(tap * padded[:, j : j + x.shape[1]] for j, tap in enumerate(taps)) + p["conv1d.bias"])
    q, k, v = (
        source @ torch.block_diag(*p[f"{name}_proj.weight"]).T for name, source in (("q", c), ("k", c), ("v", u))
    )
    i, f = (torch.cat([q, k, v], -1) @ p[f"{gate}.weight"].T + p[f"{gate}.bias"] for gate in ("igate", "fgate"))
    h = memory_by_the_paper(q, k, v, i.exp() if block.input_gate == "exp" else i.sigmoid(), f.sigmoid())
    return ((norm(h, p["outnorm.weight"], 1e-5) + p["learnable_skip"] * c) * F.silu(z)) @ p["proj_down.weight"].T


def mlstm_large_by_the_paper(block: MLSTMLarge, x: Tensor) -> Tensor:
    p, x = doubles(block), x.double()
    q, k, v, o = (x @ p[f"{name}.weight"].T for name in ("q", "k", "v", "ogate_preact"))
    i, f = (15 * torch.tanh((x @ p[f"{g}gate_preact.weight"].T + p[f"{g}gate_preact.bias"]) / 15) for g in "if")
    h = memory_by_the_paper(q, k, v, i.exp(), f.sigmoid())
    return (o.sigmoid() * norm(h, p["multihead_norm.weight"], 1e-6)) @ p["out_proj.weight"].T


@pytest.mark.parametrize("input_gate", ["exp", "sigmoid"])
def test_mlstm_is_the_recurrence_of_the_paper(input_gate: str) -> None:
    block = build(MLSTM, multiple=8, input_gate=input_gate)
    x = torch.randn(2, 40, D)
    torch.testing.assert_close(block(x)[0].double(), mlstm_by_the_paper(block, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1, 30])
def test_mlstm_large_is_the_recurrence_of_its_paper(scale: float) -> None:
    """Also where the cap of the gates is reached."""
    block = build(MLSTMLarge)
    x = torch.randn(2, 40, D)
    with torch.no_grad():
        block.igate_preact.weight.mul_(scale)
        block.fgate_preact.weight.mul_(scale)
    torch.testing.assert_close(block(x)[0].double(), mlstm_large_by_the_paper(block, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("implementation", ["reference", "chunked"])
@pytest.mark.parametrize("options", [{}, {"input_gate": "sigmoid"}, None], ids=["exp", "sigmoid", "large"])
def test_padding_has_no_gradient_and_leaves_the_state(
    options: dict[str, str] | None, implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The infinities that freeze a padded step give no NaN, and the rest is as without padding."""
    monkeypatch.setenv("HELIXWAVE_IMPL", implementation)
    block = build(MLSTMLarge) if options is None else build(MLSTM, multiple=8, **options)
    x, more, lengths = torch.randn(3, 40, D), torch.randn(3, 3, D), torch.tensor([40, 5, 1])
    for i, length in enumerate(lengths.tolist()):
        x[i, length:] = 1e3
    x.requires_grad_()
    _, state = block(x, lengths=lengths)
    (gradient,) = torch.autograd.grad(block(more, state)[0].square().sum(), x)
    for i, length in enumerate(lengths.tolist()):
        _, alone = block(x[i : i + 1, :length])
        (expected,) = torch.autograd.grad(block(more[i : i + 1], alone)[0].square().sum(), x)
        torch.testing.assert_close(gradient[i], expected[i], rtol=1e-3, atol=1e-4)
    assert gradient[1, 5:].eq(0).all()


def test_mlstm_starts_as_published() -> None:
    torch.manual_seed(0)
    block = MLSTM(96, n_block=6)
    assert block.proj_down.in_features == 192
    for weight in (block.proj_up.weight, block.q_proj.weight, block.k_proj.weight, block.v_proj.weight):
        assert weight.std().item() == pytest.approx(math.sqrt(2 / (5 * 96)), rel=0.1)
    assert block.proj_down.weight.std().item() == pytest.approx(2 / 6 / math.sqrt(96), rel=0.05)
    assert block.igate.weight.eq(0).all()
    assert block.fgate.weight.eq(0).all()
    assert block.fgate.bias.tolist() == [3, 4, 5, 6]
    assert 0 < block.igate.bias.abs().max() < 0.5
    assert block.learnable_skip.eq(1).all()
    assert MLSTM(96).proj_down.weight.abs().max() <= 192**-0.5


def test_mlstm_large_starts_as_published() -> None:
    torch.manual_seed(0)
    block = MLSTMLarge(128, n_block=6)
    for linear in (block.q, block.k, block.v):
        assert linear.weight.std().item() == pytest.approx(math.sqrt(2 / (5 * 128)), rel=0.05)
    for linear in (block.ogate_preact, block.igate_preact, block.fgate_preact):
        assert linear.weight.eq(0).all()
    assert block.igate_preact.bias.eq(-10).all()
    assert block.fgate_preact.bias.tolist() == [3, 4, 5, 6]
    assert block.out_proj.weight.std().item() == pytest.approx(2 / 6 / math.sqrt(128), rel=0.05)


def test_sizes() -> None:
    """Inner channels up to a multiple of 64 as published, or as few as asked for; heads of the same size."""
    assert [MLSTM(d).proj_down.in_features for d in (16, 32, 48)] == [64, 64, 128]
    assert MLSTM(16, multiple=1).proj_down.in_features == 32
    block = MLSTMLarge(20, n_head=4)
    assert (block.q.out_features, block.v.out_features) == (12, 20)
    C, n, m = block(torch.randn(2, 3, 20))[1]
    assert (C.shape, n.shape, m.shape) == ((2, 4, 3, 5), (2, 4, 3), (2, 4))


@pytest.mark.parametrize("options", [{"n_head": 5}, {"d_block": 5}])
def test_parts_must_divide_the_inner_channels(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))} is 5, expected a divisor of the 64 inner channels"):
        MLSTM(16, **options)
