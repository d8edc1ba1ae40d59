"""The meaning of `prefix_attention`."""

import torch
from torch import Tensor

from helixwave_kernels.dispatch import Op
from helixwave_kernels.shapes import compute_dtype, expect_parts, expect_shapes

# maximum of the scores `[B, H]`, sums of the weights `[B, H]` and the weighted values `[B, H, V]` over e^maximum
State = tuple[Tensor, Tensor, Tensor]


@Op
def prefix_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    initial_state: State | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, State]:
    """Softmax attention of one query, the same at all times, over the tokens so far (Aaren, Feng et al. 2024, sec. 3).

    With the scores `s_t = scale q k_t`, `m_t = max(m_{t-1}, s_t)`, `u_t = u_{t-1} exp(m_{t-1} - m_t) + exp(s_t - m_t)`
    and `w_t = w_{t-1} exp(m_{t-1} - m_t) + v_t exp(s_t - m_t)`, the output is `w_t / u_t`. Scores may be of any size.

    Args:
        q: one query per head `[H, K]`.
        k: keys `[B, T, H, K]`. A key with an entry -inf is masked: it has no weight, whatever the query is.
        v: values `[B, T, H, V]`.
        scale: of the scores; `K**-0.5` if None.
        initial_state: (m `[B, H]`, u `[B, H]`, w `[B, H, V]`); nothing seen (-inf, 0, 0) if None.
        reset: `[B, T]` bool; true at t clears the state before step t.

    Returns:
        outputs `[B, T, H, V]` in the dtype of `k`, zero as long as every key was masked, and the last state in float32
        or wider. States (m, u, w) and (m - a, u e^a, w e^a) mean the same.
    """
    dtype = compute_dtype(k)
    m, u, w = empty_state(k, v) if initial_state is None else (part.to(dtype) for part in initial_state)
    ys = []
    for t, (s_t, v_t) in enumerate(zip(scores(q, k, scale).unbind(1), v.to(dtype).unbind(1), strict=True)):
        if reset is not None:
            now = reset[:, t, None]
            m, u, w = m.masked_fill(now, -torch.inf), u.masked_fill(now, 0), w.masked_fill(now[..., None], 0)
        previous, m = m, torch.maximum(m, s_t)
        kept, new = torch.exp(previous - finite(m)), torch.exp(s_t - finite(m))
        u = kept * u + new
        w = kept[..., None] * w + new[..., None] * v_t
        ys.append(w / u.masked_fill(u == 0, 1)[..., None])
    return torch.stack(ys, dim=1).to(k.dtype), (m, u, w)


def scores(q: Tensor, k: Tensor, scale: float | None) -> Tensor:
    """`[B, T, H]` in float32 or wider; -inf for a masked key."""
    dtype = compute_dtype(k)
    masked = k.isneginf().any(-1)
    k = k.to(dtype).masked_fill(masked[..., None], 0)
    s = torch.einsum("bthk,hk->bth", k, q.to(dtype) * (k.shape[-1] ** -0.5 if scale is None else scale))
    return s.masked_fill(masked, -torch.inf)


def empty_state(k: Tensor, v: Tensor) -> State:
    """Nothing seen."""
    m = k.new_full((k.shape[0], k.shape[2]), -torch.inf, dtype=compute_dtype(k))
    return m, torch.zeros_like(m), m.new_zeros(*m.shape, v.shape[-1])


def finite(m: Tensor) -> Tensor:
    """0 in the place of the maximum of nothing, so that no difference is NaN."""
    return m.masked_fill(m.isneginf(), 0)


@prefix_attention.check
def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    initial_state: State | None = None,
    reset: Tensor | None = None,
    **others: object,
) -> None:
    m, u, w = expect_parts("prefix_attention", initial_state, ("m", "u", "w"))
    expect_shapes(
        "prefix_attention",
        q=(q, "H K"),
        k=(k, "B T H K"),
        v=(v, "B T H V"),
        m=(m, "B H"),
        u=(u, "B H"),
        w=(w, "B H V"),
        reset=(reset, "B T"),
    )
