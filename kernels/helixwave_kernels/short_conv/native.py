"""`short_conv` in C: each output is read, convolved and activated once."""

import torch
from torch import Tensor

from helixwave_kernels import memory, native
from helixwave_kernels.shapes import compute_dtype
from helixwave_kernels.short_conv.reference import short_conv

# inputs of one row of work, as STRETCH in short_conv.c
STRETCH = 256


def _accepts(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, initial_state: Tensor | None = None, **others: object
) -> str | None:
    return native.refusal(x, weight, bias, initial_state)


@short_conv.implementation("native", accepts=_accepts)
def short_conv_native(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    dtype = compute_dtype(x)
    (B, _, D), W = x.shape, weight.shape[1]
    before = x.new_zeros(B, W - 1, D, dtype=dtype) if initial_state is None else initial_state.to(dtype).mT
    bias = None if bias is None else bias.to(dtype)
    y, state = _convolve(x.to(dtype), weight.to(dtype).mT, bias, before, reset, activation == "silu")
    return y.to(x.dtype), state.mT.contiguous()


@torch.library.custom_op("helixwave::short_conv_native", mutates_args=())
def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, before: Tensor, reset: Tensor | None, silu: bool
) -> tuple[Tensor, Tensor]:
    """Outputs and the last inputs of x `[B, T, D]`, weight `[W, D]` and the inputs before, `[B, W-1, D]`."""
    x, weight, bias, before, reset = native.contiguous(x, weight, bias, before, reset)
    y, state = memory.empty_like(x), torch.empty_like(before)
    native.call("short_conv_forward", y, state, x, weight, bias, before, reset, *x.shape, len(weight), silu)
    return y, state


@torch.library.custom_op("helixwave::short_conv_native_backward", mutates_args=())
def _convolve_backward(
    grad_y: Tensor,
    grad_state: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    before: Tensor,
    reset: Tensor | None,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, weight, bias (wanted or not) and the inputs before."""
    tensors = native.contiguous(grad_y, grad_state, x, weight, bias, before, reset)
    n_rows = x.shape[0] * -(-x.shape[1] // STRETCH)
    grads = memory.zeros_like(x), x.new_zeros(n_rows, *weight.shape), x.new_zeros(n_rows, x.shape[2])
    grad_before = torch.zeros_like(before, memory_format=torch.contiguous_format)
    native.call("short_conv_backward", *grads, grad_before, *tensors, *x.shape, len(weight), silu)
    return grads[0], grads[1].sum(0), grads[2].sum(0), grad_before


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.silu = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad_y, grad_state):  # type: ignore[no-untyped-def]
    grads = _convolve_backward(grad_y, grad_state, *ctx.saved_tensors, ctx.silu)
    grad_x, grad_weight, grad_bias, grad_before = grads
    return grad_x, grad_weight, grad_bias if ctx.needs_input_grad[2] else None, grad_before, None, None


_convolve.register_autograd(_backward, setup_context=_setup_context)


@_convolve.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor | None, before: Tensor, reset: Tensor | None, silu: bool
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), before.new_empty(before.shape)


@_convolve_backward.register_fake
def _(grad_y, grad_state, x, weight, bias, before, *_):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape), weight.new_empty(weight.shape), x.new_empty(x.shape[2]), before.new_empty(before.shape)
