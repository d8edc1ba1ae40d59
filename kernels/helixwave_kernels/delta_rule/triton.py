"""`delta_rule` on a GPU, in chunks of rows: states in one pass over the chunks, all else for all chunks at once."""

from typing import Any

import torch
from torch import Tensor

from helixwave_kernels import gpu
from helixwave_kernels.delta_rule.reference import delta_rule, query_scale

# float32 products are summed up in registers: with 64 rows there are not enough of them
CHUNK = 32
# a program holds whole columns of a state
MOST_K = 256


def _accepts(q: Tensor, *others: Any, **named: Any) -> str | None:
    if q.shape[-1] > MOST_K:
        return f"q has {q.shape[-1]} features, more than {MOST_K}"
    return gpu.refusal(*others, q=q, **named)


@delta_rule.implementation("triton", accepts=_accepts)
def delta_rule_triton(
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
    g = None if log_decay is None else log_decay.float()
    if reset is not None:
        g = torch.zeros_like(q[..., 0], dtype=torch.float32) if g is None else g
        g = g.masked_fill(reset.unsqueeze(-1), -torch.inf)
    y, last, _, _ = _delta_rule(q, k, v, beta, g, initial_state, float(query_scale(q, scale)), n_householder)
    return y, last


@torch.library.custom_op("helixwave::delta_rule_triton", mutates_args=())
def _delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    g: Tensor | None,
    initial_state: Tensor | None,
    scale: float,
    n: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs, the last state, the states before each chunk `[B * H, chunks, K, V]`, and the rows' errors."""
    from helixwave_kernels.delta_rule.triton_kernels import delta_rule_fwd_kernel, delta_rule_states_fwd_kernel

    q, k, v, beta, g, initial_state = _contiguous(q, k, v, beta, g, initial_state)
    y, last, states, errors = outputs = _empty_outputs(q, k, v, n)
    (M, Z), sizes = states.shape[1::-1], _sizes(q, v, n)
    T = q.shape[1]
    with gpu.device_of(q):
        scores, inverse = _pairs(q, k, beta, g, scale, M, sizes)
        narrow = _narrow(sizes)
        carried = (inverse, initial_state, states, errors, last)
        delta_rule_states_fwd_kernel[_blocks(v, narrow), Z](k, v, beta, g, *carried, T, M, **narrow)
        delta_rule_fwd_kernel[M, _blocks(v, sizes), Z](q, beta, g, scores, states, errors, y, scale, T, M, **sizes)
    return outputs


@torch.library.custom_op("helixwave::delta_rule_triton_backward", mutates_args=())
def _delta_rule_backward(
    grad: Tensor,
    last_grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    g: Tensor | None,
    states: Tensor,
    errors: Tensor,
    scale: float,
    n: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, beta, g (empty if None) and the initial state."""
    from helixwave_kernels.delta_rule.triton_kernels import delta_rule_bwd_kernel, delta_rule_states_bwd_kernel

    grad, last_grad, q, k, v, beta, g = _contiguous(grad, last_grad, q, k, v, beta, g)
    (M, Z), sizes = states.shape[1::-1], _sizes(q, v, n)
    T = q.shape[1]
    ends, targets_grad, first_grad = (torch.empty_like(tensor) for tensor in (states, errors, last_grad))
    q_grad, k_grad, beta_grad = (torch.empty_like(tensor) for tensor in (q, k, beta))
    g_grad = _or_empty(g, q)
    with gpu.device_of(q):
        scores, inverse = _pairs(q, k, beta, g, scale, M, sizes)
        narrow = _narrow(sizes)
        inputs, carried = (grad, q, k, beta, g, scores), (inverse, last_grad, ends, targets_grad, first_grad)
        delta_rule_states_bwd_kernel[_blocks(v, narrow), Z](*inputs, *carried, scale, T, M, **narrow)
        local = (states, errors, ends, targets_grad, q_grad, k_grad, beta_grad, g_grad)
        delta_rule_bwd_kernel[M, Z](*inputs, *local, scale, T, M, **sizes)
    return q_grad, k_grad, targets_grad.to(v.dtype), beta_grad, g_grad, first_grad


def _pairs(
    q: Tensor, k: Tensor, beta: Tensor, g: Tensor | None, scale: float, M: int, sizes: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Scores of the tokens, and inverses that take targets to errors, both `[B * H, chunks, CHUNK, CHUNK]`."""
    from helixwave_kernels.delta_rule.triton_kernels import delta_rule_pairs_fwd_kernel

    (B, T, H, _), sizes = q.shape, {name: size for name, size in sizes.items() if name not in ("V", "BV")}
    scores, inverse = q.new_empty(2, B * H, M, CHUNK, CHUNK, dtype=torch.float32)
    delta_rule_pairs_fwd_kernel[M, B * H](q, k, beta, g, scores, inverse, scale, T, M, **sizes)
    return scores, inverse


def _sizes(q: Tensor, v: Tensor, n: int) -> dict[str, Any]:
    H, K, V = *q.shape[2:], v.shape[-1]
    blocks = {"BT": CHUNK, "BK": gpu.power_of_2(K, least=16, most=32), "BV": gpu.power_of_2(V, least=16, most=32)}
    # 4 warps on chunks of 64 rows are compiled wrongly for Hopper by some versions of Triton
    return {"N": n, "H": H, "K": K, "V": V, "num_warps": 8 if CHUNK > 32 else 4, "num_stages": 1} | blocks


def _narrow(sizes: dict[str, Any]) -> dict[str, Any]:
    """Whole columns of a state in one program, and few of them, so that more of the GPU is busy."""
    BK = gpu.power_of_2(sizes["K"], least=16)
    return sizes | {"BK": BK, "BV": 16, "num_warps": 4 if BK <= 64 else 8}


def _blocks(v: Tensor, sizes: dict[str, Any]) -> int:
    return int(-(-v.shape[-1] // sizes["BV"]))


def _empty_outputs(q: Tensor, k: Tensor, v: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (B, T, H, K), V = q.shape, v.shape[-1]
    last = q.new_empty(B, H, K, V, dtype=torch.float32)
    states = last.new_empty(B * H, -(-k.shape[1] // CHUNK), K, V)
    return q.new_empty(B, T, H, V), last, states, last.new_empty(v.shape)


def _contiguous(*tensors: Tensor | None) -> list[Any]:
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


def _or_empty(tensor: Tensor | None, like: Tensor) -> Tensor:
    return like.new_empty(0 if tensor is None else tensor.shape, dtype=torch.float32)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    q, k, v, beta, g, initial_state, ctx.scale, ctx.n = inputs
    ctx.save_for_backward(q, k, v, beta, g, *output[2:])
    ctx.state_dtype = None if initial_state is None else initial_state.dtype


def _backward(ctx, grad, last_grad, *_):  # type: ignore[no-untyped-def]
    *gradients, dg, dS = _delta_rule_backward(grad, last_grad, *ctx.saved_tensors, ctx.scale, ctx.n)
    dS = None if ctx.state_dtype is None else dS.to(ctx.state_dtype)
    return *gradients, dg if dg.numel() else None, dS, None, None


_delta_rule.register_autograd(_backward, setup_context=_setup_context)


@_delta_rule.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    g: Tensor | None,
    initial_state: Tensor | None,
    scale: float,
    n: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty_outputs(q, k, v, n)


@_delta_rule_backward.register_fake
def _(grad, last_grad, q, k, v, beta, g, *_):  # type: ignore[no-untyped-def]
    inputs = [tensor.new_empty(tensor.shape) for tensor in (q, k, v, beta)]
    return *inputs, _or_empty(g, q), last_grad.new_empty(last_grad.shape)
