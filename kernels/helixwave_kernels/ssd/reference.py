"""The meaning of `ssd`."""

import torch
from torch import Tensor

from helixwave_kernels.dispatch import Op
from helixwave_kernels.shapes import compute_dtype, expect_shapes


@Op
def ssd(
    x: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mamba-2's state space duality `h_t = a_t h_{t-1} + B_t x_t^T`, `y_t = h_t^T C_t` (Dao & Gu 2024, section 5).

    Args:
        x: inputs times their step sizes, `[B, T, H, P]`.
        log_decay: logarithms of the decays a in [0, 1], one for each head, `[B, T, H]`; -inf clears the state. A
            positive one lets the state grow, which is right as long as nothing overflows within 64 steps.
        B: input maps `[B, T, G, N]`, one for each of G groups of heads.
        C: output maps, shaped like `B`.
        initial_state: `[B, H, N, P]`; zeros if None.
        reset: `[B, T]` bool; true at t clears the state before step t.

    Returns:
        outputs `[B, T, H, P]` in the dtype of `x`, and the last state `[B, H, N, P]` in float32 or wider.
    """
    dtype = compute_dtype(x)
    (n_batch, _, H, P), (G, N) = x.shape, B.shape[2:]
    h = x.new_zeros(n_batch, H, N, P, dtype=dtype) if initial_state is None else initial_state.to(dtype)
    maps = (map_.to(dtype).repeat_interleave(H // G, dim=2).unbind(1) for map_ in (B, C))
    steps = zip(x.to(dtype).unbind(1), log_decay.to(dtype).exp().unbind(1), *maps, strict=True)
    ys = []
    for t, (x_t, a_t, B_t, C_t) in enumerate(steps):
        if reset is not None:
            h = h.masked_fill(reset[:, t, None, None, None], 0)
        h = a_t[..., None, None] * h + B_t.unsqueeze(-1) * x_t.unsqueeze(-2)
        ys.append((C_t.unsqueeze(-1) * h).sum(-2))
    return torch.stack(ys, dim=1).to(x.dtype), h


@ssd.check
def _check(
    x: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> None:
    expect_shapes(
        "ssd",
        x=(x, "B T H P"),
        log_decay=(log_decay, "B T H"),
        B=(B, "B T G N"),
        C=(C, "B T G N"),
        initial_state=(initial_state, "B H N P"),
        reset=(reset, "B T"),
    )
    H, G = x.shape[2], B.shape[2]
    if H % G:
        raise ValueError(f"ssd: B has G={G} groups, which do not divide the H={H} heads of x")
