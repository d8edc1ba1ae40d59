"""`linear_scan` in C: one pass over the inputs in each direction; complex numbers as pairs of real ones."""

import torch
from torch import Tensor

from helixwave_kernels import memory, native
from helixwave_kernels.linear_scan.reference import linear_scan, output_dtype
from helixwave_kernels.shapes import compute_dtype


def _accepts(x: Tensor, decay: Tensor, *, initial_state: Tensor | None = None, **others: object) -> str | None:
    parts = [None if each is None else each.real if each.is_complex() else each for each in (x, decay, initial_state)]
    return native.refusal(*parts)


@linear_scan.implementation("native", accepts=_accepts)
def linear_scan_native(
    x: Tensor, decay: Tensor, *, initial_state: Tensor | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    dtype = compute_dtype(x, decay)
    h0 = None if initial_state is None else initial_state.to(dtype)
    h, state = _scan(x.to(dtype), decay.to(dtype), h0, reset)
    return h.to(output_dtype(x, decay)), state


# the last state is an output of its own, so that its gradient need not be added into one as large as the sequence
@torch.library.custom_op("helixwave::linear_scan_native", mutates_args=())
def _scan(x: Tensor, decay: Tensor, h0: Tensor | None, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    x, decay, h0, reset = native.contiguous(x, decay, h0, reset)
    h = memory.empty_like(x)
    native.call("linear_scan_forward", *_real(h, x, decay, h0), reset, *x.shape, 1 + x.is_complex())
    return h, h[:, -1].clone()


@torch.library.custom_op("helixwave::linear_scan_native_backward", mutates_args=())
def _scan_backward(
    grad_h: Tensor, grad_state: Tensor, decay: Tensor, h: Tensor, h0: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, decay and h0."""
    tensors = native.contiguous(grad_h, grad_state, decay, h, h0)
    grads = memory.empty_like(h), memory.empty_like(h), torch.empty_like(h[:, 0], memory_format=torch.contiguous_format)
    sizes = *h.shape, 1 + h.is_complex()
    native.call("linear_scan_backward", *_real(*grads, *tensors), *native.contiguous(reset), *sizes)
    return grads


def _real(*tensors: Tensor | None) -> list[Tensor | None]:
    """Complex numbers as pairs, without copies."""
    return [
        torch.view_as_real(each.resolve_conj()) if each is not None and each.is_complex() else each for each in tensors
    ]


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    _, decay, h0, reset = inputs
    ctx.save_for_backward(decay, output[0], h0, reset)


def _backward(ctx, grad_h, grad_state):  # type: ignore[no-untyped-def]
    grads = _scan_backward(grad_h, grad_state, *ctx.saved_tensors)
    return *(grad if needed else None for grad, needed in zip(grads, ctx.needs_input_grad, strict=False)), None


_scan.register_autograd(_backward, setup_context=_setup_context)


@_scan.register_fake
def _(x: Tensor, decay: Tensor, h0: Tensor | None, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape[0], x.shape[2])


@_scan_backward.register_fake
def _(grad_h, grad_state, decay, h, *_):  # type: ignore[no-untyped-def]
    return h.new_empty(h.shape), h.new_empty(h.shape), grad_state.new_empty(grad_state.shape)
