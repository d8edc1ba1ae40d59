"""`linear_scan` on a GPU: one pass over the sequence, in chunks that scan in parallel."""

from typing import Any

import torch
from torch import Tensor

from helixwave_kernels import gpu
from helixwave_kernels.linear_scan.reference import linear_scan
from helixwave_kernels.shapes import compute_dtype

CHUNK = 64


def _accepts(*args: Any, **kwargs: Any) -> str | None:
    return gpu.refusal(*map(_real, args), **{name: _real(value) for name, value in kwargs.items()})


def _real(value: Any) -> Any:
    """Complex numbers as pairs, as the kernels see them."""
    return torch.view_as_real(value) if isinstance(value, Tensor) and value.is_complex() else value


@linear_scan.implementation("triton", accepts=_accepts)
def linear_scan_triton(
    x: Tensor, decay: Tensor, *, initial_state: Tensor | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    if x.is_complex() or decay.is_complex():
        x, decay = x.to(torch.complex64), decay.to(torch.complex64)
        initial_state = None if initial_state is None else initial_state.to(torch.complex64)
    y, last, _ = _scan(x, decay, initial_state, reset)
    return y, last


@torch.library.custom_op("helixwave::linear_scan_triton", mutates_args=())
def _scan(x: Tensor, decay: Tensor, h0: Tensor | None, reset: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """All states in the dtype of x, the last one, and all as they were computed (empty where y has these)."""
    from helixwave_kernels.linear_scan import triton_kernels as kernels

    kernel = kernels.linear_scan_complex_fwd_kernel if x.is_complex() else kernels.linear_scan_fwd_kernel
    x, decay, h0 = gpu.contiguous(x, decay, h0)
    h, last = torch.empty_like(x, dtype=compute_dtype(x)), torch.empty_like(x[:, 0], dtype=compute_dtype(x))
    grid, sizes = _launch(x)
    with gpu.device_of(x):
        kernel[grid](_real(x), _real(decay), gpu.flags(reset), _real(h0), _real(h), _real(last), **sizes)
    return (h, last, h.new_empty(0)) if x.dtype == h.dtype else (h.to(x.dtype), last, h)


@torch.library.custom_op("helixwave::linear_scan_triton_backward", mutates_args=())
def _scan_backward(
    grad: Tensor, last_grad: Tensor | None, decay: Tensor, h0: Tensor | None, reset: Tensor | None, h: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, decay and h0; empty where there is no h0."""
    from helixwave_kernels.linear_scan import triton_kernels as kernels

    kernel = kernels.linear_scan_complex_bwd_kernel if h.is_complex() else kernels.linear_scan_bwd_kernel
    grad, last_grad, decay, h0, h = gpu.contiguous(grad, last_grad, decay, h0, h)
    gradients = torch.empty_like(grad), torch.empty_like(decay), _like(h0, h)
    grid, sizes = _launch(grad)
    tensors = grad, last_grad, decay, gpu.flags(reset), h0, h, *gradients
    with gpu.device_of(grad):
        kernel[grid](*map(_real, tensors), **sizes)
    return gradients


def _launch(x: Tensor) -> tuple[tuple[int, int], dict[str, Any]]:
    B, T, D = x.shape
    # 32 channels are 128 bytes: two parts of each where they are complex
    BD = gpu.power_of_2(D, most=16 if x.is_complex() else 32)
    return (-(-D // BD), B), {"T": T, "D": D, "BT": CHUNK, "BD": BD, "num_warps": 4}


def _like(tensor: Tensor | None, h: Tensor) -> Tensor:
    return h.new_empty(0 if tensor is None else tensor.shape, dtype=compute_dtype(h))


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, decay, h0, reset = inputs
    y, _, h = output
    ctx.save_for_backward(decay, h0, reset, h if h.numel() else y)
    ctx.set_materialize_grads(False)
    ctx.dtype = x.dtype


def _backward(ctx, grad, last_grad, _):  # type: ignore[no-untyped-def]
    decay, h0, reset, h = ctx.saved_tensors
    grad = torch.zeros_like(h, dtype=ctx.dtype) if grad is None else grad
    x_grad, decay_grad, h0_grad = _scan_backward(grad, last_grad, decay, h0, reset, h)
    return x_grad, decay_grad, None if h0 is None else h0_grad.to(h0.dtype), None


_scan.register_autograd(_backward, setup_context=_setup_context)


@_scan.register_fake
def _(x: Tensor, decay: Tensor, h0: Tensor | None, reset: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    last = x.new_empty(x.shape[0], x.shape[2], dtype=compute_dtype(x))
    return y, last, last.new_empty(0 if x.dtype == last.dtype else x.shape)


@_scan_backward.register_fake
def _(grad: Tensor, last_grad: Tensor | None, decay: Tensor, h0: Tensor | None, *_: Any) -> tuple[Tensor, ...]:
    contiguous = torch.contiguous_format
    gradients = (torch.empty_like(tensor, memory_format=contiguous) for tensor in (grad, decay))
    return *gradients, _like(h0, grad)
