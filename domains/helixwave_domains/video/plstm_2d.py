"""pLSTM on the cells of a picture: linear states that flow to the right and down, seen from all four corners."""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from helixwave.blocks.norms import HeadNorm
from torch import Tensor, nn

Mode = Literal["propagative", "diffusive"]
# of rows, of columns
_FLIPS: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (1, 2))


class GridGates(NamedTuple):
    """What stands at each cell, `[N, Y, X, H]`: how much is written, passed on and read.

    Two edges leave a cell, to the right and down; two arrive, from the left and from above.

    Args:
        source_right, source_down: how much of what the cell writes goes onto each edge.
        left_to_right, above_to_right, left_to_down, above_to_down: how much of an arriving state goes on.
        mark_left, mark_above: how much of an arriving state is read.
    """

    source_right: Tensor
    source_down: Tensor
    left_to_right: Tensor
    above_to_right: Tensor
    left_to_down: Tensor
    above_to_down: Tensor
    mark_left: Tensor
    mark_above: Tensor


def grid_scan(written: Tensor, gates: GridGates) -> Tensor:
    """What each cell reads of what the cells before it have written.

    `right(y, x) = left_to_right right(y, x - 1) + above_to_right down(y - 1, x) + source_right written(y, x)`, `down`
    likewise, and read is `mark_left right(y, x - 1) + mark_above down(y - 1, x)`. Cells of one diagonal do not depend
    on each other and are computed at once, so that `Y + X - 1` steps are taken.

    Args:
        written: `[N, Y, X, H, W]`; axes that are 1 are repeated.
        gates: see `GridGates`.

    Returns:
        `[N, Y, X, H, W]`.
    """
    N, Y, X, H = gates.mark_left.shape
    written = written.expand(N, Y, X, H, -1)
    slanted = [slanted_rows(gate)[..., None].unbind(2) for gate in gates]
    right = down = written.new_zeros(N, Y, H, written.shape[-1])
    read = []
    for w, *gate in zip(slanted_rows(written).unbind(2), *slanted, strict=True):
        g = GridGates(*gate)
        left, above = right, F.pad(down[:, :-1], (0, 0, 0, 0, 1, 0))
        read.append(g.mark_left * left + g.mark_above * above)
        right = g.left_to_right * left + g.above_to_right * above + g.source_right * w
        down = g.left_to_down * left + g.above_to_down * above + g.source_down * w
    return straight_rows(torch.stack(read, dim=2))


def slanted_rows(x: Tensor) -> Tensor:
    """Row y moved y places to the right among zeros, so that columns are diagonals: `[N, Y, X, ...]` -> X + Y - 1."""
    N, Y, X, *rest = x.shape
    padded = torch.cat([x, x.new_zeros(N, Y, Y, *rest)], dim=2).flatten(1, 2)
    return padded[:, : Y * (X + Y - 1)].unflatten(1, (Y, X + Y - 1))


def straight_rows(x: Tensor) -> Tensor:
    """The reverse of `slanted_rows`."""
    N, Y, n_diagonal, *rest = x.shape
    padded = torch.cat([x.flatten(1, 2), x.new_zeros(N, Y, *rest)], dim=1)
    return padded.unflatten(1, (Y, n_diagonal + 1))[:, :, : n_diagonal + 1 - Y]


