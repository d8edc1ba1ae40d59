"""The meaning of `mlstm`."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels.dispatch import Op
from helixwave_kernels.shapes import compute_dtype, expect_parts, expect_shapes

State = tuple[Tensor, Tensor, Tensor]
INPUT_GATES = ("exp", "sigmoid")


@Op
def mlstm(
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
    """The matrix memory of xLSTM (Beck et al. 2024, eq. 19 to 27; the stabiliser m as in its appendix A).

    With `C_t = sigmoid(f_t) C_{t-1} + exp(i_t) k_t v_t^T` and `n_t = sigmoid(f_t) n_{t-1} + exp(i_t) k_t`, the output
    is `y_t = scale q_t^T C_t / max(|scale q_t^T n_t|, 1)`. Both are held divided by `exp(m_t)`, which keeps them in
    range.

    Args:
        q: queries `[B, T, H, K]`.
        k: keys `[B, T, H, K]`.
        v: values `[B, T, H, V]`.
        i: input gates before their activation `[B, T, H]`; -inf writes nothing.
        f: forget gates before the sigmoid `[B, T, H]`; +inf forgets nothing: `i=-inf, f=+inf` freezes the state.
        input_gate: `exp`, or `sigmoid` (Beck et al. 2025, mLSTMsig), which needs no stabiliser: m is 0 there.
        normalize: False returns `scale q_t^T C_t`; only with the sigmoid gate, as the exponential one is unbounded.
        scale: of the queries; `K**-0.5` if None.
        eps: added to the denominator, in units of `exp(m_t)` as in the published code.
        initial_state: C `[B, H, K, V]`, n `[B, H, K]`, m `[B, H]`, of unscaled keys; the empty state if None: C = 0,
            n = 0, m = -inf. `(C e^a, n e^a, m - a)` is the same state for any a.
        reset: `[B, T]` bool; true at t empties the state before step t.

    Returns:
        outputs `[B, T, H, V]` in the dtype of `q`, and the last state (C, n, m) in float32 or wider.
    """
    dtype = compute_dtype(q, k, v, i, f)
    C, n, m = empty_state(k, v, dtype) if initial_state is None else (part.to(dtype) for part in initial_state)
    queries = q.to(dtype) * (q.shape[-1] ** -0.5 if scale is None else scale)
    log_write, log_keep = log_gates(i.to(dtype), f.to(dtype), input_gate)
    ys = []
    steps = zip(*(x.unbind(1) for x in (queries, k.to(dtype), v.to(dtype), log_write, log_keep)), strict=True)
    for t, (q_t, k_t, v_t, log_write_t, log_keep_t) in enumerate(steps):
        if reset is not None:
            C, n = C.masked_fill(reset[:, t, None, None, None], 0), n.masked_fill(reset[:, t, None, None], 0)
            m = m.masked_fill(reset[:, t, None], -torch.inf)
        log_keep_t = log_keep_t + m
        m = torch.maximum(log_keep_t, log_write_t) if input_gate == "exp" else torch.zeros_like(m)
        level = finite(m)
        keep, write = torch.exp(log_keep_t - level), torch.exp(log_write_t - level)
        C = keep[..., None, None] * C + write[..., None, None] * k_t.unsqueeze(-1) * v_t.unsqueeze(-2)
        n = keep[..., None] * n + write[..., None] * k_t
        y = torch.einsum("bhk,bhkv->bhv", q_t, C)
        if normalize:
            size = torch.maximum((q_t * n).sum(-1).abs(), one_in_units_of(level)) + eps
            y = y / size.unsqueeze(-1)
        ys.append(y)
    return torch.stack(ys, dim=1).to(q.dtype), (C, n, m)


def log_gates(i: Tensor, f: Tensor, input_gate: str) -> tuple[Tensor, Tensor]:
    """Logarithms of the input and of the forget gate."""
    return i if input_gate == "exp" else F.logsigmoid(i), F.logsigmoid(f)


def finite(m: Tensor) -> Tensor:
    """The stabiliser; any finite number will do for a state that is empty."""
    return m.masked_fill(m == -torch.inf, 0)


def one_in_units_of(level: Tensor) -> Tensor:
    """`exp(-level)`; where that is beyond the largest number the output is 0 in any case."""
    return torch.exp((-level).clamp(max=math.log(torch.finfo(level.dtype).max) - 1))


def empty_state(k: Tensor, v: Tensor, dtype: torch.dtype) -> State:
    """What there is before the first step."""
    B, _, H, K = k.shape
    C, n = k.new_zeros(B, H, K, v.shape[-1], dtype=dtype), k.new_zeros(B, H, K, dtype=dtype)
    return C, n, k.new_full((B, H), -torch.inf, dtype=dtype)


@mlstm.check
def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    *,
    input_gate: str = "exp",
    normalize: bool = True,
    initial_state: State | None = None,
    reset: Tensor | None = None,
    **others: object,
) -> None:
    if input_gate not in INPUT_GATES:
        raise ValueError(f"mlstm: input_gate is {input_gate!r}, expected one of {', '.join(INPUT_GATES)}")
    if input_gate == "exp" and not normalize:
        raise ValueError("mlstm: normalize=False needs input_gate='sigmoid'; the exponential gate has no upper bound")
    C, n, m = expect_parts("mlstm", initial_state, ("C", "n", "m"))
    expect_shapes(
        "mlstm",
        q=(q, "B T H K"),
        k=(k, "B T H K"),
        v=(v, "B T H V"),
        i=(i, "B T H"),
        f=(f, "B T H"),
        C=(C, "B H K V"),
        n=(n, "B H K"),
        m=(m, "B H"),
        reset=(reset, "B T"),
    )
