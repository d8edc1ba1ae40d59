"""What the fast implementations of `recurrent` share: the layout of their custom operators, and autograd around them.

A forward operator `(cell, x, R, bias, start, reset) -> (y, last, memory)` and its backward operator
`(grad_y, grad_last, cell, x, R, bias, start, reset, y, memory) -> (dx, dR, dbias, dstart)` take and return contiguous
tensors of one dtype:

    x, dx            [B, T, J, H, P]        R, dR           [J, H, P, P]           bias, dbias     [J, H, P]
    start, last      [S, B, H, P]           the parts of the state, h first; dstart of m may be left at anything
    reset            [B, T] bool or None
    y                [B, T, H, P]           all h
    memory           [S - 1, B, T, H, P]    all other parts of the state, kept for the backward pass
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from helixwave_kernels.recurrent.reference import CELLS, start_state
from helixwave_kernels.shapes import compute_dtype


def run(
    forward: Callable[..., tuple[Tensor, Tensor, Tensor]],
    cell: str,
    x: Tensor,
    R: Tensor,
    bias: Tensor | None,
    initial_state: tuple[Tensor, ...] | None,
    reset: Tensor | None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Call a forward operator with the arguments of `recurrent`."""
    dtype = compute_dtype(x)
    bias = x.new_zeros(R.shape[:3], dtype=dtype) if bias is None else bias.to(dtype).contiguous()
    y, last, _ = forward(
        cell,
        x.to(dtype).contiguous(),
        R.to(dtype).contiguous(),
        bias,
        torch.stack(start_state(cell, x, initial_state)),
        None if reset is None else reset.contiguous(),
    )
    state = zip(CELLS[cell].state, last.unbind(0), strict=True)
    return y.to(x.dtype), tuple(part.detach() if name == "m" else part for name, part in state)


def make_differentiable(forward: Any, backward: Any) -> None:
    """Join a forward and a backward custom operator, and tell their shapes to torch.compile and torch.export."""

    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        ctx.cell, x, R, bias, start, reset = inputs
        y, _, memory = output
        ctx.save_for_backward(x, R, bias, start, reset, y, memory)
        ctx.set_materialize_grads(False)

    def gradients(ctx, grad_y, grad_last, _):  # type: ignore[no-untyped-def]
        x, R, bias, start, reset, y, memory = ctx.saved_tensors
        grad_y = torch.zeros_like(y) if grad_y is None else grad_y.contiguous()
        grad_last = torch.zeros_like(start) if grad_last is None else grad_last.contiguous()
        dx, dR, dbias, dstart = backward(grad_y, grad_last, ctx.cell, x, R, bias, start, reset, y, memory)
        if ctx.cell == "slstm":
            # the state means c e^m and n e^m, so that dm = c dc + n dn
            dstart = torch.cat([dstart[:3], (start[1:3] * dstart[1:3]).sum(0, keepdim=True)])
        return None, dx, dR, dbias, dstart, None

    def shapes(cell, x, R, bias, start, reset):  # type: ignore[no-untyped-def]
        B, T, _, H, P = x.shape
        return x.new_empty(B, T, H, P), torch.empty_like(start), x.new_empty(len(CELLS[cell].state) - 1, B, T, H, P)

    def backward_shapes(grad_y, grad_last, cell, x, R, bias, start, *others):  # type: ignore[no-untyped-def]
        return tuple(torch.empty_like(tensor) for tensor in (x, R, bias, start))

    forward.register_autograd(gradients, setup_context=setup_context)
    forward.register_fake(shapes)
    backward.register_fake(backward_shapes)