class PLSTM2D(nn.Module):
    """pLSTM on a grid: each cell reads all others along the paths to it, from each of the four corners.

    `y = (P * (q k^T)) v / sqrt(K) + direct (q k) v / sqrt(K)`, with P the sum over all paths from a cell to another of
    the product of the gates on the way, the mean of four directions; then a norm over each head and a gate. In the
    propagative mode what arrives is split between both edges that leave, so that the sum over a diagonal never grows
    and reaches far; in the diffusive one straight paths have gates of their own and a path can turn once, from down to
    right. Cost: `cells^2`. Source: Pöppel et al., "pLSTM: parallelizable Linear Source Transition Mark networks", 2025,
    section 3. Ours: gates of source, mark and direct start at a logit of -2 instead of -5, and the second axis is
    flipped too, which the published code leaves out.

    Args:
        mode: see above; published nets take both in turn.
        n_head: heads, each with gates of its own.
    """

    def __init__(self, d_model: int, *, mode: Mode, n_head: int = 4):
        super().__init__()
        self.n_head = n_head
        self.in_proj = nn.Linear(d_model, 4 * d_model)
        self.gates = GateMaps(d_model, n_head, mode)
        self.norm = HeadNorm(n_head, d_model // n_head, centred=False)
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:  # [N, Y, X, D] -> [N, Y, X, D]
        q, k, v, z = self.in_proj(x).flatten(1, 2).chunk(4, dim=-1)
        q, k, v = (part.unflatten(-1, (self.n_head, -1)).transpose(1, 2) for part in (q, k, v))  # [N, H, P, K]
        gates, direct = self.gates(x)
        weights = path_weights(gates) + torch.diag_embed(direct.flatten(1, 2).mT)
        y = (weights * (q @ k.mT) * q.shape[-1] ** -0.5) @ v
        y = self.norm(y.transpose(1, 2)) * F.silu(z)
        return self.out_proj(y).view(x.shape)


def path_weights(gates: GridGates) -> Tensor:
    """From each cell to each other the sum over paths, the mean of four directions: `[N, H, P, P]`, to by from."""
    N, Y, X, _ = gates.mark_left.shape
    here = torch.eye(Y * X, dtype=gates.mark_left.dtype, device=gates.mark_left.device).view(1, Y, X, 1, -1)
    turned = [GridGates(*(gate.flip(axes) for gate in gates)) for axes in _FLIPS]
    together = GridGates(*(torch.cat(gate) for gate in zip(*turned, strict=True)))
    written = torch.cat([here.flip(axes).expand(N, -1, -1, -1, -1) for axes in _FLIPS])
    read = grid_scan(written, together).chunk(4)
    total = torch.stack([part.flip(axes) for part, axes in zip(read, _FLIPS, strict=True)]).mean(0)
    return total.flatten(1, 2).transpose(1, 2)


class GateMaps(nn.Module):
    """Gates of each cell from its vector: `[N, Y, X, D]` -> `GridGates`, and what a cell reads of itself.

    Transitions are `tanh(5 logit)` and begin near 1. How the propagative mode splits begins differently in each head.
    """

    def __init__(self, d_model: int, n_head: int, mode: Mode):
        super().__init__()
        self.mode, self.n_head = mode, n_head
        starts = [-2.0, -2.0, -2.0, 1.0] if mode == "propagative" else [-2.0] * 5 + [1.0] * 3
        bias = torch.tensor(starts)[:, None].expand(-1, n_head)
        if mode == "propagative":
            bias = torch.cat([bias, torch.linspace(-2, 2, n_head)[None]])
        self.linear = nn.Linear(d_model, bias.numel())
        nn.init.zeros_(self.linear.weight)
        with torch.no_grad():
            self.linear.bias.copy_(bias.flatten())

    def forward(self, x: Tensor) -> tuple[GridGates, Tensor]:
        logits = self.linear(x).unflatten(-1, (-1, self.n_head)).unbind(-2)
        if self.mode == "propagative":
            direct, source, mark = (logit.sigmoid() for logit in logits[:3])
            passed, right = torch.tanh(5 * logits[3]), logits[4].sigmoid()
            to_right, to_down = right * passed, (1 - right) * passed
            sources = right * source, (1 - right) * source
            return GridGates(*sources, to_right, to_right, to_down, to_down, mark, mark), direct
        direct, *sources_and_marks = (logit.sigmoid() for logit in logits[:5])
        straight_right, turn, straight_down = (torch.tanh(5 * logit) for logit in logits[5:])
        source_right, source_down, *marks = sources_and_marks
        closed = torch.zeros_like(turn)
        return GridGates(source_right, source_down, straight_right, turn, closed, straight_down, *marks), direct


class FramePLSTM(nn.Module):
    """Two convolutions, then pLSTMs on a grid of cells: `[N, C, H, W] -> [N, width]`.

    Args:
        channels: of a frame.
        d_model: channels of a cell, a multiple of 4.
        n_layer: pLSTMs, propagative and diffusive in turn.
        grid: cells along height and width.
        kept: cells along height and width whose means are the features.
    """

    def __init__(self, channels: int, *, d_model: int = 32, n_layer: int = 2, grid: int = 8, kept: int = 4):
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in ((channels, d_model // 2), (d_model // 2, d_model)):
            convolution = nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.GroupNorm(math.gcd(8, n_out), n_out), nn.ReLU()]
        self.stem = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(grid))
        modes: tuple[Mode, Mode] = ("propagative", "diffusive")
        self.blocks = nn.ModuleList(PLSTM2D(d_model, mode=modes[i % 2]) for i in range(n_layer))
        self.norms = nn.ModuleList(nn.RMSNorm(d_model) for _ in range(n_layer + 1))
        self.pool = nn.AdaptiveAvgPool2d(kept)
        self.width = d_model * kept**2

    def forward(self, frames: Tensor) -> Tensor:
        x = self.stem(frames).permute(0, 2, 3, 1)
        for norm, block in zip(self.norms, self.blocks, strict=False):
            x = x + block(norm(x))
        return self.pool(self.norms[-1](x).permute(0, 3, 1, 2)).flatten(1)
