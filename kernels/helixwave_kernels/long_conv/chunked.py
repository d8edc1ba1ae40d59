"""`long_conv` by fast Fourier transform."""

from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels.long_conv.reference import Mode, last_inputs, long_conv
from helixwave_kernels.shapes import compute_dtype


@long_conv.implementation("chunked")
def long_conv_chunked(
    x: Tensor,
    kernel: Tensor,
    skip: Tensor | None = None,
    *,
    mode: Mode = "causal",
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
    return_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    dtype = compute_dtype(x)
    kernel = kernel.to(dtype)
    T, L = x.shape[1], kernel.shape[1]
    inputs = x.to(dtype).mT
    if mode == "circular":
        y = _circular(inputs, kernel)
    elif mode == "same":
        y = _convolve(inputs, kernel, (L - 1) // 2, T)
    else:
        if initial_state is not None:
            inputs = torch.cat([initial_state.to(dtype), inputs], dim=-1)
        before = inputs.shape[-1] - T
        y = _convolve(inputs, kernel, before, T) if reset is None else _convolve_documents(inputs, kernel, reset)
    y = y.mT
    if skip is not None:
        y = y + skip.to(dtype) * x
    y = y.to(x.dtype)
    return (y, last_inputs(x, L, initial_state, reset)) if return_state else y


# a custom operator: the length of the transform is no matter of the graph that torch.compile and torch.export see, and
# the transforms are computed again for the backward pass instead of being kept
@torch.library.custom_op("helixwave::fft_convolve", mutates_args=())
def _convolve(x: Tensor, kernel: Tensor, start: int, length: int) -> Tensor:
    """Outputs `start` to `start + length` of the convolution of `[B, D, T]` with `[D, L]`."""
    x, kernel, n = _relevant(x, kernel, start, length)
    product = torch.fft.rfft(x, n=n).mul_(torch.fft.rfft(kernel, n=n))
    return torch.fft.irfft(product, n=n)[..., start : start + length].contiguous()


@torch.library.custom_op("helixwave::fft_convolve_backward", mutates_args=())
def _convolve_backward(grad: Tensor, x: Tensor, kernel: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """Gradients of x and the kernel: correlations, the same transforms with one side conjugated."""
    T, L = x.shape[-1], kernel.shape[-1]
    x, kernel, n = _relevant(x, kernel, start, grad.shape[-1])
    grad_f = torch.fft.rfft(F.pad(grad, (start, 0)), n=n)
    kernel_grad = torch.fft.irfft((grad_f * torch.fft.rfft(x, n=n).conj()).sum(0), n=n)
    x_grad = torch.fft.irfft(grad_f.mul_(torch.fft.rfft(kernel, n=n).conj()), n=n)
    return _padded(x_grad[..., : x.shape[-1]], T), _padded(kernel_grad[..., : kernel.shape[-1]], L)


def _relevant(x: Tensor, kernel: Tensor, start: int, length: int) -> tuple[Tensor, Tensor, int]:
    """What has an influence on the outputs, and the shortest quick period at which nothing wraps around into them."""
    end = start + length
    x, kernel = x[..., :end], kernel[..., :end]
    return x, kernel, quick_length(max(end, x.shape[-1] + kernel.shape[-1] - 1 - start))


def _padded(gradient: Tensor, length: int) -> Tensor:
    return F.pad(gradient, (0, length - gradient.shape[-1])).contiguous()


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, kernel, ctx.start, _ = inputs
    ctx.save_for_backward(x, kernel)


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    return *_convolve_backward(grad, *ctx.saved_tensors, ctx.start), None, None


_convolve.register_autograd(_backward, setup_context=_setup_context)


@_convolve.register_fake
def _(x: Tensor, kernel: Tensor, start: int, length: int) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], length)


@_convolve_backward.register_fake
def _(grad: Tensor, x: Tensor, kernel: Tensor, start: int) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(x, memory_format=torch.contiguous_format),
        torch.empty_like(kernel, memory_format=torch.contiguous_format),
    )


def _circular(x: Tensor, kernel: Tensor) -> Tensor:
    T, L = x.shape[-1], kernel.shape[-1]
    if L > T:
        kernel = F.pad(kernel, (0, -L % T)).unflatten(-1, (-1, T)).sum(-2)
    return torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(kernel, n=T), n=T)


# a custom operator, because where the documents begin is no matter of the graph
@torch.library.custom_op("helixwave::fft_convolve_documents", mutates_args=())
def _convolve_documents(x: Tensor, kernel: Tensor, reset: Tensor) -> Tensor:
    """Causal outputs `[B, D, T]` for the last T of the inputs `[B, D, S+T]`, each document by itself."""
    before = x.shape[-1] - reset.shape[1]
    y = x.new_empty(*x.shape[:2], reset.shape[1])
    for row, begin, start, end in _documents(reset, before):
        y[row, :, start - before : end - before] = _convolve(x[row, :, begin:end], kernel, start - begin, end - start)
    return y


@torch.library.custom_op("helixwave::fft_convolve_documents_backward", mutates_args=())
def _convolve_documents_backward(grad: Tensor, x: Tensor, kernel: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
    before = x.shape[-1] - reset.shape[1]
    x_grad, kernel_grad = torch.zeros_like(x), torch.zeros_like(kernel)
    for row, begin, start, end in _documents(reset, before):
        x_part, grad_part = x[row, :, begin:end], grad[row, :, start - before : end - before]
        x_grad_part, kernel_grad_part = _convolve_backward(grad_part, x_part, kernel, start - begin)
        x_grad[row, :, begin:end] = x_grad_part
        kernel_grad += kernel_grad_part
    return x_grad, kernel_grad


def _documents(reset: Tensor, before: int) -> Iterator[tuple[slice, int, int, int]]:
    """Row, first input, first output and end of each document, counted with the inputs `before` the sequence."""
    for b, row in enumerate(reset):
        starts = sorted({0, *row.nonzero().flatten().tolist()})
        for start, end in pairwise([*starts, len(row)]):
            sees_state = start == 0 and not row[0]
            yield slice(b, b + 1), 0 if sees_state else before + start, before + start, before + end


def _setup_documents_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs)


def _documents_backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    return *_convolve_documents_backward(grad, *ctx.saved_tensors), None


_convolve_documents.register_autograd(_documents_backward, setup_context=_setup_documents_context)


@_convolve_documents.register_fake
def _(x: Tensor, kernel: Tensor, reset: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], reset.shape[1])


@_convolve_documents_backward.register_fake
def _(grad: Tensor, x: Tensor, kernel: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(x, memory_format=torch.contiguous_format),
        torch.empty_like(kernel, memory_format=torch.contiguous_format),
    )


def quick_length(n: int) -> int:
    """The smallest number from n on that is even and has no prime factor above 5, where transforms are quick."""
    n += n % 2
    while not _is_smooth(n):
        n += 2
    return n


def _is_smooth(n: int) -> bool:
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return n == 1
