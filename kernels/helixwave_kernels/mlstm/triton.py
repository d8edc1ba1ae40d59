"""`mlstm` on a GPU: states pass from chunk to chunk, all else is done for all tiles of all chunks at once.

The states before the chunks are computed again in the backward pass, and no sum depends on the order of programs.
"""

from typing import Any

import torch
from torch import Tensor

from helixwave_kernels import gpu
from helixwave_kernels.mlstm.gates import AllGates, Flows, by_chunk, by_step, gate_gradients, stabilised
from helixwave_kernels.mlstm.quarantine import quarantine, release
from helixwave_kernels.mlstm.reference import State, empty_state, mlstm

# steps between the states that go through memory, and steps that one program takes
CHUNK = 128
TILE = 64


@mlstm.implementation("triton", accepts=gpu.refusal)
def mlstm_triton(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    *,
    input_gate: str = "exp",
    normalize: bool = True,
    scale: float | None = None,
    eps: float = 1e-6,
    initial_state: State | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, State]:
    state = empty_state(k, v, torch.float32) if initial_state is None else initial_state
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    inputs = q, k, v, i, f
    if reset is not None:
        inputs, state, *lost = quarantine(inputs, state, reset)
    tensors = (*inputs, *(x.float() for x in state))
    y, C, n, m, _ = _mlstm(*tensors, reset, input_gate, normalize, scale, eps)
    return (y, (C, n, m)) if reset is None else release(y, (C, n, m), *lost)


