"""The meaning of `gated_linear_attention`."""

import torch
from torch import Tensor

from helixwave_kernels.dispatch import Op
from helixwave_kernels.shapes import compute_dtype, expect_shapes


@Op
def gated_linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`S_t = diag(exp(g_t)) S_{t-1} + k_t v_t^T`, `y_t = scale S_t^T q_t` (Yang et al. 2024, eq. 3 and 4).

    Args:
        q: queries `[B, T, H, K]`.
        k: keys, shaped like `q`.
        v: values `[B, T, H, V]`.
        log_decay: logarithms g of the decays, at most 0; one for each key dimension `[B, T, H, K]`, or one for each
            head `[B, T, H]` (RetNet, Mamba-2). -inf clears. A positive one lets the state grow, which is right as
            long as nothing overflows within 64 steps.
        scale: of the queries; `K**-0.5` if None.
        initial_state: `[B, H, K, V]`; zeros if None.
        reset: `[B, T]` bool; true at t clears the state before step t.

    Returns:
        outputs `[B, T, H, V]` in the dtype of `q`, and the last state `[B, H, K, V]` in float32 or wider.
    """
    dtype = compute_dtype(q)
    (n_batch, _, H, K), V = q.shape, v.shape[-1]
    S = q.new_zeros(n_batch, H, K, V, dtype=dtype) if initial_state is None else initial_state.to(dtype)
    decay = log_decay.to(dtype).exp()
    if decay.ndim == 3:
        decay = decay.unsqueeze(-1)
    q_scaled = scaled(q.to(dtype), scale)
    ys = []
    steps = zip(*(tensor.to(dtype).unbind(1) for tensor in (q_scaled, k, v, decay)), strict=True)
    for t, (q_t, k_t, v_t, decay_t) in enumerate(steps):
        if reset is not None:
            S = S.masked_fill(reset[:, t, None, None, None], 0)
        S = decay_t.unsqueeze(-1) * S + k_t.unsqueeze(-1) * v_t.unsqueeze(-2)
        ys.append((q_t.unsqueeze(-1) * S).sum(-2))
    return torch.stack(ys, dim=1).to(q.dtype), S


def scaled(q: Tensor, scale: float | None) -> Tensor:
    """The queries times `scale`, or `K**-0.5`."""
    return q * (q.shape[-1] ** -0.5 if scale is None else scale)


@gated_linear_attention.check
def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> None:
    expect_shapes(
        "gated_linear_attention",
        q=(q, "B T H K"),
        k=(k, "B T H K"),
        v=(v, "B T H V"),
        log_decay=(log_decay, "B T H" if log_decay.ndim == 3 else "B T H K"),
        initial_state=(initial_state, "B H K V"),
        reset=(reset, "B T"),
    )
