"""The meaning of `delta_rule`."""

import torch
from torch import Tensor

from helixwave_kernels.dispatch import Op
from helixwave_kernels.shapes import compute_dtype, expect_shapes


@Op
def delta_rule(
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
    """A memory S that moves what it recalls for a key towards a value, `S = S + beta k (v - S^T k)^T`, `y = scale q S`.

    That is DeltaNet (Schlag et al. 2021; Yang et al. 2024). With `log_decay` the memory fades by `exp(log_decay)`
    before each token (Gated DeltaNet, Yang et al. 2024); with `n_householder` above 1 each token writes that many times
    before it is read (DeltaProduct, Siems et al. 2025). The transition `I - beta k k^T` has the eigenvalue
    `1 - beta |k|^2`, negative for `beta` in (1, 2) and keys of length 1 (Grazzi et al. 2024).

    Args:
        q: queries `[B, T, H, K]`.
        k: keys `[B, T*n, H, K]`, the n of a token one after the other. They are used as they come: give them length 1
            if the memory shall not grow without bound.
        v: values `[B, T*n, H, V]`.
        beta: step sizes `[B, T*n, H]`, of any value.
        log_decay: `[B, T, H]`, at most 0; -inf clears the memory. No decay if None.
        n_householder: n, the writes per token.
        scale: of the queries; `K**-0.5` if None.
        initial_state: `[B, H, K, V]`; zeros if None.
        reset: `[B, T]` bool; true at t clears the state before step t.

    Returns:
        outputs `[B, T, H, V]` in the dtype of `q`, and the last state `[B, H, K, V]` in float32 or wider.
    """
    dtype = compute_dtype(q)
    q_t = (q.to(dtype) * query_scale(q, scale)).unsqueeze(-2).unbind(1)
    k_r, v_r = k.to(dtype).unsqueeze(-1).unbind(1), v.to(dtype).unsqueeze(-2).unbind(1)
    beta_r = beta.to(dtype)[..., None, None].unbind(1)
    decay = None if log_decay is None else log_decay.to(dtype).exp()[..., None, None].unbind(1)
    S = empty_state(q, v) if initial_state is None else initial_state.to(dtype)
    ys = []
    for t in range(q.shape[1]):
        if reset is not None:
            S = S.masked_fill(reset[:, t, None, None, None], 0)
        if decay is not None:
            S = decay[t] * S
        for r in range(t * n_householder, (t + 1) * n_householder):
            recalled = (k_r[r] * S).sum(-2, keepdim=True)
            S = S + beta_r[r] * k_r[r] * (v_r[r] - recalled)
        ys.append((q_t[t] @ S).squeeze(-2))
    return torch.stack(ys, dim=1).to(q.dtype), S


def query_scale(q: Tensor, scale: float | None) -> float:
    """`K**-0.5`, unless given."""
    return q.shape[-1] ** -0.5 if scale is None else scale


def empty_state(q: Tensor, v: Tensor) -> Tensor:
    """Zeros `[B, H, K, V]`."""
    return q.new_zeros(q.shape[0], *q.shape[2:], v.shape[-1], dtype=compute_dtype(q))


@delta_rule.check
def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    *,
    n_householder: int = 1,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
    **others: object,
) -> None:
    if n_householder < 1:
        raise ValueError(f"delta_rule: n_householder is {n_householder}, expected 1 or more writes per token")
    expect_shapes(
        "delta_rule",
        n=n_householder,
        q=(q, "B T H K"),
        k=(k, "B T*n H K"),
        v=(v, "B T*n H V"),
        beta=(beta, "B T*n H"),
        log_decay=(log_decay, "B T H"),
        initial_state=(initial_state, "B H K V"),
        reset=(reset, "B T"),
    )
