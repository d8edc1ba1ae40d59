"""`selective_scan` in chunks that stay in the cache; only the states between chunks are kept for the backward pass.

Inside, tensors are time first and channels last, `[T, B, G, N, P]` with D = G * P: each step is one `addcmul_` on
contiguous memory, and the channels vectorise. The derivation of the backward pass is in README.md.
"""

import torch
from torch import Tensor

from helixwave_kernels import memory
from helixwave_kernels.selective_scan.reference import gated, selective_scan, step_sizes
from helixwave_kernels.shapes import compute_dtype

# one state in CHUNK is kept: for a state size of 16 that costs as much memory as one input
CHUNK = 16


@selective_scan.implementation("chunked")
def selective_scan_chunked(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    softplus: bool = True,
    negative_eigenvalues: bool = False,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    if u.shape[1] == 1:  # nothing to gain from chunks
        options = {"softplus": softplus, "negative_eigenvalues": negative_eigenvalues}
        states = {"initial_state": initial_state, "reset": reset}
        return selective_scan.impls["reference"](u, delta, A, B, C, skip, z, delta_bias, **options, **states)
    dtype = compute_dtype(u)
    (n_batch, _, D), N = u.shape, A.shape[1]
    G = max(map_.shape[2] if map_.ndim == 4 else 1 for map_ in (B, C))
    # elementwise operations keep this order in memory, so that nothing is copied (and kept) once more below
    u, delta = (_time_first(tensor).transpose(0, 1) for tensor in (u, delta))
    steps = step_sizes(delta.to(dtype), delta_bias, softplus)
    h0 = u.new_zeros(n_batch, D, N, dtype=dtype) if initial_state is None else initial_state.to(dtype)
    y, h, _ = _scan(
        _time_first((steps * u).unflatten(2, (G, -1))),
        _time_first(steps.unflatten(2, (G, -1))),
        _channels_last(A.to(dtype), G),
        _map(B.to(dtype), G),
        _map(C.to(dtype), G),
        _channels_last(h0, G),
        None if reset is None else _time_first(reset)[..., None, None, None],
        negative_eigenvalues,
    )
    y = y.transpose(0, 1).flatten(2)
    return gated(y, u, skip, z).to(u.dtype), h.mT.flatten(1, 2)


def _time_first(tensor: Tensor) -> Tensor:  # [B, T, ...] -> [T, B, ...]
    return tensor.transpose(0, 1).contiguous()


def _channels_last(tensor: Tensor, G: int) -> Tensor:  # [..., D, N] -> [..., G, N, P]
    return tensor.unflatten(-2, (G, -1)).mT.contiguous()


def _map(map_: Tensor, G: int) -> Tensor:
    """B or C in a shape that broadcasts over `[T, B, G, N, P]`."""
    if map_.ndim == 2:
        return _channels_last(map_, G)[None, None]
    if map_.ndim == 3:
        map_ = map_.unsqueeze(2)
    return _time_first(map_).unsqueeze(-1)


# a custom operator, so that torch.compile and torch.export see one node and not the unrolled loop
@torch.library.custom_op("helixwave::selective_scan_chunked", mutates_args=())
def _scan(
    x: Tensor, steps: Tensor, A: Tensor, B: Tensor, C: Tensor, h0: Tensor, reset: Tensor | None, negative: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """`h_t = exp(steps_t A) h_{t-1} + x_t B_t`, `y_t = C_t h_t`; returns y, the last state, and those between chunks.

    Shapes: x, steps, y `[T, B, G, P]`; A `[G, N, P]`; B, C `[T, B, 1|G, N, 1]` or `[1, 1, G, N, P]`; states
    `[B, G, N, P]`; reset `[T, B, 1, 1, 1]`.
    """
    y = memory.empty_like(x)
    chunks = _chunks(len(x))
    between = memory.empty(len(chunks) + 1, *h0.shape, like=x)
    between[0] = h0
    h, a, product = _buffers(3, h0)
    for start, end, chunk in zip(between, between[1:], chunks, strict=False):
        transitions = _transitions(a, steps[chunk], A, negative)
        states = _states(h, transitions, x[chunk], _part(B, chunk), start, _cleared(reset, chunk))
        end.copy_(states[-1])
        torch.sum(torch.mul(states, _part(C, chunk), out=product[: len(states)]), -2, out=y[chunk])
    return y, between[-1].clone(), between


@torch.library.custom_op("helixwave::selective_scan_chunked_backward", mutates_args=())
def _scan_backward(
    grad_y: Tensor,
    grad_state: Tensor,
    x: Tensor,
    steps: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    between: Tensor,
    reset: Tensor | None,
    negative: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, steps, A, B, C and h0: each chunk's states are computed again, the last chunk first."""
    dx, dsteps = memory.empty_like(x), memory.empty_like(steps)
    dA, dB, dC = torch.zeros_like(A), torch.zeros_like(B), torch.zeros_like(C)
    h, a, g, products = _buffers(4, grad_state)
    carry = grad_state.clone()
    for start, chunk in reversed(list(zip(between[:-1], _chunks(len(x)), strict=True))):
        B_t, C_t, cleared = _part(B, chunk), _part(C, chunk), _cleared(reset, chunk)
        x_t, steps_t, grad_t = (tensor[chunk].unsqueeze(-2) for tensor in (x, steps, grad_y))
        product = products[: len(x_t)]
        transitions = _transitions(a, steps[chunk], A, negative)
        states = _states(h, transitions, x[chunk], B_t, start, cleared)
        grads = _state_gradients(g, transitions, grad_y[chunk], C_t, carry, cleared)
        _add_gradient(_part(dC, chunk), torch.mul(states, grad_t, out=product))
        _add_gradient(_part(dB, chunk), torch.mul(grads, x_t, out=product))
        torch.sum(torch.mul(grads, B_t, out=product), -2, out=dx[chunk])
        carry = _masked(transitions[0] * grads[0], cleared[0])
        # from here on the gradient of the exponents steps * A, in the place of the states' gradient
        exponents = grads.mul_(transitions.add_(1) if negative else transitions)
        exponents[0].mul_(start)
        exponents[1:].mul_(states[:-1])
        for exponents_t, mask in zip(exponents.unbind(0), cleared, strict=True):
            if mask is not None:
                exponents_t.masked_fill_(mask, 0)
        torch.sum(torch.mul(exponents, A, out=product), -2, out=dsteps[chunk])
        _add_gradient(dA, exponents.mul_(steps_t))
    return dx, dsteps, dA, dB, dC, carry


def _chunks(T: int) -> list[slice]:
    return [slice(start, min(start + CHUNK, T)) for start in range(0, T, CHUNK)]


def _buffers(count: int, state: Tensor) -> list[Tensor]:
    return [state.new_empty(CHUNK, *state.shape) for _ in range(count)]


def _part(map_: Tensor, chunk: slice) -> Tensor:
    """The chunk's part of B or C; what is constant in time has only this part."""
    return map_ if len(map_) == 1 else map_[chunk]


def _cleared(reset: Tensor | None, chunk: slice) -> list[Tensor | None]:
    """By step, where its state before is cleared; None if nowhere."""
    if reset is None:
        return [None] * (chunk.stop - chunk.start)
    somewhere = reset[chunk].flatten(1).any(1).tolist()
    return [mask if some else None for mask, some in zip(reset[chunk].unbind(0), somewhere, strict=True)]


def _masked(tensor: Tensor, mask: Tensor | None) -> Tensor:
    # no product with zero, which would let a NaN through
    return tensor if mask is None else tensor.masked_fill(mask, 0)


def _transitions(buffer: Tensor, steps: Tensor, A: Tensor, negative: bool) -> Tensor:
    a = torch.mul(steps.unsqueeze(-2), A, out=buffer[: len(steps)]).exp_()
    return a.mul_(2).sub_(1) if negative else a


def _states(
    buffer: Tensor, transitions: Tensor, x: Tensor, B: Tensor, start: Tensor, cleared: list[Tensor | None]
) -> Tensor:
    states = torch.mul(x.unsqueeze(-2), B, out=buffer[: len(x)])
    previous = start
    for h_t, a_t, mask in zip(states.unbind(0), transitions.unbind(0), cleared, strict=True):
        previous = h_t.addcmul_(a_t, _masked(previous, mask))
    return states


def _state_gradients(
    buffer: Tensor, transitions: Tensor, grad_y: Tensor, C: Tensor, carry: Tensor, cleared: list[Tensor | None]
) -> Tensor:
    """`g_t = C_t grad_y_t + a_{t+1} g_{t+1}`; `carry` is what comes from after the chunk."""
    grads = torch.mul(grad_y.unsqueeze(-2), C, out=buffer[: len(grad_y)])
    *earlier, last = grads.unbind(0)
    later = last.add_(carry)
    for g_t, a_next, mask in zip(reversed(earlier), reversed(transitions.unbind(0)), reversed(cleared), strict=False):
        later = g_t.addcmul_(a_next, _masked(later, mask))
    return grads


def _add_gradient(gradient: Tensor, product: Tensor) -> None:
    gradient += product.sum_to_size(gradient.shape)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, steps, A, B, C, _, reset, ctx.negative = inputs
    _, state, between = output
    ctx.save_for_backward(x, steps, A, B, C, between, reset)
    ctx.set_materialize_grads(False)
    ctx.state_shape = state.shape


def _backward(ctx, grad_y, grad_state, _):  # type: ignore[no-untyped-def]
    x, steps, A, B, C, between, reset = ctx.saved_tensors
    grad_y = torch.zeros_like(x) if grad_y is None else grad_y.contiguous()
    grad_state = x.new_zeros(ctx.state_shape) if grad_state is None else grad_state.contiguous()
    return *_scan_backward(grad_y, grad_state, x, steps, A, B, C, between, reset, ctx.negative), None, None


_scan.register_autograd(_backward, setup_context=_setup_context)


@_scan.register_fake
def _(
    x: Tensor, steps: Tensor, A: Tensor, B: Tensor, C: Tensor, h0: Tensor, reset: Tensor | None, negative: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(h0), x.new_empty(-(-x.shape[0] // CHUNK) + 1, *h0.shape)


@_scan_backward.register_fake
def _(grad_y, grad_state, x, steps, A, B, C, *_):  # type: ignore[no-untyped-def]
    return tuple(torch.empty_like(tensor) for tensor in (x, steps, A, B, C, grad_state))