@torch.library.custom_op("helixwave::mlstm_triton", mutates_args=())
def _mlstm(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    C0: Tensor,
    n0: Tensor,
    m0: Tensor,
    reset: Tensor | None,
    input_gate: str,
    normalize: bool,
    scale: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """y, the last C, n and m, and the sums that normalise `[B, H, T]`."""
    from helixwave_kernels.mlstm.triton_kernels import mlstm_fwd_kernel

    q, k, v, C0, n0 = (x.contiguous() for x in (q, k, v, C0, n0))
    gates, m = stabilised(i, f, m0, reset, input_gate, scale, CHUNK, torch.float32)
    total, query, key, from_start, _, one = gates.steps.unbind(0)
    y, r = q.new_empty(v.shape), torch.empty_like(total)
    sizes = _sizes(q, k, v)
    with gpu.device_of(q):
        C, n, C_end, n_end = _states(k, v, gates, C0, n0, sizes)
        inputs = q, k, v, total, query, key, from_start, one, C, n
        mlstm_fwd_kernel[_tiles(gates, sizes, "V")](
            *inputs, y, r, q.shape[1], n0[..., 0].numel(), eps, NORMALIZE=normalize, **sizes
        )
    return y, C_end, n_end, m[..., -1].float().contiguous(), by_step(r, q.shape[1])


@torch.library.custom_op("helixwave::mlstm_triton_backward", mutates_args=())
def _mlstm_backward(
    dy: Tensor,
    dC: Tensor,
    dn: Tensor,
    dm: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    C0: Tensor,
    n0: Tensor,
    m0: Tensor,
    y: Tensor,
    C_end: Tensor,
    n_end: Tensor,
    r: Tensor,
    reset: Tensor | None,
    input_gate: str,
    normalize: bool,
    scale: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, i, f, C0, n0 and m0."""
    from helixwave_kernels.mlstm import triton_kernels as kernels

    q, k, v, C0, n0, dy, dC, dn = (x.contiguous() for x in (q, k, v, C0, n0, dy, dC, dn))
    gates, m = stabilised(i, f, m0, reset, input_gate, scale, CHUNK, torch.float32)
    total, query, key, from_start, to_end, one = gates.steps.unbind(0)
    r = by_chunk(r, CHUNK)
    sizes, T, (N, B, H) = _sizes(q, k, v), q.shape[1], gates.whole.shape
    state_grid, state_sizes = _state_blocks(B * H, sizes)
    dq, dk, dv, dC0, dn0 = (torch.empty_like(x) for x in (q, k, v, C0, n0))
    by_k, by_v = _tiles(gates, sizes, "K"), _tiles(gates, sizes, "V")
    across = C0.new_empty(state_grid[1] * state_grid[2], N, B, H)
    read, written, to_state = C0.new_empty(3, by_k[2], *r.shape).unbind(0)
    with gpu.device_of(q):
        inverse, dr, stabiliser = _output_gradients(dy, y, r, one, normalize, eps, sizes)
        C, n, _, _ = _states(k, v, gates, C0, n0, sizes)
        d_C, d_n = torch.empty_like(C), torch.empty_like(n)
        reads, ends, starts = (q, dy, inverse, dr, query, from_start, gates.whole), (dC, dn), (dC0, dn0)
        kernels.mlstm_states_bwd_kernel[state_grid](
            *reads, C, n, *ends, d_C, d_n, *starts, across, T, N, B * H, **state_sizes
        )
        inputs = q, k, v, dy, inverse, dr, total, query, key
        kernels.mlstm_q_bwd_kernel[by_k](*inputs, from_start, C, n, dq, read, T, N, B * H, **sizes)
        kernels.mlstm_k_bwd_kernel[by_k](*inputs, to_end, d_C, d_n, dk, written, to_state, T, N, B * H, **sizes)
        decays = total, query, key, to_end
        kernels.mlstm_v_bwd_kernel[by_v](q, k, dy, inverse, *decays, d_C, dv, T, B * H, **sizes)
    read, written, to_state, across = (x.sum(0) for x in (read, written, to_state, across))
    flows = Flows(written + to_state, read - written, to_state, across, stabiliser)
    if input_gate == "exp":  # what is divided by exp(m) falls as m rises
        dm = dm - (dC * C_end).sum((-2, -1)) - (dn * n_end).sum(-1)
    di, df, dm0 = gate_gradients(flows, dm, m, m0, i, f, reset, input_gate)
    dm0 += (C0 * dC0).sum((-2, -1)) + (n0 * dn0).sum(-1)
    return dq, dk, dv, di.to(i.dtype), df.to(f.dtype), dC0, dn0, dm0.float()


def _states(
    k: Tensor, v: Tensor, gates: AllGates, C0: Tensor, n0: Tensor, sizes: dict[str, Any]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """C and n before each chunk `[N, B, H, ...]`, and after the last."""
    from helixwave_kernels.mlstm.triton_kernels import mlstm_states_fwd_kernel

    N, B, H = gates.whole.shape
    C, n = C0.new_empty(N, *C0.shape), n0.new_empty(N, *n0.shape)
    C_end, n_end = torch.empty_like(C0), torch.empty_like(n0)
    _, _, key, _, to_end, _ = gates.steps.unbind(0)
    grid, sizes = _state_blocks(B * H, sizes)
    outputs = C, n, C_end, n_end
    mlstm_states_fwd_kernel[grid](k, v, key, to_end, gates.whole, C0, n0, *outputs, k.shape[1], N, B * H, **sizes)
    return outputs


def _output_gradients(
    dy: Tensor, y: Tensor, r: Tensor, one: Tensor, normalize: bool, eps: float, sizes: dict[str, Any]
) -> tuple[Tensor, Tensor, Tensor]:
    """The factor from dy to the gradient of the numerator, the gradients of r, and of m through `eps` alone."""
    from helixwave_kernels.mlstm.triton_kernels import mlstm_along_bwd_kernel

    if not normalize:
        return torch.ones_like(r), torch.zeros_like(r), torch.zeros_like(r)
    N, B, H, L = r.shape
    along = torch.empty_like(r)
    without_K = {name: size for name, size in sizes.items() if name not in ("K", "BK", "PRECISION")}
    mlstm_along_bwd_kernel[N * B * H, L // sizes["BT"]](y, dy, along, y.shape[1], B * H, **without_K)
    inverse = 1 / (torch.maximum(r.abs(), one) + eps)
    along = -along * inverse
    return inverse, torch.where(r.abs() > one, along * r.sign(), 0), along * eps


def _sizes(q: Tensor, k: Tensor, v: Tensor) -> dict[str, Any]:
    """Sizes, those of blocks, and the options of a launch."""
    H, K, V = q.shape[2], q.shape[3], v.shape[3]
    BK, BV = (gpu.power_of_2(size, least=16, most=64) for size in (K, V))
    # products of numbers with few digits lose nothing in tensor cores
    exact = torch.float32 in (q.dtype, k.dtype, v.dtype)
    sizes = {"H": H, "K": K, "V": V, "L": CHUNK, "BT": min(TILE, CHUNK), "BK": BK, "BV": BV}
    return sizes | {"PRECISION": "ieee" if exact else "tf32", "num_warps": 4, "num_stages": 2}


def _state_blocks(BH: int, sizes: dict[str, Any]) -> tuple[tuple[int, int, int], dict[str, Any]]:
    """The grid of what goes from chunk to chunk: smaller blocks, where otherwise most of the GPU would have no work."""
    most = 32 if BH < 128 else 64
    sizes = sizes | {name: min(sizes[name], most) for name in ("BK", "BV")}
    return (BH, -(-sizes["K"] // sizes["BK"]), -(-sizes["V"] // sizes["BV"])), sizes


def _tiles(gates: AllGates, sizes: dict[str, Any], axis: str) -> tuple[int, int, int]:
    return gates.whole.numel(), sizes["L"] // sizes["BT"], -(-sizes[axis] // sizes["B" + axis])


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, reset, ctx.input_gate, ctx.normalize, ctx.scale, ctx.eps = inputs
    y, C, n, _, r = output
    ctx.save_for_backward(*tensors, y, C, n, r, reset)
    ctx.set_materialize_grads(False)


def _backward(ctx, dy, dC, dn, dm, _):  # type: ignore[no-untyped-def]
    tensors = ctx.saved_tensors
    m0, y, C, n = tensors[7:11]
    given = zip((dy, dC, dn, dm), (y, C, n, m0), strict=True)
    grads = (torch.zeros_like(value) if grad is None else grad for grad, value in given)
    options = (ctx.input_gate, ctx.normalize, ctx.scale, ctx.eps)
    return *_mlstm_backward(*grads, *tensors, *options), None, None, None, None, None


_mlstm.register_autograd(_backward, setup_context=_setup_context)


@_mlstm.register_fake
def _(q, k, v, i, f, C0, n0, m0, *_):  # type: ignore[no-untyped-def]
    r = C0.new_empty(i.mT.shape)
    return q.new_empty(v.shape), C0.new_empty(C0.shape), n0.new_empty(n0.shape), m0.new_empty(m0.shape), r


@_mlstm_backward.register_fake
def _(dy, dC, dn, dm, q, k, v, i, f, *_):  # type: ignore[no-untyped-def]
    return tuple(x.new_empty(x.shape) for x in (q, k, v, i, f, dC, dn, dm))
