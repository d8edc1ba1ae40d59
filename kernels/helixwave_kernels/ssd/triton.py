"""`ssd` on a GPU, in chunks of 64 steps: states in one pass over the chunks, all else for all chunks at once.

The backward pass computes the states between the chunks again.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels import gpu
from helixwave_kernels.ssd.chunked import step_gradients
from helixwave_kernels.ssd.pieces import CLEARED, cleared
from helixwave_kernels.ssd.reference import ssd

CHUNK = 64


@ssd.implementation("triton", accepts=gpu.refusal)
def ssd_triton(
    x: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    return _scan(x, log_decay, B, C, initial_state, reset)


@torch.library.custom_op("helixwave::ssd_triton", mutates_args=())
def _scan(
    x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, h0: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Outputs `[B, T, H, P]` and the last state `[B, H, N, P]`."""
    from helixwave_kernels.ssd.triton_kernels import ssd_fwd_kernel

    x, log_decay, B, C, h0 = contiguous(x, log_decay, B, C, h0)
    (n_batch, T, H, _), n = x.shape, _n_chunks(x)
    decays = log_decay, as_bytes(reset)
    y = torch.empty_like(x)
    with gpu.device_of(x):
        scores = _scores(x, B, C)
        starts, last = _states(B, x, *decays, h0)
        sizes = _sizes(x, B)
        grid = (n_batch * H * n, -(-sizes["P"] // sizes["BP"]))
        ssd_fwd_kernel[grid](x, *decays, C, scores, starts, y, T, n, **sizes)
    return y, last


@torch.library.custom_op("helixwave::ssd_triton_backward", mutates_args=())
def _scan_backward(
    grad: Tensor,
    last_grad: Tensor | None,
    x: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, log_decay, B, C and h0."""
    from helixwave_kernels.ssd.triton_kernels import ssd_maps_bwd_kernel, ssd_scores_bwd_kernel, ssd_x_bwd_kernel

    grad, last_grad, x, log_decay, B, C, h0 = contiguous(grad, last_grad, x, log_decay, B, C, h0)
    (n_batch, T, H, _), G, n = x.shape, B.shape[2], _n_chunks(x)
    decays = log_decay, as_bytes(reset)
    inputs = grad, x, *decays
    sizes = _sizes(x, B)
    n_p, n_n = (-(-sizes[size] // sizes["B" + size]) for size in "PN")
    x_grad, B_grad, C_grad = (torch.empty_like(tensor) for tensor in (x, B, C))
    leaving, entering = (x.new_empty(n_p, n_batch, T, H, dtype=torch.float32) for _ in range(2))
    within = x.new_empty(n_batch, T, H, dtype=torch.float32)
    with gpu.device_of(x):
        scores = _scores(x, B, C)
        scores_grad = torch.empty_like(scores)
        starts, _ = _states(B, x, *decays, h0)
        ends, h0_grad = _states(C, grad, *decays, last_grad, reverse=True)
        outputs = x_grad, leaving, entering
        ssd_x_bwd_kernel[n_batch * H * n, n_p](*inputs, B, C, scores, starts, ends, *outputs, T, n, **sizes)
        without_N = {name: size for name, size in sizes.items() if name not in ("N", "BN")}
        ssd_scores_bwd_kernel[n_batch * G * n,](*inputs, scores, scores_grad, within, T, n, **without_N)
        grads = B_grad, C_grad
        ssd_maps_bwd_kernel[n_batch * G * n, n_n](*inputs, B, C, scores_grad, starts, ends, *grads, T, n, **sizes)
    leaving, entering = leaving.sum(0).add_(within), entering.sum(0)
    across = (starts * ends).sum((3, 4))
    return x_grad, decay_gradients(leaving, entering, across, log_decay, reset, CHUNK), B_grad, C_grad, h0_grad


def _scores(x: Tensor, B: Tensor, C: Tensor) -> Tensor:
    from helixwave_kernels.ssd.triton_kernels import ssd_scores_fwd_kernel

    (n_batch, T, G, _), n = B.shape, _n_chunks(x)
    scores = B.new_empty(n_batch, n, G, CHUNK, CHUNK, dtype=torch.float32)
    sizes = {name: size for name, size in _sizes(x, B).items() if name not in ("H", "P", "BP", "CLEARED")}
    ssd_scores_fwd_kernel[n_batch * G * n,](B, C, scores, T, n, **sizes)
    return scores


def _states(
    map_: Tensor, x: Tensor, log_decay: Tensor, reset: Tensor | None, first: Tensor | None, *, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    from helixwave_kernels.ssd.triton_kernels import ssd_states_fwd_kernel

    (n_batch, T, H, P), N, n = x.shape, map_.shape[3], _n_chunks(x)
    states = x.new_empty(n_batch, n, H, N, P, dtype=torch.float32)
    last = torch.empty_like(states[:, 0])
    sizes = _sizes(x, map_)
    if n_batch * H < 128:
        # smaller blocks, so that more of the GPU is busy while this goes from chunk to chunk
        sizes |= {"BN": min(sizes["BN"], 32), "BP": min(sizes["BP"], 32)}
    grid = (n_batch * H, -(-N // sizes["BN"]), -(-P // sizes["BP"]))
    ssd_states_fwd_kernel[grid](map_, x, log_decay, reset, first, states, last, T, n, REVERSE=reverse, **sizes)
    return states, last


def decay_gradients(
    leaving: Tensor, entering: Tensor, across: Tensor, log_decay: Tensor, reset: Tensor | None, Q: int
) -> Tensor:
    """Gradients of logarithmic decays `[B, T, ...]`; zero where the state was cleared.

    Args:
        leaving: gradients by the sum from a chunk's start up to each step, float32, shaped like `log_decay`.
        entering: by the sum after each step up to the chunk's end, alike.
        across: by the decay over each chunk itself, `[B, n, ...]`.
        log_decay, reset: as the operator got them.
        Q: steps in a chunk.
    """
    (n_batch, T), n = log_decay.shape[:2], across.shape[1]

    def chunks(tensor: Tensor) -> Tensor:  # [B, T, ...] -> [B * n, Q, all else]
        return F.pad(tensor.reshape(n_batch, T, -1), (0, 0, 0, Q * n - T)).reshape(n_batch * n, Q, -1)

    finite = cleared(log_decay.float(), reset)
    decays = chunks(finite).sum(1, keepdim=True).exp()
    grads = step_gradients(chunks(leaving), chunks(entering), decays * across.reshape(decays.shape))
    stopped = finite <= CLEARED
    return grads.view(n_batch, n * Q, *log_decay.shape[2:])[:, :T].masked_fill(stopped, 0).to(log_decay.dtype)


def _n_chunks(x: Tensor) -> int:
    return -(-x.shape[1] // CHUNK)


def _sizes(x: Tensor, map_: Tensor) -> dict[str, Any]:
    (_, _, H, P), (G, N) = x.shape, map_.shape[2:]
    # products in full float32 are unrolled: smaller blocks, less code
    most = 32 if x.dtype == torch.float32 else 64
    BN, BP = (gpu.power_of_2(size, least=16, most=most) for size in (N, P))
    sizes: dict[str, Any] = {"H": H, "G": G, "N": N, "P": P, "BT": CHUNK, "BN": BN, "BP": BP, "CLEARED": CLEARED}
    return sizes | {"PRECISION": precision(x), "num_warps": 4, "num_stages": 2}


def precision(x: Tensor) -> str:
    """Of matrix products: TF32 holds all digits of 16-bit inputs."""
    return "ieee" if x.dtype == torch.float32 else "tf32"


def contiguous(*tensors: Tensor | None) -> list[Any]:
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


def as_bytes(reset: Tensor | None) -> Tensor | None:
    return None if reset is None else reset.contiguous().view(torch.uint8)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)


def _backward(ctx, grad, last_grad):  # type: ignore[no-untyped-def]
    x, h0 = ctx.saved_tensors[0], ctx.saved_tensors[4]
    grad = torch.zeros_like(x) if grad is None else grad
    *grads, h0_grad = _scan_backward(grad, last_grad, *ctx.saved_tensors)
    return *grads, None if h0 is None else h0_grad.to(h0.dtype), None


_scan.register_autograd(_backward, setup_context=_setup_context)


@_scan.register_fake
def _(x: Tensor, log_decay: Tensor, B: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    n_batch, _, H, P = x.shape
    last = x.new_empty(n_batch, H, B.shape[3], P, dtype=torch.float32)
    return torch.empty_like(x, memory_format=torch.contiguous_format), last


@_scan_backward.register_fake
def _(grad, last_grad, x, log_decay, B, C, h0, reset):  # type: ignore[no-untyped-def]
    contiguous_format = torch.contiguous_format
    grads = (torch.empty_like(tensor, memory_format=contiguous_format) for tensor in (x, log_decay, B, C))
    return *grads, x.new_empty(x.shape[0], x.shape[2], B.shape[3], x.shape[3], dtype=torch.float32)
