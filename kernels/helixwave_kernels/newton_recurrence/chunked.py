"""`newton_recurrence` by Newton's method: each iteration is one linear scan, and so is the whole backward pass.

The sequence is solved in segments that stay in the cache, one after the other. The derivation is in README.md.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from helixwave_kernels.newton_recurrence.layout import Result, make_differentiable, run
from helixwave_kernels.newton_recurrence.reference import newton_recurrence

# states solved for together: on a CPU what stays in the cache, on a GPU what keeps it busy
SEGMENT = {"cpu": 2**16}
ELSEWHERE = 2**22


@newton_recurrence.implementation("chunked")
def newton_recurrence_chunked(
    cell: str,
    x: Tensor,
    diagonal: Tensor,
    peephole: Tensor | None = None,
    *,
    tolerance: float | None = None,
    max_iterations: int = 50,
    initial_state: tuple[Tensor, ...] | None = None,
    reset: Tensor | None = None,
    return_iterations: bool = False,
) -> Result:
    return run(
        _solve,
        cell,
        x,
        diagonal,
        peephole,
        tolerance=tolerance,
        max_iterations=max_iterations,
        initial_state=initial_state,
        reset=reset,
        return_iterations=return_iterations,
    )


# a custom operator: what is differentiated is the solution and not the iterations
@torch.library.custom_op("helixwave::newton_recurrence_chunked", mutates_args=())
def _solve(
    cell: str,
    x: Tensor,
    diagonal: Tensor,
    peephole: Tensor,
    start: Tensor,
    reset: Tensor | None,
    tolerance: float,
    max_iterations: int,
) -> tuple[Tensor, Tensor]:
    B, T, _, D = x.shape
    states, iterations = x.new_empty(len(start), B, T, D), 0
    for part in _segments(x):
        cut = None if reset is None else reset[:, part, None]
        solution, n = _newton(cell, x[:, part], diagonal, peephole, start, cut, tolerance, max_iterations)
        states[:, :, part] = solution
        start, iterations = solution[:, :, -1], max(iterations, n)
    return states, torch.tensor(iterations, device=x.device)


@torch.library.custom_op("helixwave::newton_recurrence_chunked_backward", mutates_args=())
def _solve_backward(
    grads: Tensor,
    cell: str,
    x: Tensor,
    diagonal: Tensor,
    peephole: Tensor,
    start: Tensor,
    reset: Tensor | None,
    states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`g_t = grad_t + J_{t+1}^T g_{t+1}`, a linear scan from the end; all else is local."""
    dx, ddiagonal, dpeephole = torch.empty_like(x), torch.zeros_like(diagonal), torch.zeros_like(peephole)
    carry = torch.zeros_like(start)
    for part in reversed(_segments(x)):
        first = start if part.start == 0 else states[:, :, part.start - 1]
        before = _before(states[:, :, part], first, None if reset is None else reset[:, part, None])
        step = _step(cell, x[:, part], diagonal, peephole, before)
        jacobian = step.jacobian if reset is None else step.jacobian.masked_fill(reset[:, part, None], 0)
        into = grads[:, :, part].clone()
        into[:, :, -1] += carry
        # J^T of the step after, in reverse; the last of the segment is already in `into`
        later = torch.cat([torch.zeros_like(jacobian[:, :, :, :1]), jacobian.transpose(0, 1)[:, :, :, 1:].flip(3)], 3)
        g = _scan(into.flip(2), later).flip(2)
        carry = (jacobian[:, :, :, 0] * g[:, None, :, 0]).sum(0)
        _add_gradients(cell, step, diagonal, g, before, dx[:, part], ddiagonal, dpeephole)
    return dx, ddiagonal, dpeephole, carry


make_differentiable(_solve, _solve_backward)


