"""Time-invariant state spaces whose transition is a dense matrix for each channel (LSSL, S4).

`h_t = A h_{t-1} + B u_t`, `y_t = C h_t + D u_t`, in chunks: within one a product with a Toeplitz matrix of the first
values of the kernel `C A^l B`, from one to the next the state times the power of A. Matrix products only, cost `O(T)`.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave.lengths import valid_mask

CHUNK = 64  # steps


class DensePowers(NamedTuple):
    """What follows from the transition and the input map."""

    powers: tuple[Tensor, ...]  # A, A^2, A^4, ..., A^chunk, each [D, N, N]
    inject: Tensor  # A^(chunk - 1 - i) B: what is left of an input at step i when its chunk ends, [D, chunk, N]


class DenseMaps(NamedTuple):
    """All that `dense_state_space` needs of the parameters."""

    powers: tuple[Tensor, ...]
    inject: Tensor
    read: Tensor  # C A^(i + 1): from the state before a chunk to the output at step i, [D, M, chunk, N]
    convolve: Tensor  # from the inputs to the outputs of a chunk, [D, chunk, M, chunk]


def chunk_length(T: int) -> int:
    """Steps of a chunk for sequences of length T, a power of two: no longer than what they can fill."""
    return min(CHUNK, 1 << (T - 1).bit_length())


def dense_powers(A: Tensor, B: Tensor, chunk: int, dtype: torch.dtype = torch.float32) -> DensePowers:
    """By doubling, the powers of A in float64: thousands of steps amplify their rounding.

    Args:
        A: transitions `[D, N, N]`.
        B: input maps `[D, N]`.
        chunk: steps of a chunk, a power of two.
        dtype: of the result and of all that follows.
    """
    powers = _squares(A.double(), chunk.bit_length() - 1, dtype).unbind()
    inject = B.to(dtype).unsqueeze(1)
    for power in powers[:-1]:
        inject = torch.cat([inject @ power.mT, inject], dim=1)
    return DensePowers(powers, inject)


def dense_maps(system: DensePowers, C: Tensor, D: Tensor) -> DenseMaps:
    """The maps of a chunk.

    Args:
        C: output maps of M outputs for each channel `[M, D, N]`.
        D: weights of the input itself `[M, D]`.
    """
    powers, inject = system
    rows = C.to(inject).transpose(0, 1)  # [D, M, N]
    read = (rows @ powers[0]).unsqueeze(2)
    for power in powers[:-1]:
        read = torch.cat([read, (read.flatten(1, 2) @ power).unflatten(1, read.shape[1:3])], dim=2)
    kernel = rows @ inject.mT  # the longest lag first
    kernel = torch.cat([kernel[..., :-1], kernel[..., -1:] + D.to(inject).T.unsqueeze(-1)], dim=-1)
    return DenseMaps(powers, inject, read, _toeplitz(kernel))


def dense_state_space(
    u: Tensor, maps: DenseMaps, initial_state: Tensor | None = None, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Outputs of all steps and the last state, with exact gradients.

    Args:
        u: inputs `[B, T, D]`.
        maps: from `dense_maps`.
        initial_state: `[B, D, N]`, zeros if None.
        lengths: valid steps of each sequence `[B]`, at least 1; nothing depends on what stands behind them.

    Returns:
        outputs `[B, T, M, D]` and the state after the last valid step `[B, D, N]`, in the dtype of the maps.
    """
    B, T, D = u.shape
    if lengths is not None:
        u = u.masked_fill(~valid_mask(lengths, T)[..., None], 0)
    with torch.autocast(u.device.type, enabled=False):
        inputs = u.to(maps.inject.dtype).permute(2, 0, 1).contiguous()  # [D, B, T]
        start = inputs.new_zeros(D, B, maps.inject.shape[2])
        if initial_state is not None:
            start = initial_state.to(start).transpose(0, 1)
        states = _states_before_chunks(inputs, maps, start)
        y = _outputs(inputs, maps, states)
        if lengths is None:
            return y, _end(inputs, maps, states).transpose(0, 1)
        return y, _end_of_each(inputs, maps, states, lengths).transpose(0, 1)


def _states_before_chunks(inputs: Tensor, maps: DenseMaps, start: Tensor) -> Tensor:
    """`[n_chunk, D, B, N]`."""
    chunk = maps.inject.shape[1]
    n_before = (inputs.shape[2] - 1) // chunk
    if n_before == 0:
        return start.unsqueeze(0)
    earlier = inputs[..., : n_before * chunk].unflatten(2, (n_before, chunk))
    injected = (earlier.flatten(1, 2) @ maps.inject).unflatten(1, (-1, n_before))
    states: Tensor = _recurrence(injected, maps.powers[-1], start)
    return states


def _outputs(inputs: Tensor, maps: DenseMaps, states: Tensor) -> Tensor:  # -> [B, T, M, D]
    T, n_chunk = inputs.shape[2], len(states)
    chunk = min(maps.inject.shape[1], T)
    if n_chunk * chunk > T:
        inputs = F.pad(inputs, (0, n_chunk * chunk - T))
    inputs = inputs.unflatten(2, (n_chunk, chunk))
    before = states.permute(1, 2, 0, 3)  # [D, B, n_chunk, N]
    read = maps.read[:, :, :chunk].flatten(1, 2).mT
    convolve = maps.convolve[:, :chunk, :, :chunk].flatten(2)
    y = torch.baddbmm(before.flatten(1, 2) @ read, inputs.flatten(1, 2), convolve)
    y = y.view(*inputs.shape[:3], -1, chunk).permute(1, 2, 4, 3, 0)  # [B, n_chunk, chunk, M, D]
    return y.flatten(1, 2)[:, :T]


