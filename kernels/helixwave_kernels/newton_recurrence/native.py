"""`newton_recurrence` in C: where steps are as cheap as here, one core is fastest going through time once."""

import torch
from torch import Tensor

from helixwave_kernels import native
from helixwave_kernels.newton_recurrence.layout import Result, make_differentiable, run
from helixwave_kernels.newton_recurrence.reference import newton_recurrence, parts


def _accepts(
    cell: str,
    x: Tensor,
    diagonal: Tensor,
    peephole: Tensor | None = None,
    *,
    initial_state: tuple[Tensor, ...] | None = None,
    **others: object,
) -> str | None:
    return native.refusal(x, diagonal, peephole, *parts(initial_state))


@newton_recurrence.implementation("native", accepts=_accepts)
def newton_recurrence_native(
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
        _step_through,
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


@torch.library.custom_op("helixwave::newton_recurrence_native", mutates_args=())
def _step_through(
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
    states = x.new_empty(len(start), B, T, D)
    tensors = native.contiguous(x, diagonal, peephole, start, reset)
    native.call("newton_recurrence_forward", states, *tensors, cell == "lstm", B, T, D)
    return states, torch.zeros((), dtype=torch.int64)


@torch.library.custom_op("helixwave::newton_recurrence_native_backward", mutates_args=())
def _step_back(
    grads: Tensor,
    cell: str,
    x: Tensor,
    diagonal: Tensor,
    peephole: Tensor,
    start: Tensor,
    reset: Tensor | None,
    states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    B, T, _, D = x.shape
    tensors = native.contiguous(grads, x, diagonal, peephole, start, reset, states)
    results = x.new_empty(x.shape), x.new_empty(B, 3, D), x.new_empty(B, 2, D), start.new_empty(start.shape)
    native.call("newton_recurrence_backward", *results, *tensors, cell == "lstm", B, T, D)
    dx, ddiagonal, dpeephole, dstart = results
    return dx, ddiagonal.sum(0), dpeephole.sum(0), dstart


make_differentiable(_step_through, _step_back)