def _segments(x: Tensor) -> list[slice]:
    B, T, _, D = x.shape
    length = max(SEGMENT.get(x.device.type, ELSEWHERE) // max(B * D, 1), 16)
    return [slice(begin, min(begin + length, T)) for begin in range(0, T, length)]


def _newton(
    cell: str,
    x: Tensor,
    diagonal: Tensor,
    peephole: Tensor,
    start: Tensor,
    cut: Tensor | None,
    tolerance: float,
    max_iterations: int,
) -> tuple[Tensor, int]:
    """The states `[S, B, L, D]` of a segment, and how many iterations they took."""
    # the first guess forgets every state but the one that is known
    guess = x.new_zeros(len(start), x.shape[0], x.shape[1], x.shape[3])
    states = _step(cell, x, diagonal, peephole, _before(guess, start, cut)).after
    size = update = math.nan
    for n in range(1, max_iterations + 1):
        step = _step(cell, x, diagonal, peephole, _before(states, start, cut))
        jacobian = step.jacobian if cut is None else step.jacobian.masked_fill(cut, 0)
        # the state before the first step is known
        jacobian[:, :, :, 0] = 0
        change = _scan(step.after - states, jacobian)
        states = states + change
        update, size = torch.stack([change.abs().max(), states.abs().max()]).tolist()
        if update <= tolerance * max(size, 1):
            return states, n
    raise RuntimeError(
        f"newton_recurrence: not converged after {max_iterations} iterations: the last changed a state by "
        f"{update:.1e}, allowed {tolerance:.1e} of {max(size, 1):.1e}. Raise max_iterations, or step through time "
        "with impl='reference'."
    )


def _before(states: Tensor, start: Tensor, cut: Tensor | None) -> Tensor:
    """The state before each step `[S, B, L, D]`."""
    before = torch.cat([start.unsqueeze(2), states[:, :, :-1]], dim=2)
    return before if cut is None else before.masked_fill(cut, 0)


class _Step(NamedTuple):
    """One step for all times at once: the state after, its derivatives by the state before and by the gates."""

    after: Tensor  # [S, B, L, D]
    jacobian: Tensor  # [S after, S before, B, L, D]
    by_gates: tuple[Tensor, Tensor, Tensor]  # each [B, L, D], of h for gru; of c, c and h for lstm
    factor: Tensor  # [B, L, D]: r of gru, which stands beside h in its last gate; the derivative of h by c of lstm


def _step(cell: str, x: Tensor, diagonal: Tensor, peephole: Tensor, before: Tensor) -> _Step:
    return _gru(x, diagonal, *before) if cell == "gru" else _lstm(x, diagonal, peephole, *before)


def _gru(x: Tensor, diagonal: Tensor, h: Tensor) -> _Step:
    a_z, a_r, a_h = diagonal
    x_z, x_r, x_h = x.unbind(2)
    z, r = torch.addcmul(x_z, a_z, h).sigmoid_(), torch.addcmul(x_r, a_r, h).sigmoid_()
    ah = a_h * h
    n = torch.addcmul(x_h, ah, r).tanh_()
    by_z, by_h = (n - h) * (z * (1 - z)), z * (1 - n * n)
    by_r = by_h * ah * (r * (1 - r))
    jacobian = (1 - z).addcmul_(by_z, a_z).addcmul_(by_h * r, a_h).addcmul_(by_r, a_r)
    return _Step(torch.lerp(h, n, z)[None], jacobian[None, None], (by_z, by_r, by_h), r)


def _lstm(x: Tensor, diagonal: Tensor, peephole: Tensor, h: Tensor, c: Tensor) -> _Step:
    a_f, a_c, a_o = diagonal
    p_f, p_o = peephole
    x_f, x_c, x_o = x.unbind(2)
    f, g = torch.addcmul(x_f, a_f, h).addcmul_(p_f, c).sigmoid_(), torch.addcmul(x_c, a_c, h).tanh_()
    next_c = torch.lerp(g, c, f)
    o, output = torch.addcmul(x_o, a_o, h).addcmul_(p_o, next_c).sigmoid_(), next_c.tanh()
    by_f, by_g, by_o = (c - g) * (f * (1 - f)), (1 - f) * (1 - g * g), output * (o * (1 - o))
    h_by_c = (o * (1 - output * output)).addcmul_(by_o, p_o)
    c_c, c_h = torch.addcmul(f, by_f, p_f), (by_f * a_f).addcmul_(by_g, a_c)
    jacobian = torch.stack([(by_o * a_o).addcmul_(h_by_c, c_h), h_by_c * c_c, c_h, c_c]).unflatten(0, (2, 2))
    return _Step(torch.stack([o * output, next_c]), jacobian, (by_f, by_g, by_o), h_by_c)


def _add_gradients(
    cell: str,
    step: _Step,
    diagonal: Tensor,
    g: Tensor,
    before: Tensor,
    dx: Tensor,
    ddiagonal: Tensor,
    dpeephole: Tensor,
) -> None:
    """The gradients of inputs and weights from those of the states, `g`."""
    h = before[0]
    if cell == "gru":
        for by_gate, gradient in zip(step.by_gates, dx.unbind(2), strict=True):
            torch.mul(by_gate, g[0], out=gradient)
        ddiagonal += torch.stack([(dx[:, :, j] * (h * step.factor if j == 2 else h)).sum((0, 1)) for j in range(3)])
        return
    g_h, g_c = g[0], torch.addcmul(g[1], g[0], step.factor)
    for by_gate, above, gradient in zip(step.by_gates, (g_c, g_c, g_h), dx.unbind(2), strict=True):
        torch.mul(by_gate, above, out=gradient)
    ddiagonal += (dx * h.unsqueeze(2)).sum((0, 1))
    dpeephole += torch.stack([(dx[:, :, 0] * before[1]).sum((0, 1)), (dx[:, :, 2] * step.after[1]).sum((0, 1))])


def _scan(x: Tensor, matrices: Tensor) -> Tensor:
    """`h_t = M_t h_{t-1} + x_t` from zero, x `[S, B, L, D]`, M `[S, S, B, L, D]`: all blocks together, then in turn."""
    S, B, L, D = x.shape
    n_block = math.isqrt(L - 1) + 1
    length = -(-L // n_block)
    h, m = (_blocks(tensor, n_block, length) for tensor in (x, matrices))
    within = [m[0]]  # products of the matrices from the block's first step on
    for h_before, h_t, m_t in zip(h, h[1:], m[1:], strict=False):
        _add_product(h_t, m_t, h_before)
        # column by column
        product = m_t[:, 0].unsqueeze(1) * within[-1][0]
        for k in range(1, S):
            product.addcmul_(m_t[:, k].unsqueeze(1), within[-1][k])
        within.append(product)
    products = torch.stack(within)  # [length, S, S, B, n_block, D]
    for previous, block, product in zip(h[-1].unbind(2), h.unbind(3)[1:], products.unbind(4)[1:], strict=False):
        for k in range(S):
            block.addcmul_(product[:, :, k], previous[k])
    return h.permute(1, 2, 3, 0, 4).reshape(S, B, -1, D)[:, :, :L]


def _blocks(tensor: Tensor, n_block: int, length: int) -> Tensor:  # [..., L, D] -> [length, ..., n_block, D]
    blocks = tensor.new_zeros(length, *tensor.shape[:-2], n_block, tensor.shape[-1])
    n_full, rest = divmod(tensor.shape[-2], length)
    time_first = tensor.movedim(-2, 0)
    blocks[..., :n_full, :] = time_first[: n_full * length].unflatten(0, (n_full, length)).movedim(0, -2)
    blocks[:rest, ..., n_full : n_full + 1, :] = time_first[n_full * length :].unsqueeze(-2)
    return blocks


def _add_product(h: Tensor, matrix: Tensor, before: Tensor) -> None:
    for k in range(len(before)):
        h.addcmul_(matrix[:, k], before[k])