def _end(inputs: Tensor, maps: DenseMaps, states: Tensor) -> Tensor:
    """The state after the last step, `[D, B, N]`."""
    h, rest = states[-1], (inputs.shape[2] - 1) % maps.inject.shape[1] + 1
    for i, power in enumerate(maps.powers):
        if rest >> i & 1:
            h = h @ power.mT
    return torch.baddbmm(h, inputs[..., -rest:], maps.inject[:, -rest:])


def _end_of_each(inputs: Tensor, maps: DenseMaps, states: Tensor, lengths: Tensor) -> Tensor:
    """The state after the last valid step of each sequence, `[D, B, N]`."""
    D, B, _ = inputs.shape
    chunk = maps.inject.shape[1]
    n_before = (lengths - 1) // chunk
    rest = lengths - n_before * chunk
    h = states[n_before, :, torch.arange(B, device=lengths.device)].transpose(0, 1)
    for i, power in enumerate(maps.powers):
        h = torch.where((rest >> i & 1).bool()[:, None], h @ power.mT, h)
    position = lengths[:, None] - chunk + torch.arange(chunk, device=lengths.device)
    last = inputs.gather(2, position.clamp(min=0).expand(D, B, chunk))
    return torch.baddbmm(h, last.masked_fill(position < (n_before * chunk)[:, None], 0), maps.inject)


def _toeplitz(kernel: Tensor) -> Tensor:
    """From `[D, M, chunk]`, the longest lag first, to the matrix from inputs to outputs `[D, chunk, M, chunk]`."""
    padded = F.pad(kernel, (0, kernel.shape[2] - 1))
    return padded.unfold(2, kernel.shape[2], 1).flip(3).transpose(1, 2).contiguous()


# custom operators: one node each for torch.compile and torch.export, whatever the number of steps


@torch.library.custom_op("helixwave::matrix_squares", mutates_args=())
def _squares(A: Tensor, n: int, dtype: torch.dtype) -> Tensor:
    """A and n squares, each of the one before, computed in the dtype of A and returned in `dtype`."""
    squares = A.new_empty(n + 1, *A.shape, dtype=dtype)
    for i, square in enumerate(squares):
        A = A @ A if i else A
        square.copy_(A)
    return squares


@torch.library.custom_op("helixwave::matrix_squares_backward", mutates_args=())
def _squares_backward(grad: Tensor, squares: Tensor) -> Tensor:
    """In the dtype of the result: rounding does not add up here."""
    *earlier, A_grad = grad.unbind()
    for step_grad, square in zip(reversed(earlier), reversed(squares[:-1].unbind()), strict=True):
        A_grad = torch.baddbmm(torch.baddbmm(step_grad, A_grad, square.mT), square.mT, A_grad)
    return A_grad.to(torch.float64, copy=True)  # never the memory of the argument


@torch.library.custom_op("helixwave::dense_recurrence", mutates_args=())
def _recurrence(injected: Tensor, A: Tensor, start: Tensor) -> Tensor:
    """`h_k = A h_{k-1} + injected_k` from `[D, B, K, N]`; `start` and all that follow, `[K + 1, D, B, N]`."""
    states = start.new_empty(injected.shape[2] + 1, *start.shape)
    states[0] = start
    for x, h, h_next in zip(injected.unbind(2), states[:-1], states[1:], strict=True):
        torch.baddbmm(x, h, A.mT, out=h_next)
    return states


@torch.library.custom_op("helixwave::dense_recurrence_backward", mutates_args=())
def _recurrence_backward(grad: Tensor, states: Tensor, A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the arguments: the recurrence from the end, with A transposed."""
    *earlier, h_grad = grad.unbind(0)
    reached = []
    for step_grad in reversed(earlier):
        reached.append(h_grad)
        h_grad = torch.baddbmm(step_grad, h_grad, A)
    injected_grad = torch.stack(reached[::-1], dim=2)
    before = states[:-1].permute(1, 2, 0, 3)
    return injected_grad, injected_grad.flatten(1, 2).mT @ before.flatten(1, 2), h_grad


@_squares.register_fake
def _(A: Tensor, n: int, dtype: torch.dtype) -> Tensor:
    return A.new_empty(n + 1, *A.shape, dtype=dtype)


@_squares_backward.register_fake
def _(grad: Tensor, squares: Tensor) -> Tensor:
    return torch.empty_like(squares[0], dtype=torch.float64)


@_recurrence.register_fake
def _(injected: Tensor, A: Tensor, start: Tensor) -> Tensor:
    return injected.new_empty(injected.shape[2] + 1, *start.shape)


@_recurrence_backward.register_fake
def _(grad: Tensor, states: Tensor, A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    K, D, B, N = states.shape
    return grad.new_empty(D, B, K - 1, N), torch.empty_like(A), grad.new_empty(D, B, N)


def _setup_squares(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(output)


def _backward_of_squares(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    return _squares_backward(grad, *ctx.saved_tensors), None, None


def _setup_recurrence(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(output, inputs[1])


def _backward_of_recurrence(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    return _recurrence_backward(grad, *ctx.saved_tensors)


_squares.register_autograd(_backward_of_squares, setup_context=_setup_squares)
_recurrence.register_autograd(_backward_of_recurrence, setup_context=_setup_recurrence)
