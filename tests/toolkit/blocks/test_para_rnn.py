"""ParaGRU and ParaLSTM: as published, step by step, and frozen by padding in every implementation."""

import math

import pytest
import torch
from helixwave.blocks.para_rnn import ParaGRU, ParaLSTM
from helixwave.errors import InputError
from helixwave_kernels import newton_recurrence
from torch import Tensor

CELLS = [ParaGRU, ParaLSTM]
# the reference is the meaning, and steps through time
SOLVERS = [name for name in newton_recurrence.impls if name != "triton"]


def build(cell: type, d_model: int = 8, **options: int) -> ParaGRU | ParaLSTM:
    torch.manual_seed(0)
    block = cell(d_model, **options).eval()
    with torch.no_grad():
        # large enough that the recurrence is far from linear
        for name in ("A", "b", "C"):
            if hasattr(block, name):
                getattr(block, name).normal_()
    return block


def by_steps(block: ParaGRU | ParaLSTM, x: Tensor) -> Tensor:
    """The block in float64, one step after another, each head's block of B by itself."""
    p = {name: value.double() for name, value in block.named_parameters()}
    inputs, z = (x.double() @ p["in_proj.weight"].T).chunk(2, dim=-1)
    filters, bias = p["conv1d.weight"].squeeze(1), p["conv1d.bias"]
    width = filters.shape[1]
    h = c = torch.zeros_like(inputs[:, 0])
    ys = []
    for t in range(x.shape[1]):
        taps = range(max(0, width - 1 - t), width)
        u = sum((inputs[:, t - width + 1 + j] * filters[:, j] for j in taps), bias)
        u = u * u.sigmoid()
        gates = []
        for gate in range(3):
            heads = u.chunk(len(p["B"]), dim=-1)
            mapped = [head @ B[:, gate] for head, B in zip(heads, p["B"], strict=True)]
            gates.append(torch.cat(mapped, dim=-1) + p["b"][gate])
        h, c = (gru if isinstance(block, ParaGRU) else lstm)(gates, h, c, p)
        gated = h * z[:, t] * z[:, t].sigmoid()
        ys.append(gated / (gated.square().mean(-1, keepdim=True) + 1e-5).sqrt() * p["norm.weight"])
    return torch.stack(ys, dim=1) @ p["out_proj.weight"].T


def gru(gates: list[Tensor], h: Tensor, c: Tensor, p: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    z, r = (gates[0] + p["A"][0] * h).sigmoid(), (gates[1] + p["A"][1] * h).sigmoid()
    return (1 - z) * h + z * (gates[2] + p["A"][2] * h * r).tanh(), c


def lstm(gates: list[Tensor], h: Tensor, c: Tensor, p: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The published order: f, o, c."""
    f, g = (gates[0] + p["A"][0] * h + p["C"][0] * c).sigmoid(), (gates[2] + p["A"][2] * h).tanh()
    c = f * c + (1 - f) * g
    return (gates[1] + p["A"][1] * h + p["C"][1] * c).sigmoid() * c.tanh(), c


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("options", [{}, {"expand": 2, "n_head": 1, "d_conv": 2}])
def test_equals_the_paper_step_by_step(cell: type, options: dict[str, int]) -> None:
    block = build(cell, **options)
    x = torch.randn(2, 23, 8)
    torch.testing.assert_close(block(x)[0].double(), by_steps(block, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_starts_as_published(cell: type) -> None:
    block = cell(256)
    assert block.A.std().item() == pytest.approx(2 / math.sqrt(5 * 256), rel=0.1)
    torch.testing.assert_close(block.b[0], -torch.linspace(0, 1, 256))
    assert (block.b[1:] == 0).all()
    assert block.B.abs().max().item() == pytest.approx(math.sqrt(6 / (64 + 64)), rel=1e-2)
    if cell is ParaLSTM:
        assert block.C.std().item() == pytest.approx(2 / math.sqrt(5 * 256), rel=0.1)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("cell", CELLS)
def test_padding_freezes_the_cell(cell: type, solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs, states and gradients of a padded batch are those of each sequence alone, with garbage as padding."""
    monkeypatch.setenv("HELIXWAVE_IMPL", f"{solver},chunked,reference")
    block = build(cell)
    x, lengths = torch.randn(3, 40, 8), [40, 17, 1]
    alone = [block(x[i : i + 1, :length]) for i, length in enumerate(lengths)]
    loss = sum(y.square().sum() + sum(part.square().sum() for part in state[1:]) for y, state in alone)
    expected = torch.autograd.grad(loss, list(block.parameters()))
    for i, length in enumerate(lengths):
        x[i, length:] = 1e3
    x.requires_grad_()
    y, state = block(x, lengths=torch.tensor(lengths))
    loss = sum(part.square().sum() for part in state[1:])
    for i, length in enumerate(lengths):
        torch.testing.assert_close(y[i : i + 1, :length], alone[i][0], rtol=1e-4, atol=1e-5)
        for part, part_alone in zip(state, alone[i][1], strict=True):
            torch.testing.assert_close(part[i : i + 1], part_alone, rtol=1e-4, atol=1e-5)
        loss = loss + y[i, :length].square().sum()
    *found, dx = torch.autograd.grad(loss, [*block.parameters(), x])
    for gradient, gradient_alone in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, gradient_alone, rtol=1e-3, atol=1e-3)
    assert dx.isfinite().all()
    assert (dx[1, 17:] == 0).all()


@pytest.mark.parametrize("cell", CELLS)
def test_garbage_has_no_say_in_the_iterations(cell: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIXWAVE_IMPL", "chunked,native")
    block, lengths = build(cell), torch.tensor([30, 4])
    x = torch.randn(2, 30, 8)
    garbage = x.clone()
    garbage[1, 4:] = 1e3
    assert block(garbage, lengths=lengths)[0][1, :4].equal(block(x, lengths=lengths)[0][1, :4])


@pytest.mark.parametrize("cell", CELLS)
def test_heads_must_fit(cell: type) -> None:
    with pytest.raises(InputError, match=r"n_head is 3, expected a divisor of expand \* d_model = 16"):
        cell(8, expand=2, n_head=3)
