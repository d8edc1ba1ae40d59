"""`delta_rule` in C: the recurrence, with the state in the cache."""

import torch
from torch import Tensor

from helixwave_kernels import native
from helixwave_kernels.delta_rule.reference import delta_rule, empty_state, query_scale
from helixwave_kernels.shapes import compute_dtype

# one state in STEPS rows is kept for the backward pass
STEPS = 32
# columns of a state worked on together, as WIDTH in delta_rule.c
WIDTH = 32


def _accepts(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    *,
    initial_state: Tensor | None = None,
    **others: object,
) -> str | None:
    return native.refusal(q, k, v, beta, log_decay, initial_state)


@delta_rule.implementation("native", accepts=_accepts)
def delta_rule_native(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    *,
    n_householder: int = 1,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    dtype = compute_dtype(q)
    S = empty_state(q, v) if initial_state is None else initial_state.to(dtype)
    g = None if log_decay is None else log_decay.to(dtype)
    inputs = (q.to(dtype), k.to(dtype), v.to(dtype), beta.to(dtype), g, reset, S)
    y, S, _ = _delta_rule(*inputs, float(query_scale(q, scale)), n_householder)
    return y.to(q.dtype), S


@torch.library.custom_op("helixwave::delta_rule_native", mutates_args=())
def _delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    g: Tensor | None,
    reset: Tensor | None,
    initial_state: Tensor,
    scale: float,
    n: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, the last state, and one state in STEPS rows."""
    inputs = native.contiguous(q, k, v, beta, g, initial_state, reset)
    outputs = _empty_outputs(q, k, v, initial_state)
    native.call("delta_rule_forward", *outputs, *inputs, scale, *q.shape, v.shape[-1], n, STEPS)
    return outputs


@torch.library.custom_op("helixwave::delta_rule_native_backward", mutates_args=())
def _delta_rule_backward(
    grad_y: Tensor,
    grad_state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    g: Tensor | None,
    reset: Tensor | None,
    kept: Tensor,
    scale: float,
    n: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, beta, g (empty if None) and the initial state."""
    inputs = native.contiguous(grad_y, grad_state, q, k, v, beta, g, kept, reset)
    gradients = [tensor.new_zeros(tensor.shape) for tensor in (q, k, v, beta, _or_empty(g, q), grad_state)]
    native.call("delta_rule_backward", *gradients, *inputs, scale, *q.shape, v.shape[-1], n, STEPS)
    dq, dk, dv, dbeta, dg, dS = gradients
    return dq, dk, dv, dbeta, dg, dS


def _empty_outputs(q: Tensor, k: Tensor, v: Tensor, initial_state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    (B, T, H, K), V = q.shape, v.shape[-1]
    kept = q.new_empty(B * H * -(-V // WIDTH) * -(-k.shape[1] // STEPS) * K * WIDTH)
    return q.new_empty(B, T, H, V), initial_state.new_empty(initial_state.shape), kept


def _or_empty(tensor: Tensor | None, like: Tensor) -> Tensor:
    return like.new_empty(0) if tensor is None else tensor


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    q, k, v, beta, g, reset, _, ctx.scale, ctx.n = inputs
    ctx.save_for_backward(q, k, v, beta, g, reset, output[2])


def _backward(ctx, grad_y, grad_state, _):  # type: ignore[no-untyped-def]
    saved = ctx.saved_tensors
    dq, dk, dv, dbeta, dg, dS = _delta_rule_backward(grad_y, grad_state, *saved, ctx.scale, ctx.n)
    return dq, dk, dv, dbeta, None if saved[4] is None else dg, None, dS, None, None


_delta_rule.register_autograd(_backward, setup_context=_setup_context)


@_delta_rule.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    g: Tensor | None,
    reset: Tensor | None,
    initial_state: Tensor,
    scale: float,
    n: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_outputs(q, k, v, initial_state)


@_delta_rule_backward.register_fake
def _(grad_y, grad_state, q, k, v, beta, g, *_):  # type: ignore[no-untyped-def]
    return tuple(tensor.new_empty(tensor.shape) for tensor in (q, k, v, beta, _or_empty(g, q), grad_state))
