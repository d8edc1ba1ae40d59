"""`long_conv` by fast Fourier transform."""

from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels import memory
from helixwave_kernels.long_conv.reference import Mode, last_inputs, long_conv
from helixwave_kernels.shapes import compute_dtype

# channels that are transformed together on a CPU, and steps that are moved together: both stay in the cache
CHANNELS, STEPS = 16, 1024


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
    inputs = x.to(dtype)
    if mode == "circular":
        y = _circular(inputs, kernel)
    elif mode == "same":
        y = _convolve(inputs, kernel, (L - 1) // 2, T)
    else:
        if initial_state is not None:
            inputs = torch.cat([initial_state.to(dtype).mT, inputs], dim=1)
        before = inputs.shape[1] - T
        y = _convolve(inputs, kernel, before, T) if reset is None else _convolve_documents(inputs, kernel, reset)
    if skip is not None:
        y = y + skip.to(dtype) * x
    y = y.to(x.dtype)
    return (y, last_inputs(x, L, initial_state, reset)) if return_state else y


# a custom operator: the length of the transform is no matter of the graph that torch.compile and torch.export see, and
# the transforms are computed again for the backward pass instead of being kept
@torch.library.custom_op("helixwave::fft_convolve", mutates_args=())
def _convolve(x: Tensor, kernel: Tensor, start: int, length: int) -> Tensor:
    """Outputs `start` to `start + length` of the convolution of `[B, T, D]` with `[D, L]`."""
    y = memory.empty(x.shape[0], length, x.shape[2], like=x)
    x, kernel, n = _relevant(x, kernel, start, length)
    for part in _channels(x):
        product = _transform(x[..., part], n).mul_(torch.fft.rfft(kernel[part], n=n))
        _write(y[..., part], torch.fft.irfft(product, n=n)[..., start:])
    return y


@torch.library.custom_op("helixwave::fft_convolve_backward", mutates_args=())
def _convolve_backward(grad: Tensor, x: Tensor, kernel: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """Gradients of x and the kernel: correlations, the same transforms with one side conjugated."""
    x_grad, kernel_grad = memory.zeros_like(x), memory.zeros_like(kernel)
    x, kernel, n = _relevant(x, kernel, start, grad.shape[1])
    T, L = x.shape[1], kernel.shape[1]
    for part in _channels(x):
        grad_f = _transform(grad[..., part], n, start)
        for_kernel = (grad_f * _transform(x[..., part], n).conj()).sum(0)
        kernel_grad[part, :L] = torch.fft.irfft(for_kernel, n=n)[..., :L]
        for_x = grad_f.mul_(torch.fft.rfft(kernel[part], n=n).conj())
        _write(x_grad[:, :T, part], torch.fft.irfft(for_x, n=n))
    return x_grad, kernel_grad


def _relevant(x: Tensor, kernel: Tensor, start: int, length: int) -> tuple[Tensor, Tensor, int]:
    """What has an influence on the outputs, and the shortest quick period at which nothing wraps around into them."""
    end = start + length
    x, kernel = x[:, :end], kernel[:, :end]
    return x, kernel, quick_length(max(end, x.shape[1] + kernel.shape[1] - 1 - start))


def _channels(x: Tensor) -> Iterator[slice]:
    step = CHANNELS if x.device.type == "cpu" else x.shape[2]
    return (slice(d, d + step) for d in range(0, x.shape[2], step))


def _transform(x: Tensor, n: int, start: int = 0) -> Tensor:
    """The transform over time, with period n, of `[B, T, D]` after `start` zeros: `[B, D, n / 2 + 1]`."""
    B, T, D = x.shape
    rows = x.new_empty(B, D, n)
    rows[..., :start] = 0
    rows[..., start + T :] = 0
    for t in range(0, T, STEPS):
        rows[..., start + t : start + min(t + STEPS, T)] = x[:, t : t + STEPS].mT
    return torch.fft.rfft(rows)


def _write(y: Tensor, rows: Tensor) -> None:
    """Fill y `[B, T, D]` from `[B, D, T or more]`."""
    for t in range(0, y.shape[1], STEPS):
        part = y[:, t : t + STEPS]
        part.copy_(rows[..., t : t + part.shape[1]].mT)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, kernel, ctx.start, _ = inputs
    ctx.save_for_backward(x, kernel)


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    return *_convolve_backward(grad, *ctx.saved_tensors, ctx.start), None, None


_convolve.register_autograd(_backward, setup_context=_setup_context)


@_convolve.register_fake
def _(x: Tensor, kernel: Tensor, start: int, length: int) -> Tensor:
    return x.new_empty(x.shape[0], length, x.shape[2])


@_convolve_backward.register_fake
def _(grad: Tensor, x: Tensor, kernel: Tensor, start: int) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(x, memory_format=torch.contiguous_format),
        torch.empty_like(kernel, memory_format=torch.contiguous_format),
    )


def _circular(x: Tensor, kernel: Tensor) -> Tensor:
    T, L = x.shape[1], kernel.shape[1]
    if L > T:
        kernel = F.pad(kernel, (0, -L % T)).unflatten(-1, (-1, T)).sum(-2)
    return torch.fft.irfft(torch.fft.rfft(x.mT) * torch.fft.rfft(kernel, n=T), n=T).mT


# a custom operator, because where the documents begin is no matter of the graph
@torch.library.custom_op("helixwave::fft_convolve_documents", mutates_args=())
def _convolve_documents(x: Tensor, kernel: Tensor, reset: Tensor) -> Tensor:
    """Causal outputs `[B, T, D]` for the last T of the inputs `[B, S+T, D]`, each document by itself."""
    before = x.shape[1] - reset.shape[1]
    y = x.new_empty(x.shape[0], reset.shape[1], x.shape[2])
    for row, begin, start, end in _documents(reset, before):
        y[row, start - before : end - before] = _convolve(x[row, begin:end], kernel, start - begin, end - start)
    return y


@torch.library.custom_op("helixwave::fft_convolve_documents_backward", mutates_args=())
def _convolve_documents_backward(grad: Tensor, x: Tensor, kernel: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
    before = x.shape[1] - reset.shape[1]
    x_grad, kernel_grad = torch.zeros_like(x), torch.zeros_like(kernel)
    for row, begin, start, end in _documents(reset, before):
        x_part, grad_part = x[row, begin:end], grad[row, start - before : end - before]
        x_grad_part, kernel_grad_part = _convolve_backward(grad_part, x_part, kernel, start - begin)
        x_grad[row, begin:end] = x_grad_part
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
    return x.new_empty(x.shape[0], reset.shape[1], x.shape[2])


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
