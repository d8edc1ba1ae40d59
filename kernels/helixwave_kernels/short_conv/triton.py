"""`short_conv` in one pass over the sequence on a GPU."""

from typing import Any

import torch
from torch import Tensor

from helixwave_kernels import gpu
from helixwave_kernels.shapes import compute_dtype
from helixwave_kernels.short_conv.reference import short_conv

CHUNK = 32
# the backward kernel computes W outputs for each input again
MOST_TAPS = 8


def _accepts(x: Tensor, weight: Tensor, *others: Any, **named: Any) -> str | None:
    if weight.shape[-1] > MOST_TAPS:
        return f"weight has {weight.shape[-1]} taps, more than {MOST_TAPS}"
    return gpu.refusal(*others, x=x, weight=weight, **named)


@short_conv.implementation("triton", accepts=_accepts)
def short_conv_triton(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    before = None if initial_state is None else initial_state.mT
    first = None if reset is None else _first_visible(reset, weight.shape[1])
    y = _convolve(x, weight, bias, before, first, activation == "silu")
    return y, _last_inputs(x, before, first, weight.shape[1])


def _first_visible(reset: Tensor, W: int) -> Tensor:
    """The time of the last reset so far, `[B, T]`; before the initial state where there was none."""
    times = torch.arange(reset.shape[1], device=reset.device)
    return torch.where(reset, times, -W).cummax(1).values


def _last_inputs(x: Tensor, before: Tensor | None, first: Tensor | None, W: int) -> Tensor:
    (B, T, D), dtype = x.shape, compute_dtype(x)
    before = x.new_zeros(B, W - 1, D, dtype=dtype) if before is None else before.to(dtype)
    recent = x[:, 1 - W :] if W > 1 else x[:, :0]
    state = torch.cat([before, recent.to(dtype)], dim=1)[:, 1 - W :]
    if first is not None:
        times = torch.arange(T - W + 1, T, device=x.device)
        state = state.masked_fill((times < first[:, -1:]).unsqueeze(-1), 0)
    return state.mT.contiguous()


@torch.library.custom_op("helixwave::short_conv_triton", mutates_args=())
def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, before: Tensor | None, first: Tensor | None, silu: bool
) -> Tensor:
    """Outputs `[B, T, D]`; `before` is `[B, W-1, D]`, and an output at t sees inputs from `first` `[B, T]` on."""
    from helixwave_kernels.short_conv.triton_kernels import short_conv_fwd_kernel

    x, weight, bias, before, first = gpu.contiguous(x, weight, bias, before, first)
    y = torch.empty_like(x)
    grid, sizes = _launch(x, weight, silu, x.shape[1], most_channels=64)
    with gpu.device_of(x):
        short_conv_fwd_kernel[grid](x, weight, bias, before, first, y, **sizes)
    return y


@torch.library.custom_op("helixwave::short_conv_triton_backward", mutates_args=())
def _convolve_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    before: Tensor | None,
    first: Tensor | None,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, weight, bias and before; empty where there is no such argument."""
    from helixwave_kernels.short_conv.triton_kernels import short_conv_bwd_kernel

    grad, x, weight, bias, before, first = gpu.contiguous(grad, x, weight, bias, before, first)
    D, W = weight.shape
    grid, sizes = _launch(x, weight, silu, x.shape[1] + W - 1, most_channels=32)
    n_part = grid[0] * grid[2]
    x_grad, before_grad = torch.empty_like(x), _like(before, x)
    weight_parts = x.new_empty(n_part, W, D, dtype=torch.float32)
    bias_parts = x.new_empty(n_part, D if bias is not None else 0, dtype=torch.float32)
    gradients = x_grad, before_grad, weight_parts, bias_parts
    with gpu.device_of(x):
        short_conv_bwd_kernel[grid](grad, x, weight, bias, before, first, *gradients, **sizes)
    return x_grad, weight_parts.sum(0).mT.to(weight.dtype).contiguous(), bias_parts.sum(0), before_grad


def _launch(
    x: Tensor, weight: Tensor, silu: bool, T: int, most_channels: int
) -> tuple[tuple[int, int, int], dict[str, Any]]:
    (D, W), BT = weight.shape, CHUNK
    BD = gpu.power_of_2(D, most=most_channels)
    sizes = {"T": x.shape[1], "D": D, "W": W, "SILU": silu, "BT": BT, "BD": BD, "num_warps": 4}
    return (-(-T // BT), -(-D // BD), x.shape[0]), sizes


def _like(tensor: Tensor | None, x: Tensor) -> Tensor:
    return x.new_empty(0 if tensor is None else tensor.shape, dtype=torch.float32)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.silu = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    x, weight, bias, before, first = ctx.saved_tensors
    x_grad, weight_grad, bias_grad, before_grad = _convolve_backward(grad, x, weight, bias, before, first, ctx.silu)
    bias_grad = None if bias is None else bias_grad.to(bias.dtype)
    before_grad = None if before is None else before_grad.to(before.dtype)
    return x_grad, weight_grad, bias_grad, before_grad, None, None


_convolve.register_autograd(_backward, setup_context=_setup_context)


@_convolve.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_convolve_backward.register_fake
def _(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, before: Tensor | None, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    contiguous = torch.contiguous_format
    return (
        torch.empty_like(x, memory_format=contiguous),
        torch.empty_like(weight, memory_format=contiguous),
        x.new_empty(0 if bias is None else bias.shape, dtype=torch.float32),
        _like(before, x),
    )
