"""`gated_linear_attention` on a GPU, in chunks of 64 steps; with one decay for each head it is `ssd`."""

from typing import Any

import torch
from torch import Tensor

from helixwave_kernels import gpu
from helixwave_kernels.gated_linear_attention.reference import gated_linear_attention, scaled
from helixwave_kernels.ssd.pieces import CLEARED
from helixwave_kernels.ssd.triton import as_bytes, contiguous, decay_gradients, precision, ssd_triton

CHUNK = 64
# steps whose decays to each other are multiplied out pair by pair
PART = 16


@gated_linear_attention.implementation("triton", accepts=gpu.refusal)
def gated_linear_attention_triton(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    if log_decay.ndim == 3:
        y, S = ssd_triton(v, log_decay, k, scaled(q.float(), scale), initial_state=initial_state, reset=reset)
        return y.to(q.dtype), S
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return _attend(q, k, v, log_decay, initial_state, reset, scale)


@torch.library.custom_op("helixwave::gated_linear_attention_triton", mutates_args=())
def _attend(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, S0: Tensor | None, reset: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Outputs `[B, T, H, V]` and the last state `[B, H, K, V]`."""
    from helixwave_kernels.gated_linear_attention.triton_kernels import gla_fwd_kernel

    q, k, v, log_decay, S0 = contiguous(q, k, v, log_decay, S0)
    (n_batch, T, H, _), n = q.shape, _n_chunks(q)
    decays = log_decay, as_bytes(reset)
    y = torch.empty_like(v, dtype=q.dtype)
    with gpu.device_of(q):
        scores = _scores(q, k, v, *decays)
        starts, last = _states(k, v, *decays, S0)
        sizes = _sizes(q, v, "HKV")
        grid = (n_batch * H * n, -(-v.shape[3] // sizes["BV"]))
        gla_fwd_kernel[grid](q, v, *decays, scores, starts, y, scale, T, n, CLEARED=CLEARED, **sizes)
    return y, last


@torch.library.custom_op("helixwave::gated_linear_attention_triton_backward", mutates_args=())
def _attend_backward(
    grad: Tensor,
    last_grad: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    S0: Tensor | None,
    reset: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, log_decay and S0."""
    from helixwave_kernels.gated_linear_attention import triton_kernels as kernels

    grad, last_grad, q, k, v, log_decay, S0 = contiguous(grad, last_grad, q, k, v, log_decay, S0)
    (n_batch, T, H, K), n = q.shape, _n_chunks(q)
    decays = log_decay, as_bytes(reset)
    q_grad, k_grad, v_grad = (torch.empty_like(tensor) for tensor in (q, k, v))
    leaving, entering = (torch.empty_like(q, dtype=torch.float32) for _ in range(2))
    sizes = _sizes(q, v, "HKV")
    n_k, n_v = -(-K // sizes["BK"]), -(-v.shape[3] // sizes["BV"])
    with gpu.device_of(q):
        scores = _scores(q, k, v, *decays)
        scores_grad = torch.empty_like(scores)
        starts, _ = _states(k, v, *decays, S0)
        ends, S0_grad = _states(q, grad, *decays, last_grad, scale=scale, reverse=True)
        kernels.gla_scores_bwd_kernel[n_batch * H * n,](grad, v, scores_grad, scale, T, n, **_sizes(q, v, "HV"))
        sizes["CLEARED"] = CLEARED
        kernels.gla_v_bwd_kernel[n_batch * H * n, n_v](grad, k, *decays, scores, ends, v_grad, scale, T, n, **sizes)
        grid = (n_batch * H * n, n_k, CHUNK // PART)
        inputs, outputs = (grad, q, k, v, *decays), (q_grad, k_grad, leaving, entering)
        kernels.gla_qk_bwd_kernel[grid](*inputs, scores_grad, starts, ends, *outputs, scale, T, n, BC=PART, **sizes)
    across = (starts * ends).sum(4)
    return q_grad, k_grad, v_grad, decay_gradients(leaving, entering, across, log_decay, reset, CHUNK), S0_grad


def _scores(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, reset: Tensor | None) -> Tensor:
    from helixwave_kernels.gated_linear_attention.triton_kernels import gla_scores_fwd_kernel

    (n_batch, T, H, _), n = q.shape, _n_chunks(q)
    scores = q.new_empty(n_batch, n, H, CHUNK, CHUNK, dtype=torch.float32)
    grid = (n_batch * H * n, CHUNK // PART)
    sizes = _sizes(q, v, "HK") | {"BC": PART, "CLEARED": CLEARED}
    gla_scores_fwd_kernel[grid](q, k, log_decay, reset, scores, T, n, **sizes)
    return scores


def _states(
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    reset: Tensor | None,
    first: Tensor | None,
    *,
    scale: float = 1.0,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    from helixwave_kernels.gated_linear_attention.triton_kernels import gla_states_fwd_kernel

    (n_batch, T, H, K), V, n = k.shape, v.shape[3], _n_chunks(k)
    states = k.new_empty(n_batch, n, H, K, V, dtype=torch.float32)
    last = k.new_empty(n_batch, H, K, V, dtype=torch.float32)
    sizes = _sizes(k, v, "HKV") | {"CLEARED": CLEARED, "REVERSE": reverse}
    grid = (n_batch * H, -(-K // sizes["BK"]), -(-V // sizes["BV"]))
    gla_states_fwd_kernel[grid](k, v, log_decay, reset, first, states, last, scale, T, n, **sizes)
    return states, last


def _n_chunks(q: Tensor) -> int:
    return -(-q.shape[1] // CHUNK)


def _sizes(q: Tensor, v: Tensor, names: str) -> dict[str, Any]:
    """The sizes of these axes, the blocks in which they are gone through, and the options of a launch."""
    of_axis = {"H": q.shape[2], "K": q.shape[3], "V": v.shape[3]}
    blocks = {f"B{name}": gpu.power_of_2(of_axis[name], least=16, most=32) for name in names if name != "H"}
    sizes: dict[str, Any] = {name: of_axis[name] for name in names} | {"BT": CHUNK} | blocks
    return sizes | {"PRECISION": precision(q), "num_warps": 4, "num_stages": 2}


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _backward(ctx, grad, last_grad):  # type: ignore[no-untyped-def]
    v, S0 = ctx.saved_tensors[2], ctx.saved_tensors[4]
    grad = torch.zeros_like(v) if grad is None else grad
    *grads, S0_grad = _attend_backward(grad, last_grad, *ctx.saved_tensors, ctx.scale)
    return *grads, None if S0 is None else S0_grad.to(S0.dtype), None, None


_attend.register_autograd(_backward, setup_context=_setup_context)


@_attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    n_batch, _, H, K = q.shape
    last = q.new_empty(n_batch, H, K, v.shape[3], dtype=torch.float32)
    return torch.empty_like(v, dtype=q.dtype, memory_format=torch.contiguous_format), last


@_attend_backward.register_fake
def _(grad, last_grad, q, k, v, log_decay, S0, reset, scale):  # type: ignore[no-untyped-def]
    contiguous_format = torch.contiguous_format
    grads = (torch.empty_like(tensor, memory_format=contiguous_format) for tensor in (q, k, v, log_decay))
    return *grads, q.new_empty(q.shape[0], *q.shape[2:], v.shape[3], dtype=torch.float32)
