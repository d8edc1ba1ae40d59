"""pLSTM on a grid: diagonals against a loop over cells, sums over paths, what the modes promise."""

import itertools
from typing import Any

import pytest
import torch
from helixwave.backbone import Backbone
from helixwave_domains.video.lrcn import LRCN
from helixwave_domains.video.plstm_2d import (
    PLSTM2D,
    FramePLSTM,
    GateMaps,
    GridGates,
    grid_scan,
    path_weights,
    slanted_rows,
    straight_rows,
)
from torch import Tensor
from torch.testing import assert_close


def loop(written: Tensor, gates: GridGates) -> Tensor:
    """The recurrence cell by cell, in reading order."""
    N, Y, X, H, W = written.shape
    zero = written.new_zeros(N, H, W)
    right: dict[tuple[int, int], Tensor] = {}
    down: dict[tuple[int, int], Tensor] = {}
    read = {}
    for y, x in itertools.product(range(Y), range(X)):
        g = GridGates(*(gate[:, y, x, :, None] for gate in gates))
        left, above = right.get((y, x - 1), zero), down.get((y - 1, x), zero)
        read[y, x] = g.mark_left * left + g.mark_above * above
        right[y, x] = g.left_to_right * left + g.above_to_right * above + g.source_right * written[:, y, x]
        down[y, x] = g.left_to_down * left + g.above_to_down * above + g.source_down * written[:, y, x]
    rows = [torch.stack([read[y, x] for x in range(X)], dim=1) for y in range(Y)]
    return torch.stack(rows, dim=1)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize(("Y", "X"), [(1, 1), (1, 5), (4, 1), (3, 5), (4, 3)])
def test_diagonals_are_the_loop(Y: int, X: int) -> None:
    gates = GridGates(*(random(2, Y, X, 3, seed=i) for i in range(8)))
    written = random(2, Y, X, 3, 4, seed=9)
    found, wanted = grid_scan(written, gates), loop(written, gates)
    assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    inputs = [written, *gates]
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((made * weight).sum(), inputs, materialize_grads=True) for made in (found, wanted)]
    for ours, theirs in zip(*gradients, strict=True):
        assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_rows_slanted_and_straight() -> None:
    x = torch.arange(1.0, 7.0).view(1, 2, 3)
    assert slanted_rows(x)[0].tolist() == [[1, 2, 3, 0], [0, 4, 5, 6]]
    assert torch.equal(straight_rows(slanted_rows(x)), x)


def test_weights_are_sums_over_paths() -> None:
    """One direction: all monotone paths of a 3 x 3 grid, counted one by one; the other three by turning the picture."""
    gates = GridGates(*(random(1, 3, 3, 1, seed=i).detach() for i in range(8)))
    total = torch.zeros(9, 9)
    for axes in ((), (0,), (1,), (0, 1)):
        turned = GridGates(*(gate[0, :, :, 0].flip(axes) for gate in gates))
        numbers = torch.arange(9).view(3, 3).flip(axes)
        for start in itertools.product(range(3), range(3)):
            for stop, weight in paths(start, turned):
                total[numbers[stop], numbers[start]] += weight / 4
    assert_close(path_weights(gates)[0, 0], total)


def paths(start: tuple[int, int], g: GridGates) -> Any:
    """Where paths from a cell end, with the product of their gates."""
    y, x = start
    begun = [("right", (y, x + 1), g.source_right[start]), ("down", (y + 1, x), g.source_down[start])]
    while begun:
        edge, cell, weight = begun.pop()
        if max(cell) > 2:
            continue
        came_from_left = edge == "right"
        yield cell, weight * (g.mark_left if came_from_left else g.mark_above)[cell]
        to_right, to_down = (g.left_to_right, g.left_to_down) if came_from_left else (g.above_to_right, g.above_to_down)
        begun += [
            ("right", (cell[0], cell[1] + 1), weight * to_right[cell]),
            ("down", (cell[0] + 1, cell[1]), weight * to_down[cell]),
        ]


def test_propagative_sums_never_grow_and_reach_far() -> None:
    gates, _ = GateMaps(8, 2, "propagative")(torch.randn(1, 6, 6, 8))
    opened = gates._replace(mark_left=torch.ones_like(gates.mark_left), mark_above=torch.ones_like(gates.mark_above))
    first = torch.zeros(1, 6, 6, 1, 1)
    first[0, 0, 0] = 1
    read = grid_scan(first, opened)[0, :, :, :, 0]
    source = gates.source_right[0, 0, 0] + gates.source_down[0, 0, 0]
    for diagonal in range(1, 6):
        reached = sum(read[y, diagonal - y] for y in range(diagonal + 1))
        assert (reached <= source + 1e-6).all()
        assert (reached > 0.99 * source).all()


def test_diffusive_paths_turn_once() -> None:
    gates, _ = GateMaps(8, 1, "diffusive")(torch.randn(1, 3, 3, 8))
    assert not gates.left_to_down.any()
    assert gates.above_to_right.all()


@pytest.mark.parametrize("mode", ["propagative", "diffusive"])
def test_layer(mode: Any) -> None:
    torch.manual_seed(0)
    layer, x = PLSTM2D(8, mode=mode, n_head=2), random(2, 3, 4, 8)
    with torch.no_grad():
        layer.gates.linear.weight.normal_(std=0.3)
    q, k, v, z = layer.in_proj(x).flatten(1, 2).chunk(4, dim=-1)
    gates, direct = layer.gates(x)
    weights, heads = path_weights(gates), []
    for h, part in enumerate((slice(0, 4), slice(4, 8))):
        y = torch.zeros(2, 12, 4)
        for to, origin in itertools.product(range(12), range(12)):
            weight = weights[:, h, to, origin] + (direct.flatten(1, 2)[:, to, h] if to == origin else 0)
            score = (q[:, to, part] * k[:, origin, part]).sum(-1) / 4**0.5
            y = y.index_add(1, torch.tensor([to]), ((weight * score)[:, None] * v[:, origin, part])[:, None])
        heads.append(y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt())
    wanted = layer.out_proj(torch.cat(heads, dim=-1) * z * z.sigmoid()).view(x.shape)
    assert_close(layer(x), wanted, rtol=1e-5, atol=1e-5)


def test_as_the_net_of_frames() -> None:
    torch.manual_seed(0)
    model = LRCN(backbone=Backbone(8, n_layer=1, blocks=[{"name": "slstm", "n_head": 2}]), classes=["a"], frame="plstm")
    x, lengths = random(2, 3, 3, 20, 12).detach(), torch.tensor([3, 1])
    assert_close(model(x, lengths)[1], model(x[1:, :1])[0], rtol=0, atol=1e-6)
    model(x, lengths).sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    # a frame's features depend on no other frame
    net = FramePLSTM(3)
    assert net(x[0]).shape == (3, net.width)
    assert_close(net(x[0])[:1], net(x[0, :1]), rtol=1e-5, atol=1e-5)
