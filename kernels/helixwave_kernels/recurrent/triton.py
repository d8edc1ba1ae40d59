"""`recurrent` on a GPU: all steps in one kernel with the weights in its registers, or one kernel a step for wide heads.

The backward pass computes all gates again by one matrix product; what is left in its loop is the way back in time. The
gradient of R is one more matrix product over all steps.
"""

from typing import Any

import torch
from torch import Tensor

from helixwave_kernels import gpu
from helixwave_kernels.recurrent.layout import make_differentiable, run
from helixwave_kernels.recurrent.reference import recurrent

# the widest head whose weights fit into the registers of one program
MOST_UNITS = 64


@recurrent.implementation("triton", accepts=gpu.refusal)
def recurrent_triton(
    cell: str,
    x: Tensor,
    R: Tensor,
    bias: Tensor | None = None,
    *,
    initial_state: tuple[Tensor, ...] | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    return run(_recurrence, cell, x, R, bias, initial_state, reset)


@torch.library.custom_op("helixwave::recurrent_triton", mutates_args=())
def _recurrence(
    cell: str, x: Tensor, R: Tensor, bias: Tensor, start: Tensor, reset: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    from helixwave_kernels.recurrent.triton_kernels import recurrent_fwd_kernel

    B, T, _, H, P = x.shape
    y, memory = x.new_empty(B, T, H, P), x.new_empty(len(start) - 1, B, T, H, P)
    grid, sizes = _launch(cell, x)
    cuts = gpu.flags(reset)
    with gpu.device_of(x):
        if P <= MOST_UNITS:
            recurrent_fwd_kernel[grid](x, R, bias, None, start, cuts, y, memory, 0, T, **sizes)
        else:
            weights = _stacked(R)
            for t in range(T):
                h = y[:, t - 1] if t else start[0]
                if reset is not None:
                    h = h.masked_fill(reset[:, t, None, None], 0)
                recurrence = _recurrent_part(h.unsqueeze(1), weights, bias)
                recurrent_fwd_kernel[grid](x, None, None, recurrence, start, cuts, y, memory, t, t + 1, **sizes)
    return y, torch.cat([y[None, :, -1], memory[:, :, -1]]), memory


@torch.library.custom_op("helixwave::recurrent_triton_backward", mutates_args=())
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
    from helixwave_kernels.recurrent.triton_kernels import recurrent_bwd_kernel

    T, P = x.shape[1], x.shape[4]
    h = torch.cat([start[0].unsqueeze(1), y[:, :-1]], dim=1)
    if reset is not None:
        h = h.masked_fill(reset[:, :, None, None], 0)
    weights = _stacked(R)
    recurrence = _recurrent_part(h, weights, bias)
    dx, carry = torch.empty_like(x), grad_last.clone()
    drecurrence = torch.empty_like(x) if cell == "gru" else dx
    tensors = recurrence, start, gpu.flags(reset), y, memory, carry, dx, drecurrence
    grid, sizes = _launch(cell, x)
    with gpu.device_of(x):
        if P <= MOST_UNITS:
            recurrent_bwd_kernel[grid](grad_y, x, R, *tensors, 0, T, **sizes)
        else:
            for t in reversed(range(T)):
                recurrent_bwd_kernel[grid](grad_y, x, None, *tensors, t, t + 1, **sizes)
                into_gates = drecurrence[:, t].permute(2, 0, 1, 3).flatten(2)  # [H, B, J * P]
                carry[0] += torch.bmm(into_gates, weights.mT).transpose(0, 1)
    if reset is not None:
        carry.masked_fill_(reset[:, 0, None, None], 0)
    dR = torch.einsum("bthp,btjhq->jhpq", h, drecurrence).contiguous()
    return dx, dR, drecurrence.sum((0, 1)), carry


def _stacked(R: Tensor) -> Tensor:  # [J, H, P, P] -> [H, P, J * P]
    return R.permute(1, 2, 0, 3).flatten(2)


def _recurrent_part(h: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """What the last states `[B, L, H, P]` and the bias add to the gates, `[B, L, J, H, P]`."""
    (B, L, H, P), J = h.shape, bias.shape[0]
    product = torch.bmm(h.permute(2, 0, 1, 3).reshape(H, B * L, P), weights).view(H, B, L, J, P)
    return torch.add(product.permute(1, 2, 3, 0, 4), bias, out=h.new_empty(B, L, J, H, P))


def _launch(cell: str, x: Tensor) -> tuple[tuple[int, int, int], dict[str, Any]]:
    B, T, J, H, P = x.shape
    BP = gpu.power_of_2(P, most=128)
    # as many threads as leave 64 registers each for the weights
    warps = gpu.power_of_2(-(-4 * P * P // 2048), most=8) if P <= MOST_UNITS else 4
    return (H, B, -(-P // BP)), {"B": B, "T": T, "H": H, "P": P, "CELL": cell, "J": J, "BP": BP, "num_warps": warps}


make_differentiable(_recurrence, _recurrence_backward)
