"""`recurrent` as a lean loop: one matrix product for all heads and gates of a step, and everything in its final place.

The backward pass goes through the sequence in chunks, the last first. It computes a chunk's gates again by one matrix
product over its steps; what the gradient of each step multiplies is then known for the whole chunk, so that the loop
itself has few operations. The derivation is in README.md.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels.recurrent.layout import make_differentiable, run
from helixwave_kernels.recurrent.reference import CELLS, empty, recurrent

CHUNK = 64


@recurrent.implementation("chunked")
def recurrent_chunked(
    cell: str,
    x: Tensor,
    R: Tensor,
    bias: Tensor | None = None,
    *,
    initial_state: tuple[Tensor, ...] | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    return run(_recurrence, cell, x, R, bias, initial_state, reset)


# a custom operator, so that torch.compile and torch.export see one node and not the unrolled loop
@torch.library.custom_op("helixwave::recurrent_chunked", mutates_args=())
def _recurrence(
    cell: str, x: Tensor, R: Tensor, bias: Tensor, start: Tensor, reset: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    B, T, J, H, P = x.shape
    y, memory = x.new_empty(B, T, H, P), x.new_empty(len(start) - 1, B, T, H, P)
    raw = x.new_empty(H, B, J, P)
    weights, constants, step = _stacked(R), bias.transpose(0, 1).unsqueeze(1), _STEPS[cell]
    # heads first, [H, B, P] and [H, B, J, P]: what the matrix product batches over
    afters = zip(y.transpose(0, 2).unbind(1), *(part.transpose(0, 2).unbind(1) for part in memory), strict=True)
    before = tuple(start.transpose(1, 2).unbind(0))
    for x_t, after, cut in zip(x.permute(3, 1, 0, 2, 4).unbind(1), afters, _cuts(reset, T), strict=True):
        if cut is not None:
            before = tuple(
                part.masked_fill(cut, empty(name)) for name, part in zip(CELLS[cell].state, before, strict=True)
            )
        _add_inputs(cell, x_t, constants, raw)
        raw.view(H, B, J * P).baddbmm_(before[0], weights)
        step(x_t, raw.unbind(2), before, after)
        before = after
    return y, torch.stack(before).transpose(1, 2).contiguous(), memory


@torch.library.custom_op("helixwave::recurrent_chunked_backward", mutates_args=())
def _recurrence_backward(
    grad_y: Tensor,
    grad_last: Tensor,
    cell: str,
    x: Tensor,
    R: Tensor,
    bias: Tensor,
    start: Tensor,
    reset: Tensor | None,
    y: Tensor,
    memory: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    T, J = x.shape[1:3]
    dx, weights, constants = torch.empty_like(x), _stacked(R), bias.transpose(0, 1)[:, None, None]
    dweights, dconstants = torch.zeros_like(weights), torch.zeros_like(constants)
    carry = grad_last[: len(start) - (cell == "slstm")].transpose(1, 2).contiguous()  # [h and memory, H, B, P]
    cuts = _cuts(reset, T)
    for chunk in reversed([slice(begin, min(begin + CHUNK, T)) for begin in range(0, T, CHUNK)]):
        before = [_before(part, first, chunk) for part, first in zip((y, *memory), start, strict=True)]
        if reset is not None:
            cut = reset[:, chunk].T[..., None]
            before = [part.masked_fill(cut, empty(name)) for name, part in zip(CELLS[cell].state, before, strict=True)]
        x_chunk = x[:, chunk].permute(3, 1, 0, 2, 4)
        raw = torch.empty_like(x_chunk, memory_format=torch.contiguous_format)  # [H, L, B, J, P]
        _add_inputs(cell, x_chunk, constants, raw)
        h = before[0].flatten(1, 2)
        raw.view(*h.shape[:2], -1).baddbmm_(h, weights)
        after = [part[:, chunk].permute(2, 1, 0, 3) for part in (y, *memory)]
        slopes = _SLOPES[cell](x_chunk, raw.unbind(3), before, after)
        draw = _walk_back(slopes, grad_y[:, chunk].permute(2, 1, 0, 3), carry, weights.mT, cuts[chunk])
        recurrence, inputs = draw[..., :J, :], draw[..., slopes.gates_of_x, :]
        dx[:, chunk] = inputs.permute(2, 1, 3, 0, 4)
        dweights.baddbmm_(h.mT, recurrence.flatten(3).flatten(1, 2))
        dconstants += recurrence.sum((1, 2), keepdim=True)
    dR = dweights.unflatten(2, (J, -1)).permute(2, 0, 1, 3).contiguous()
    dstart = torch.zeros_like(start)
    dstart[: len(carry)] = carry.transpose(1, 2)
    return dx, dR, dconstants[:, 0, 0].transpose(0, 1).contiguous(), dstart


make_differentiable(_recurrence, _recurrence_backward)


def _stacked(R: Tensor) -> Tensor:  # [J, H, P, P] -> [H, P, J * P]
    return R.permute(1, 2, 0, 3).flatten(2)


def _cuts(reset: Tensor | None, T: int) -> list[Tensor | None]:
    """For each step the sequences to clear, `[B, 1]`; None where there are none."""
    if reset is None:
        return [None] * T
    masks = zip(reset.any(0).tolist(), reset.T.unsqueeze(-1).unbind(0), strict=True)
    return [mask if any_ else None for any_, mask in masks]


def _add_inputs(cell: str, x: Tensor, constants: Tensor, raw: Tensor) -> None:
    """What the gates `[..., J, P]` are but for the recurrence; in a GRU the input of n stays outside."""
    if cell == "gru":
        raw.copy_(constants)
        raw[..., :2, :].add_(x[..., :2, :])
    else:
        torch.add(x, constants, out=raw)


def _before(part: Tensor, first: Tensor, chunk: slice) -> Tensor:  # [B, T, H, P], [B, H, P] -> [H, L, B, P]
    before = part[:, max(chunk.start - 1, 0) : chunk.stop - 1].permute(2, 1, 0, 3)
    if chunk.start == 0:
        before = torch.cat([first.transpose(0, 1).unsqueeze(1), before], dim=1)
    return before.contiguous()


State = tuple[Tensor, ...]


def _slstm_step(x: Tensor, raw: State, before: State, after: State) -> None:
    i, f, z, o = raw
    _, c, n, m = before
    next_h, next_c, next_n, next_m = after
    torch.add(F.logsigmoid(f), m, out=f)
    torch.maximum(i, f, out=next_m)
    finite_m = next_m.clamp_min(torch.finfo(m.dtype).min)
    i.sub_(finite_m).exp_()
    f.sub_(finite_m).exp_()
    torch.mul(f, c, out=next_c).addcmul_(i, z.tanh_())
    torch.addcmul(i, f, n, out=next_n)
    # n is 0 only where nothing was seen, and c with it
    torch.div(next_c, next_n.clamp_min(torch.finfo(n.dtype).tiny), out=next_h).mul_(o.sigmoid_())


def _lstm_step(x: Tensor, raw: State, before: State, after: State) -> None:
    i, f, z, o = raw
    next_h, next_c = after
    torch.mul(f.sigmoid_(), before[1], out=next_c).addcmul_(i.sigmoid_(), z.tanh_())
    torch.tanh(next_c, out=next_h).mul_(o.sigmoid_())


def _gru_step(x: Tensor, raw: State, before: State, after: State) -> None:
    r, z, n = raw
    torch.addcmul(x[:, :, 2], r.sigmoid_(), n, out=n)
    torch.lerp(n.tanh_(), before[0], z.sigmoid_(), out=after[0])


def _elman_step(x: Tensor, raw: State, before: State, after: State) -> None:
    torch.tanh(raw[0], out=after[0])


class _Slopes(NamedTuple):
    """What a step back in time multiplies, for all steps of a chunk at once.

    The carried gradients are those of h and of the memory (c and n). `into_memory` times that of h is added to those
    of the memory; the gradient of the gates is then the sum of `to_gates` times the carried ones, and `through` leads
    from the memory, `directly` from h, to the step before.
    """

    to_gates: list[Tensor]  # each [H, L, B, J or J + 1, P]
    into_memory: Tensor | None  # [memory, H, L, B, P]
    through: Tensor | None  # [H, L, B, P]
    directly: Tensor | None  # [H, L, B, P]
    gates_of_x: slice | list[int] = slice(None)


def _slstm_slopes(x: Tensor, raw: State, before: list[Tensor], after: list[Tensor]) -> _Slopes:
    i, f, z, o = raw
    _, c, n, m = before
    _, next_c, next_n, next_m = after
    finite_m = next_m.clamp_min(torch.finfo(m.dtype).min)
    closed, i, z, o = torch.sigmoid(-f), torch.exp(i - finite_m), torch.tanh(z), torch.sigmoid(o)
    f = torch.exp(F.logsigmoid(f) + m - finite_m)
    scale = torch.where(next_n == 0, 0, 1 / next_n)
    ratio = next_c * scale
    nothing = torch.zeros_like(i)
    of_c = torch.stack([z * i, c * f * closed, (1 - z * z) * i, nothing], dim=-2)
    of_n = torch.stack([i, n * f * closed, nothing, nothing], dim=-2)
    of_h = torch.stack([nothing, nothing, nothing, ratio * o * (1 - o)], dim=-2)
    return _Slopes([of_h, of_c, of_n], torch.stack([o * scale, -o * scale * ratio]), f, None)


def _lstm_slopes(x: Tensor, raw: State, before: list[Tensor], after: list[Tensor]) -> _Slopes:
    i, f, z, o = (gate.tanh() if k == 2 else gate.sigmoid() for k, gate in enumerate(raw))
    output = after[1].tanh()
    nothing = torch.zeros_like(i)
    of_c = torch.stack([z * i * (1 - i), before[1] * f * (1 - f), (1 - z * z) * i, nothing], dim=-2)
    of_h = torch.stack([nothing, nothing, nothing, output * o * (1 - o)], dim=-2)
    return _Slopes([of_h, of_c], (o * (1 - output * output)).unsqueeze(0), f, None)


def _gru_slopes(x: Tensor, raw: State, before: list[Tensor], after: list[Tensor]) -> _Slopes:
    r, z, from_h = raw[0].sigmoid(), raw[1].sigmoid(), raw[2]
    n = torch.tanh(x[..., 2, :] + r * from_h)
    of_n = (1 - z) * (1 - n * n)
    # the input of n has a gradient of its own, the fourth
    of_h = torch.stack([of_n * from_h * r * (1 - r), (before[0] - n) * z * (1 - z), of_n * r, of_n], dim=-2)
    return _Slopes([of_h], None, None, z, gates_of_x=[0, 1, 3])


def _elman_slopes(x: Tensor, raw: State, before: list[Tensor], after: list[Tensor]) -> _Slopes:
    return _Slopes([(1 - after[0] * after[0]).unsqueeze(-2)], None, None, None)


def _walk_back(slopes: _Slopes, grad_y: Tensor, carry: Tensor, weights: Tensor, cuts: list[Tensor | None]) -> Tensor:
    """The gradients of the gates `[H, L, B, J or J + 1, P]`; `carry` becomes what goes to the chunk before."""
    draw = torch.empty_like(slopes.to_gates[0])
    h, memory, n_in = carry[0], carry[1:], weights.shape[1]
    to_gates = list(zip(*(slope.unbind(1) for slope in slopes.to_gates), strict=True))
    into_memory = None if slopes.into_memory is None else slopes.into_memory.unbind(2)
    through = None if slopes.through is None else slopes.through.unbind(1)
    directly = None if slopes.directly is None else slopes.directly.unbind(1)
    grad_ys, draws, flat = grad_y.unbind(1), draw.unbind(1), draw.flatten(3)[..., :n_in].unbind(1)
    for t in reversed(range(draw.shape[1])):
        h.add_(grad_ys[t])
        if into_memory is not None:
            memory.addcmul_(into_memory[t], h)
        for k, (slope, part) in enumerate(zip(to_gates[t], carry.unsqueeze(-2).unbind(0), strict=True)):
            torch.mul(slope, part, out=draws[t]) if k == 0 else draws[t].addcmul_(slope, part)
        if through is not None:
            memory.mul_(through[t])
        if directly is None:
            torch.bmm(flat[t], weights, out=h)
        else:
            h.mul_(directly[t]).baddbmm_(flat[t], weights)
        if (cut := cuts[t]) is not None:
            carry.masked_fill_(cut, 0)
    return draw


_STEPS: dict[str, Callable[[Tensor, State, State, State], None]] = {
    "slstm": _slstm_step,
    "lstm": _lstm_step,
    "gru": _gru_step,
    "elman": _elman_step,
}
_SLOPES: dict[str, Callable[[Tensor, State, list[Tensor], list[Tensor]], _Slopes]] = {
    "slstm": _slstm_slopes,
    "lstm": _lstm_slopes,
    "gru": _gru_slopes,
    "elman": _elman_slopes,
}
