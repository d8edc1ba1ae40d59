"""`diagonal_ssm` in C: the recurrence itself, with the states in registers for a chunk of time."""

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels import memory, native
from helixwave_kernels.diagonal_ssm.reference import Discretization, diagonal_ssm, discretized, real_dtype, state_dtype

# as in diagonal_ssm.c and machine.h: steps between kept states; states and channels that are worked on together
CHUNK, GROUP, LANES = 64, 4, 16


def _accepts(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    skip: Tensor | None = None,
    *,
    initial_state: Tensor | None = None,
    **others: object,
) -> str | None:
    parts = (value.real if value is not None and value.is_complex() else value for value in (A, B, C, initial_state))
    return native.refusal(u, *parts, dt, skip)


@diagonal_ssm.implementation("native", accepts=_accepts)
def diagonal_ssm_native(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    skip: Tensor | None = None,
    *,
    discretization: Discretization = "zoh",
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    if u.shape[1] == 1:  # one token at a time: to bring the parameters in order would be all the work
        step = diagonal_ssm.impls["reference"]
        return step(u, A, B, C, dt, skip, discretization=discretization, initial_state=initial_state, reset=reset)
    dtype = state_dtype(u, A, B, C, dt)
    transition, input_map = discretized(A.to(dtype), B.to(dtype), dt.to(dtype), discretization)
    output_map = 2 * C.to(dtype)
    inputs, a = u.to(real_dtype(dtype)), _packed(transition)
    direct = inputs.new_zeros(u.shape[2]) if skip is None else skip.to(inputs.dtype)
    if initial_state is None:
        # with the input map moved to the output, a step costs a quarter less
        h0, b, w = None, None, output_map * input_map
    else:
        h0, b, w = _packed(initial_state.to(dtype)), _packed(input_map), output_map
    blocks = a, b, _packed(w), _stretched(direct), h0
    differentiable = any(value is not None and value.requires_grad for value in (inputs, *blocks))
    y, state, _ = _scan(inputs, *blocks, reset, torch.is_grad_enabled() and differentiable)
    state = _unpacked(state, A.shape)
    return y.to(u.dtype), state if initial_state is not None else input_map * state


def _packed(states: Tensor) -> Tensor:
    """Complex `[..., D, N]` as the blocks of diagonal_ssm.c, real `[..., D / LANES, N / GROUP, 2, GROUP, LANES]`, with
    zeros added at the end."""
    D, N = states.shape[-2:]
    parts = F.pad(torch.view_as_real(states.resolve_conj()), (0, 0, 0, -N % GROUP, 0, -D % LANES))
    parts = parts.unflatten(-2, (-1, GROUP)).unflatten(-4, (-1, LANES))  # [..., stretch, LANES, group, GROUP, 2]
    return parts.movedim((-4, -1), (-1, -3)).contiguous()


def _unpacked(blocks: Tensor, shape: torch.Size) -> Tensor:
    parts = blocks.movedim((-1, -3), (-4, -1)).flatten(-5, -4).flatten(-3, -2)
    return torch.view_as_complex(parts[..., : shape[0], : shape[1], :].contiguous())


def _stretched(values: Tensor) -> Tensor:  # [D] -> [D / LANES, LANES]
    return F.pad(values, (0, -len(values) % LANES)).unflatten(0, (-1, LANES))


@torch.library.custom_op("helixwave::diagonal_ssm_native", mutates_args=())
def _scan(
    u: Tensor,
    a: Tensor,
    b: Tensor | None,
    w: Tensor,
    skip: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """`h = a h + b u`, `y = Re(w h) + skip u`, with u `[B, T, D]` and all others packed.

    Returns y, the last state, and, to keep for the backward pass, those between chunks of time.
    """
    tensors = native.contiguous(u, a, b, w, skip, reset)
    y, between = memory.empty_like(u), _between(u, a, keep)
    between[:, :, 0] = 0 if h0 is None else h0
    native.call("diagonal_ssm_forward", y, between, *tensors, *u.shape, a.shape[1], between.shape[2])
    return y, between[:, :, -1].clone(), between


def _between(u: Tensor, a: Tensor, keep: bool) -> Tensor:
    return u.new_empty(u.shape[0], a.shape[0], (u.shape[1] + CHUNK - 1) // CHUNK + 1 if keep else 1, *a.shape[1:])


@torch.library.custom_op("helixwave::diagonal_ssm_native_backward", mutates_args=())
def _scan_backward(
    grad_y: Tensor,
    grad_state: Tensor,
    between: Tensor,
    u: Tensor,
    a: Tensor,
    b: Tensor | None,
    w: Tensor,
    skip: Tensor,
    reset: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, a, b (wanted or not), w, skip and h0."""
    assert between.shape[2] > 1, "the states between chunks were not kept"
    tensors = native.contiguous(grad_y, between, u, a, b, w, skip, reset)
    grad_u, grad_h0 = memory.empty_like(u), grad_state.clone(memory_format=torch.contiguous_format)
    grads = [value.new_zeros(u.shape[0], *value.shape) for value in (a, a, w, skip)]
    native.call("diagonal_ssm_backward", grad_u, *grads, grad_h0, *tensors, *u.shape, a.shape[1], between.shape[2])
    grad_a, grad_b, grad_w, grad_skip = (grad.sum(0) for grad in grads)
    return grad_u, grad_a, grad_b, grad_w, grad_skip, grad_h0


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    u, a, b, w, skip, _, reset, _ = inputs
    ctx.save_for_backward(output[2], u, a, b, w, skip, reset)
    ctx.set_materialize_grads(False)


def _backward(ctx, grad_y, grad_state, _):  # type: ignore[no-untyped-def]
    _, u, a, *_ = ctx.saved_tensors
    grad_y = torch.zeros_like(u) if grad_y is None else grad_y
    grad_state = a.new_zeros(u.shape[0], *a.shape) if grad_state is None else grad_state
    grads = _scan_backward(grad_y, grad_state, *ctx.saved_tensors)
    wanted = (grad if needed else None for grad, needed in zip(grads, ctx.needs_input_grad, strict=False))
    return *wanted, None, None


_scan.register_autograd(_backward, setup_context=_setup_context)


@_scan.register_fake
def _(u, a, b, w, skip, h0, reset, keep):  # type: ignore[no-untyped-def]
    return u.new_empty(u.shape), a.new_empty(u.shape[0], *a.shape), _between(u, a, keep)


@_scan_backward.register_fake
def _(grad_y, grad_state, between, u, a, b, w, skip, reset):  # type: ignore[no-untyped-def]
    grads = [torch.empty_like(value) for value in (a, a, w, skip)]
    return u.new_empty(u.shape), *grads, grad_state.new_empty(grad_state.shape)
