"""`recurrent` in C: each head goes through time with its weights in the cache, a few sequences together."""

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels import native
from helixwave_kernels.recurrent.layout import make_differentiable, run
from helixwave_kernels.recurrent.reference import CELLS, recurrent

# as in native/machine.h and native/recurrent.c
LANES = 16
BLOCK = 4
# the gradient of R is summed in so many parts at most
MOST_GROUPS = 16
# how many gates computed again in the backward pass stay in the cache
CACHED_GATES = 2**16


def _accepts(
    cell: str,
    x: Tensor,
    R: Tensor,
    bias: Tensor | None = None,
    *,
    initial_state: tuple[Tensor, ...] | None = None,
    **others: object,
) -> str | None:
    state = () if initial_state is None else initial_state
    return native.refusal(x, R, bias, *([state] if isinstance(state, Tensor) else state))


@recurrent.implementation("native", accepts=_accepts)
def recurrent_native(
    cell: str,
    x: Tensor,
    R: Tensor,
    bias: Tensor | None = None,
    *,
    initial_state: tuple[Tensor, ...] | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    return run(_recurrence, cell, x, R, bias, initial_state, reset)


@torch.library.custom_op("helixwave::recurrent_native", mutates_args=())
def _recurrence(
    cell: str, x: Tensor, R: Tensor, bias: Tensor, start: Tensor, reset: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    B, T, J, H, P = x.shape
    y, last, memory = x.new_empty(B, T, H, P), x.new_empty(start.shape), x.new_empty(len(start) - 1, B, T, H, P)
    weights = _side_by_side(R)
    inputs = native.contiguous(x, weights, bias, start, reset)
    size = (2 + BLOCK) * P + BLOCK * weights.shape[2]
    # one part for each thread is touched
    workspace = x.new_empty(H * _groups(B), size)
    sizes = list(CELLS).index(cell), B, T, J, H, P, len(start), _groups(B), size
    native.call("recurrent_forward", y, last, memory, *inputs, workspace, *sizes)
    return y, last, memory


@torch.library.custom_op("helixwave::recurrent_native_backward", mutates_args=())
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
    B, T, J, H, P = x.shape
    inputs = native.contiguous(grad_y, grad_last, x)
    rest = native.contiguous(bias, start, reset, y, memory)
    weights, back = _side_by_side(R), _padded(R.permute(1, 0, 3, 2).flatten(1, 2))
    width, n_group = weights.shape[2], _groups(B)
    dx, dstart = x.new_empty(x.shape), x.new_zeros(start.shape)
    dweights, dbias = x.new_zeros(n_group, H, P, width), x.new_zeros(n_group, H, width)
    chunk = min(max(CACHED_GATES // (BLOCK * width), 8), 64, T)
    size = 2 * P + 3 * BLOCK * back.shape[2] + BLOCK * chunk * (P + width)
    workspace = x.new_empty(H * n_group, size)
    sizes = list(CELLS).index(cell), B, T, J, H, P, len(start), n_group, chunk, size
    results = dx, dweights, dbias, dstart
    native.call("recurrent_backward", *results, *inputs, weights, back, *rest, workspace, *sizes)
    dR = dweights.sum(0)[..., : J * P].unflatten(2, (J, P)).permute(2, 0, 1, 3)
    return dx, dR.contiguous(), dbias.sum(0)[:, : J * P].unflatten(1, (J, P)).transpose(0, 1).contiguous(), dstart


make_differentiable(_recurrence, _recurrence_backward)


def _side_by_side(R: Tensor) -> Tensor:  # [J, H, P, P] -> [H, P, J * P, rounded up]
    return _padded(R.permute(1, 2, 0, 3).flatten(2))


def _padded(weights: Tensor) -> Tensor:
    return F.pad(weights, (0, -weights.shape[-1] % LANES)).contiguous()


def _groups(B: int) -> int:
    """Into how many groups the sequences are divided, each with its own part of the gradients."""
    return min(-(-B // BLOCK), MOST_GROUPS)
