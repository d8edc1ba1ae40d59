"""What the fast implementations of `mlstm` share: the stabilised gates, and the gradient through the stabiliser.

All of it is one number for each step and head, computed in float64: the sums of logarithms over a chunk lose nothing.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels.mlstm.reference import finite, log_gates, one_in_units_of

# exp(-1000) is 0 in float32 and in float64, and sums of it over a chunk stay finite
FORGOTTEN = -1000.0


class Gates(NamedTuple):
    """The recurrence `C_t = keep_t C_{t-1} + write_t k_t v_t^T` by chunk, `[n, L]`; all factors are at most 1.

    The decay from step s to step t of a chunk is `exp(total_t - total_s) * query_t * key_s`: `total` holds the sums of
    `log keep` since the start of the chunk, and `query`, `key` what rounding took from them. `key` has `write` in it,
    `query` the scale.
    """

    total: Tensor
    query: Tensor
    key: Tensor
    from_start: Tensor  # decay from the start of the chunk to step t, but for `query`
    to_end: Tensor  # decay from step s to the end of the chunk, but for `key`
    one: Tensor  # exp(-m): the smallest denominator
    whole: Tensor  # decay from start to end, [n]


class AllGates(NamedTuple):
    """Those of all chunks: the fields of `Gates` with a value for each step `[6, N, B, H, L]`, and the last of them."""

    steps: Tensor
    whole: Tensor  # [N, B, H]


class Flows(NamedTuple):
    """Gradients of the logarithms of the gates in parts `[N, B, H, L]`, the stabiliser being fixed.

    A weight from step s to step t has every forget gate after s and up to t in it.
    """

    write: Tensor
    read: Tensor  # of all weights that end at a step of the chunk, less those that start there and end in the chunk
    to_state: Tensor  # of all that start at a step of the chunk and end after the chunk
    across: Tensor  # of all that start before the chunk and end after it, [N, B, H]
    stabiliser: Tensor  # of m, where nothing else changes: only `eps` notices that

    @classmethod
    def empty(cls, gates: AllGates) -> "Flows":
        write, read, to_state, stabiliser = torch.empty_like(gates.steps[:4]).unbind(0)
        return cls(write, read, to_state, torch.empty_like(gates.whole), stabiliser)


def stabilised(
    i: Tensor, f: Tensor, m0: Tensor, reset: Tensor | None, input_gate: str, scale: float, L: int, dtype: torch.dtype
) -> tuple[AllGates, Tensor]:
    """The gates of all steps, and m in float64 `[B, H, T]`; steps that change nothing fill the last chunk.

    Args:
        i: `[B, T, H]` before its activation, and `f` too.
        m0: of the initial state `[B, H]`.
        reset: `[B, T]` bool or None.
        input_gate: `exp` or `sigmoid`.
        scale: of the queries.
        L: length of a chunk.
        dtype: of the gates.
    """
    log_write, log_keep = _log_gates(i, f, reset, input_gate)
    m = running_maximum(log_write, log_keep, m0, L) if input_gate == "exp" else torch.zeros_like(log_write)
    # any number will do that is near the maximum: one that the result can hold makes the returned state exact
    m = m.to(dtype).to(m.dtype)
    before = torch.cat([m0.to(m).unsqueeze(-1), m[..., :-1]], -1)
    level = finite(m)
    log_write = _chunks(log_write - level, L, -torch.inf)
    sums = _chunks((log_keep + before - level).clamp(min=FORGOTTEN), L, 0).cumsum(-1)
    total = sums.to(dtype)
    lost, end = sums - total, sums[..., -1:]
    one = _chunks(one_in_units_of(level.to(dtype)), L, 1)
    steps = (total, lost.exp() * scale, (log_write - lost).exp(), total.exp(), (end - total).exp(), one)
    stacked = torch.stack([x.to(dtype).movedim(2, 0) for x in steps])
    return AllGates(stacked, end.squeeze(-1).exp().to(dtype).movedim(2, 0).contiguous()), m


def running_maximum(log_write: Tensor, log_keep: Tensor, m0: Tensor, L: int) -> Tensor:
    """`m_t = max(log_keep_t + m_{t-1}, log_write_t)` `[B, H, T]`, in chunks of L and then from chunk to chunk.

    No sum over several steps is ever subtracted, so that -inf, from a reset or a closed gate, is a number like others.
    """
    m, total = _maximum_from_start(_chunks(log_write, L, -torch.inf), _chunks(log_keep, L, 0))
    ends, totals = _maximum_from_start(m[..., -1], total[..., -1])
    m0 = m0.to(m).unsqueeze(-1)
    before = torch.cat([m0, torch.maximum(ends, totals + m0)[..., :-1]], -1).unsqueeze(-1)
    return torch.maximum(m, total + before).flatten(-2)[..., : log_write.shape[-1]]


def gate_gradients(
    flows: Flows, dm: Tensor, m: Tensor, m0: Tensor, i: Tensor, f: Tensor, reset: Tensor | None, input_gate: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of i, f `[B, T, H]`, and of m0 `[B, H]` at a fixed `C0 exp(m0)`, in float64.

    Args:
        flows: what reaches the gates.
        dm: of the last stabiliser `[B, H]`, with all that is in units of it.
        m: the stabiliser `[B, H, T]`, float64.
        m0, i, f, reset, input_gate: as in `stabilised`.
    """
    T = m.shape[-1]
    d_write, read, to_state, across, d_m = (x.to(m.dtype).movedim(0, 2) for x in flows)
    d_keep = _sum_of_later(read) + F.pad(to_state.cumsum(-1)[..., :-1], (1, 0)) + across.unsqueeze(-1)
    d_write, d_keep, d_m = (x.flatten(-2)[..., :T] for x in (d_write, d_keep, d_m))
    dm0 = torch.zeros_like(m[..., 0])
    if input_gate == "exp":
        log_write, log_keep = _log_gates(i, f, reset, input_gate)
        before = torch.cat([m0.to(m).unsqueeze(-1), m[..., :-1]], -1)
        kept = (log_keep + before >= log_write) & (log_keep > -torch.inf)
        d_m = torch.cat([d_m[..., :-1], d_m[..., -1:] + dm.unsqueeze(-1)], -1)
        d_m = _summed_while_kept(d_m, kept)
        d_write, d_keep = d_write + d_m.masked_fill(kept, 0), d_keep + d_m.masked_fill(~kept, 0)
        dm0 = d_m[..., 0].masked_fill(~kept[..., 0], 0)
    di, df = d_write.mT, d_keep.mT * torch.sigmoid(-f.to(m.dtype))
    if input_gate == "sigmoid":
        di = di * torch.sigmoid(-i.to(m.dtype))
    return di, df if reset is None else df.masked_fill(reset.unsqueeze(-1), 0), dm0


