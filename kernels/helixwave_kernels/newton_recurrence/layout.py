"""What the fast implementations of `newton_recurrence` share: their custom operators' arguments, and autograd around.

A forward operator `(cell, x, diagonal, peephole, start, reset, tolerance, max_iterations) -> (states, iterations)` and
its backward operator `(grads, cell, x, diagonal, peephole, start, reset, states) -> (dx, ddiagonal, dpeephole, dstart)`
take and return contiguous tensors of one dtype, with S parts of the state, h first:

    x, dx [B, T, J, D]   diagonal [J, D]   peephole [2, D]   start [S, B, D]   states, grads [S, B, T, D]
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from helixwave_kernels.newton_recurrence.reference import start_state
from helixwave_kernels.shapes import compute_dtype

Result = tuple[Tensor, tuple[Tensor, ...]] | tuple[Tensor, tuple[Tensor, ...], Tensor]


def run(
    forward: Callable[..., tuple[Tensor, Tensor]],
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
    """Call a forward operator with the arguments of `newton_recurrence`."""
    dtype = compute_dtype(x)
    states, iterations = forward(
        cell,
        x.to(dtype).contiguous(),
        diagonal.to(dtype).contiguous(),
        x.new_zeros(2, x.shape[3], dtype=dtype) if peephole is None else peephole.to(dtype).contiguous(),
        torch.stack(start_state(cell, x, initial_state)),
        None if reset is None else reset.contiguous(),
        default_tolerance(dtype) if tolerance is None else tolerance,
        max_iterations,
    )
    y, last = states[0].to(x.dtype), states[:, :, -1].unbind(0)
    return (y, last, iterations) if return_iterations else (y, last)


def default_tolerance(dtype: torch.dtype) -> float:
    """Updates of this size leave an error below the rounding of the dtype."""
    return 1e-10 if dtype == torch.float64 else 1e-5


def make_differentiable(forward: Any, backward: Any) -> None:
    """Join a forward and a backward custom operator, and tell their shapes to torch.compile and torch.export."""

    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        ctx.cell, *tensors, _, _ = inputs
        ctx.save_for_backward(*tensors, output[0])

    def gradients(ctx, grads, _):  # type: ignore[no-untyped-def]
        return None, *backward(grads.contiguous(), ctx.cell, *ctx.saved_tensors), None, None, None

    def shapes(cell, x, diagonal, peephole, start, *options):  # type: ignore[no-untyped-def]
        return x.new_empty(len(start), x.shape[0], x.shape[1], x.shape[3]), x.new_empty((), dtype=torch.int64)

    def backward_shapes(grads, cell, x, diagonal, peephole, start, *others):  # type: ignore[no-untyped-def]
        return tuple(torch.empty_like(tensor) for tensor in (x, diagonal, peephole, start))

    forward.register_autograd(gradients, setup_context=setup_context)
    forward.register_fake(shapes)
    backward.register_fake(backward_shapes)
