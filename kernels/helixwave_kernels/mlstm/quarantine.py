"""Keeps what is not a number within its own document, where matrix products over several documents would spread it."""

import torch
from torch import Tensor

from helixwave_kernels.mlstm.reference import State

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def quarantine(inputs: Inputs, state: State, reset: Tensor) -> tuple[Inputs, State, Tensor, Tensor]:
    """Inputs and initial state with harmless numbers instead of infinite ones and of what would become infinite.

    Returns:
        q, k, v, i and f; the state; where outputs are lost `[B, T, H]`, and where the last state is `[B, H]`.
    """
    q, k, v, i, f = inputs
    C, n, m = state
    q_size, k_size, v_size = (torch.linalg.vector_norm(x, 1, -1, dtype=_wide(x)) for x in (q, k, v))
    q_lost = ~q_size.isfinite()
    lost = ~(k_size * v_size.clamp(min=1e4)).isfinite() | i.isnan() | i.isposinf() | f.isnan()
    state_lost = ~(C.sum((-2, -1)) + n.sum(-1)).isfinite() | m.isnan() | m.isposinf()
    # the last step that was lost, and the last that began a document; the initial state comes before all steps
    steps = torch.arange(1, q.shape[1] + 1, device=q.device).unsqueeze(-1)
    last_lost = torch.where(lost, steps, 0).cummax(1).values
    last_reset = torch.where(reset.unsqueeze(-1), steps, 0).cummax(1).values
    lost_since = (last_lost >= last_reset) & (last_lost > 0) | state_lost.unsqueeze(1) & (last_reset == 0)
    q = q.masked_fill(q_lost.unsqueeze(-1), 0)
    k, v = (x.masked_fill(lost.unsqueeze(-1), 0) for x in (k, v))
    i, f = i.masked_fill(lost, 0), f.masked_fill(lost, 0)
    C, n = C.masked_fill(state_lost[..., None, None], 0), n.masked_fill(state_lost[..., None], 0)
    state = C, n, m.masked_fill(state_lost, 0)
    return (q, k, v, i, f), state, lost_since | q_lost, lost_since[:, -1]


def release(y: Tensor, state: State, lost: Tensor, state_lost: Tensor) -> tuple[Tensor, State]:
    """Outputs and state, not a number where they were lost."""
    C, n, m = state
    C, n = C.masked_fill(state_lost[..., None, None], torch.nan), n.masked_fill(state_lost[..., None], torch.nan)
    return y.masked_fill(lost.unsqueeze(-1), torch.nan), (C, n, m)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