def by_step(x: Tensor, T: int) -> Tensor:  # [N, B, H, L] -> [B, H, T]
    return x.movedim(0, 2).flatten(-2)[..., :T].contiguous()


def by_chunk(x: Tensor, L: int) -> Tensor:  # [B, H, T] -> [N, B, H, L]
    return _chunks(x, L, 0).movedim(2, 0).contiguous()


def _log_gates(i: Tensor, f: Tensor, reset: Tensor | None, input_gate: str) -> tuple[Tensor, Tensor]:
    """Their logarithms `[B, H, T]` in float64, or float32 where a device has nothing wider."""
    dtype = torch.float32 if i.device.type == "mps" else torch.float64
    log_write, log_keep = (gate.mT for gate in log_gates(i.to(dtype), f.to(dtype), input_gate))
    return log_write, log_keep if reset is None else log_keep.masked_fill(reset.unsqueeze(1), -torch.inf)


def _chunks(x: Tensor, L: int, fill: float) -> Tensor:  # [B, H, T] -> [B, H, N, L]
    return F.pad(x, (0, -x.shape[-1] % L), value=fill).unflatten(-1, (-1, L))


def _sum_of_later(x: Tensor) -> Tensor:
    """At t the sum from t on."""
    return x.flip(-1).cumsum(-1).flip(-1)


def _maximum_from_start(m: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence of `running_maximum` over the last axis from an empty start, and the sums of `log_keep`."""
    shift = 1
    while shift < m.shape[-1]:
        earlier, earlier_total = (x[..., :-shift] for x in (m, total))
        m = torch.cat([m[..., :shift], torch.maximum(m[..., shift:], total[..., shift:] + earlier)], -1)
        total = torch.cat([total[..., :shift], total[..., shift:] + earlier_total], -1)
        shift *= 2
    return m, total


def _summed_while_kept(d_m: Tensor, kept: Tensor) -> Tensor:
    """`s_t = d_m_t + s_{t+1}` where step t + 1 keeps the maximum of step t, `s_t = d_m_t` where it sets its own."""
    T = d_m.shape[-1]
    sums = F.pad(_sum_of_later(d_m), (0, 1))  # over all later steps; 0 after the last
    here = torch.arange(T, device=d_m.device).expand(kept.shape)
    own = here.masked_fill(kept, T)
    following = F.pad(own.flip(-1).cummin(-1).values.flip(-1)[..., 1:], (0, 1), value=T)
    return sums[..., :-1] - sums.gather(-1, following)
