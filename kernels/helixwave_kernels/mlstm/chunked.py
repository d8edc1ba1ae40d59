"""`mlstm` in chunks of matrix products; the derivation is in README.md.

Only the states between groups of chunks are kept for the backward pass. Inside, the chunks of all heads of a group
stand one after another, `[n, L, K]` with n = chunks * batch * heads. A column of ones in the values, `[v, 1]`, makes
the normaliser one more output, and n one more column of the state, `[C, n]`; columns of zeros follow.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels import memory
from helixwave_kernels.mlstm.gates import (
    FORGOTTEN,
    AllGates,
    Flows,
    Gates,
    by_chunk,
    by_step,
    gate_gradients,
    stabilised,
)
from helixwave_kernels.mlstm.quarantine import quarantine, release
from helixwave_kernels.mlstm.reference import State, empty_state, mlstm
from helixwave_kernels.shapes import compute_dtype

# steps of a group, of which one state is kept, and heads that are in it together: what stays in the cache
GROUP = 256
HEADS = 8


@mlstm.implementation("chunked")
def mlstm_chunked(
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
    if q.shape[1] == 1:
        # one step is done soonest by doing it
        options = {"input_gate": input_gate, "normalize": normalize, "scale": scale, "eps": eps}
        return mlstm.impls["reference"](q, k, v, i, f, **options, initial_state=initial_state, reset=reset)
    dtype = compute_dtype(q, k, v, i, f)
    state = empty_state(k, v, dtype) if initial_state is None else initial_state
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    inputs = q, k, v, i, f
    if reset is not None:
        inputs, state, *lost = quarantine(inputs, state, reset)
    tensors = (x.to(dtype) for x in (*inputs, *state))
    y, C, n, m, *_ = _mlstm(*tensors, reset, input_gate, normalize, scale, eps)
    y = y.to(q.dtype)
    return (y, (C, n, m)) if reset is None else release(y, (C, n, m), *lost)


# a custom operator, so that torch.compile and torch.export see one node and not the unrolled loop
@torch.library.custom_op("helixwave::mlstm_chunked", mutates_args=())
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """y, the last C, n and m, the sums that normalise `[B, H, T]`, and the states before each group and at the end."""
    B, T, H, V = v.shape
    L = chunk_length(q, v)
    gates, m = stabilised(i, f, m0, reset, input_gate, scale, L, q.dtype)
    q, k, v = (_whole_chunks(x, L) for x in (q, k, v))
    y, r, scratch = memory.empty_like(v), torch.empty_like(gates.steps[0]), _Scratch(q, L)
    between = _between(C0, n0, T)
    for rows in _few_rows(B, H):
        inputs, out, states = _by_chunk(L, rows, q, k, v), _by_chunk(L, rows, y)[0], between[:, rows].flatten(1, 2)
        for part, start, end in zip(_groups(L, T), states[:-1], states[1:], strict=True):
            some = _some(gates, part, rows)
            q_part, k_part, v_part = (x[part] for x in inputs)
            group = _group(q_part, k_part, v_part, some, start, scratch)
            end.copy_(group.end)
            outputs = scratch("outputs", *group.values.shape)
            torch.bmm(group.weights_and_queries, group.values_and_states, out=outputs)
            r[part, rows] = outputs[..., V].view_as(r[part, rows])
            _write(out[part], outputs, 1 / _size(outputs[..., V], some.one, eps) if normalize else None)
    m = m[..., -1].to(q.dtype).contiguous()
    return y[:, :T].contiguous(), *_parts(between[-1], V), m, by_step(r, T), between


@torch.library.custom_op("helixwave::mlstm_chunked_backward", mutates_args=())
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
    m0: Tensor,
    y: Tensor,
    r: Tensor,
    between: Tensor,
    reset: Tensor | None,
    input_gate: str,
    normalize: bool,
    scale: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, i, f, C0, n0 and m0: the last group of chunks first."""
    B, T, H, V = v.shape
    L = chunk_length(q, v)
    gates, m = stabilised(i, f, m0, reset, input_gate, scale, L, q.dtype)
    q, k, v, y, dy = (_whole_chunks(x, L) for x in (q, k, v, y, dy))
    r = by_chunk(r, L)
    dq, dk, dv = (memory.empty_like(x) for x in (q, k, v))
    d_state = _state(dC, dn)
    flows, scratch = Flows.empty(gates), _Scratch(q, L)
    for rows in _few_rows(B, H):
        inputs, outputs = _by_chunk(L, rows, q, k, v, y, dy), _by_chunk(L, rows, dq, dk, dv)
        states, d_end = between[:-1, rows].flatten(1, 2), d_state[rows].flatten(0, 1)
        for part, start in reversed(list(zip(_groups(L, T), states, strict=True))):
            q_part, k_part, v_part, y_part, dy_part = (x[part] for x in inputs)
            some, sums = _some(gates, part, rows), r[part, rows] if normalize else None
            group = _group(q_part, k_part, v_part, some, start, scratch)
            d_outputs, stabiliser = _output_gradients(dy_part, y_part, sums, some.one, eps, scratch)
            grads, d_end, flow = _group_gradients(group, d_outputs, some, d_end, scratch)
            for out, grad, factor in zip(outputs, grads, (some.query, some.key, None), strict=True):
                _write(out[part], grad, factor)
            for out, value in zip(flows, (*flow, stabiliser), strict=True):
                out[part, rows] = value.view_as(out[part, rows])
        d_state[rows] = d_end.view_as(d_state[rows])
    if input_gate == "exp":  # what is divided by exp(m) falls as m rises
        dm = dm - (between[-1] * _state(dC, dn)).sum((-2, -1))
    di, df, dm0 = gate_gradients(flows, dm, m, m0, i, f, reset, input_gate)
    dm0 += (between[0] * d_state).sum((-2, -1))
    dq, dk, dv = (x[:, :T].contiguous() for x in (dq, dk, dv))
    return dq, dk, dv, di.to(i.dtype), df.to(f.dtype), *_parts(d_state, V), dm0.to(m0.dtype)


class _Scratch:
    """Memory by name, the same for each group of chunks: fresh memory costs as much time as what is done in it."""

    def __init__(self, like: Tensor, L: int):
        self.like = like
        self.memory: dict[str, Tensor] = {}
        self.views: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        # added to the logarithm of a decay that is none, and lower than any sum of them
        self.later = like.new_full((L, L), 2 * L * FORGOTTEN).triu_(1)

    def __call__(self, name: str, *shape: int) -> Tensor:
        key = (name, shape)
        if key not in self.views:
            size = math.prod(shape)
            if name not in self.memory or self.memory[name].numel() < size:
                self.memory[name] = self.like.new_empty(size)
            self.views[key] = self.memory[name][:size].view(shape)
        return self.views[key]


class _Group(NamedTuple):
    """Some chunks; the outputs of each are one product, `[S D, q e^G] [[v, 1]; [C, n]]`. V counts all columns."""

    queries: Tensor  # [n, L, K]
    keys: Tensor  # [n, L, K]
    keys_to_end: Tensor  # [n, L, K]
    decays: Tensor  # [n, L, L], zero above the diagonal
    weights_and_queries: Tensor  # [n, L, L + K]
    values_and_states: Tensor  # [n, L + K, V]
    end: Tensor  # the state after the last chunk [B * H, K, V]

    @property
    def values(self) -> Tensor:
        return self.values_and_states[:, : self.keys.shape[1]]

    @property
    def states(self) -> Tensor:
        return self.values_and_states[:, self.keys.shape[1] :]


def _group(q: Tensor, k: Tensor, v: Tensor, gates: Gates, start: Tensor, scratch: _Scratch) -> _Group:
    """From inputs `[g, B, H, L, K]`, gates `[n, L]` and the state before the first chunk `[B * H, K, V]`."""
    n, (L, K), V = gates.whole.numel(), q.shape[-2:], v.shape[-1]
    queries, keys = scratch("queries", n, L, K), scratch("keys", n, L, K)
    torch.mul(q, gates.query.view(*q.shape[:-1], 1), out=queries.view(q.shape))
    torch.mul(k, gates.key.view(*k.shape[:-1], 1), out=keys.view(k.shape))
    keys_to_end = torch.mul(keys, gates.to_end.unsqueeze(-1), out=scratch("keys to end", n, L, K))
    values_and_states = scratch("values and states", n, L + K, start.shape[-1])
    values, states = values_and_states[:, :L], values_and_states[:, L:]
    values.view(*v.shape[:-1], -1)[..., :V] = v
    values[..., V:] = 0
    values[..., V] = 1
    added = torch.bmm(keys_to_end.mT, values, out=scratch("added", *states.shape))
    end = _carry(start, added, gates.whole, states)
    decays = _decays(gates.total, scratch)
    weights_and_queries = scratch("weights and queries", n, L, L + K)
    scores = torch.bmm(queries, keys.mT, out=scratch("scores", n, L, L))
    torch.mul(scores, decays, out=weights_and_queries[..., :L])
    torch.mul(queries, gates.from_start.unsqueeze(-1), out=weights_and_queries[..., L:])
    return _Group(queries, keys, keys_to_end, decays, weights_and_queries, values_and_states, end)


def _group_gradients(
    group: _Group, d_outputs: Tensor, gates: Gates, d_end: Tensor, scratch: _Scratch
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Those of queries, keys and values, of the state before the first chunk, and of the gates as in `Flows`.

    `d_outputs` `[n, L, V]`; `d_end` `[B * H, K, V]` is that of the state after the last chunk.
    """
    n, L, K = group.keys.shape
    weights, queries_from_start = group.weights_and_queries[..., :L], group.weights_and_queries[..., L:]
    added = torch.bmm(queries_from_start.mT, d_outputs, out=scratch("added", *group.states.shape))
    d_ends = scratch("d ends", *added.shape)
    d_start = _carry(d_end, added, gates.whole, d_ends, backwards=True)
    product = scratch("product", n, L, K)
    # through the weights, and through the state before the chunk
    d_both = torch.bmm(d_outputs, group.values_and_states.mT, out=scratch("d both", n, L, L + K))
    d_weights, d_queries = d_both[..., :L], d_both[..., L:]
    from_state = torch.mul(d_queries, queries_from_start, out=product).sum(-1)
    d_scores = torch.mul(d_weights, group.decays, out=group.decays)
    d_queries = torch.mul(d_queries, gates.from_start.unsqueeze(-1), out=scratch("d queries", n, L, K))
    d_queries.baddbmm_(d_scores, group.keys)
    # through the state after the chunk
    d_keys = torch.bmm(group.values, d_ends.mT, out=scratch("d keys", n, L, K))
    to_state = torch.mul(d_keys, group.keys_to_end, out=product).sum(-1)
    d_keys.mul_(gates.to_end.unsqueeze(-1)).baddbmm_(d_scores.mT, group.queries)
    d_values = torch.bmm(group.keys_to_end, d_ends, out=scratch("outputs", *d_outputs.shape))
    d_values.baddbmm_(weights.mT, d_outputs)
    # of the logarithm of each weight; one on the diagonal has no forget gate in it
    flow = torch.mul(d_weights, weights, out=d_scores)
    diagonal = flow.diagonal(dim1=-2, dim2=-1)
    own = diagonal.clone()
    diagonal.zero_()
    written = flow.sum(-2)
    read = flow.sum(-1).sub_(written).add_(from_state)
    across = torch.mul(group.states, d_ends, out=added).sum((-2, -1)).mul_(gates.whole)
    return (d_queries, d_keys, d_values), d_start, (written.add_(own).add_(to_state), read, to_state, across)


def _output_gradients(
    dy: Tensor, y: Tensor, r: Tensor | None, one: Tensor, eps: float, scratch: _Scratch
) -> tuple[Tensor, Tensor]:
    """Gradients of the numerators and of their sums `[n, L, V]`, and of m through `eps` alone `[n, L]`."""
    V, shape = dy.shape[-1], (*one.shape, _columns(dy.shape[-1]))
    d_outputs = scratch("d outputs", *shape)
    d_outputs[..., V:] = 0
    numerators = d_outputs.view(*dy.shape[:-1], -1)[..., :V]
    if r is None:
        numerators.copy_(dy)
        return d_outputs, torch.zeros_like(one)
    r = r.reshape(one.shape)
    size = _size(r, one, eps)
    along = torch.mul(dy, y, out=scratch("product", *dy.shape)).sum(-1).view_as(size).div_(-size)
    torch.div(dy, size.view(*dy.shape[:-1], 1), out=numerators)
    d_outputs[..., V] = torch.where(r.abs() > one, along * r.sign(), 0)
    return d_outputs, along * eps


def _carry(first: Tensor, added: Tensor, whole: Tensor, out: Tensor, *, backwards: bool = False) -> Tensor:
    """`x = whole_c x + added_c` from chunk to chunk, each x before that in `out`; returns the last one."""
    chunks = [x.unflatten(0, (-1, len(first))).unbind(0) for x in (out, added, whole[:, None, None])]
    steps = list(zip(*chunks, strict=True))[:: -1 if backwards else 1]
    steps[0][0].copy_(first)
    for (x, added_c, whole_c), (after, *_) in pairwise(steps):
        torch.addcmul(added_c, whole_c, x, out=after)
    x, added_c, whole_c = steps[-1]
    return torch.addcmul(added_c, whole_c, x)


def _decays(total: Tensor, scratch: _Scratch) -> Tensor:  # [n, L] -> [n, L, L]
    # exp is slow where its result is no normal number: such are made zero afterwards
    least = math.log(torch.finfo(total.dtype).tiny) + 1
    out = torch.sub(total.unsqueeze(-1), total.unsqueeze(-2), out=scratch("decays", *total.shape, total.shape[-1]))
    return torch.threshold_(out.add_(scratch.later).clamp_(min=least).exp_(), 1.1 * math.exp(least), 0.0)


def _write(out: Tensor, x: Tensor, factor: Tensor | None) -> None:
    """The first columns of x `[n, L, .]`, times a factor `[n, L]`, to `[g, B, H, L, .]`."""
    x = x.view(*out.shape[:-1], -1)[..., : out.shape[-1]]
    if factor is None:
        out.copy_(x)
    else:
        torch.mul(x, factor.view(*out.shape[:-1], 1), out=out)


def _size(r: Tensor, one: Tensor, eps: float) -> Tensor:
    return torch.maximum(r.abs(), one).add_(eps)


def chunk_length(q: Tensor, v: Tensor) -> int:
    """Steps of a chunk: more for large states, of which there is one for each chunk."""
    size = q.shape[-1] * v.shape[-1]
    return 32 if size <= 64**2 else 64 if size <= 128**2 else 128


def _groups(L: int, T: int) -> list[slice]:
    """Chunks of each group."""
    N, g = -(-T // L), GROUP // L
    return [slice(start, min(start + g, N)) for start in range(0, N, g)]


def _few_rows(B: int, H: int) -> list[slice]:
    count = max(1, HEADS // H)
    return [slice(start, start + count) for start in range(0, B, count)]


def _some(gates: AllGates, part: slice, rows: slice) -> Gates:
    each_step = gates.steps[:, part, rows].flatten(1, 3).unbind(0)
    return Gates(*(*each_step, gates.whole[part, rows].flatten()))


def _columns(V: int) -> int:
    """V + 1, and zeros up to a multiple of 8, with which matrix products are faster."""
    return (V // 8 + 1) * 8


def _state(C: Tensor, n: Tensor) -> Tensor:
    """`[C, n]` and zeros."""
    V = C.shape[-1]
    return F.pad(torch.cat([C, n.unsqueeze(-1)], -1), (0, _columns(V) - V - 1))


def _between(C0: Tensor, n0: Tensor, T: int) -> Tensor:
    """Memory for the states before each group of chunks and at the end; the first is there."""
    first = _state(C0, n0)
    between = memory.empty(-(-T // GROUP) + 1, *first.shape, like=first)
    between[0] = first
    return between


def _parts(state: Tensor, V: int) -> tuple[Tensor, Tensor]:
    return state[..., :V].contiguous(), state[..., V].contiguous()


def _whole_chunks(x: Tensor, L: int) -> Tensor:  # [B, T, H, K]
    return F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % L)) if x.shape[1] % L else x.contiguous()


def _by_chunk(L: int, rows: slice, *tensors: Tensor) -> list[Tensor]:  # [B, T, H, K] -> [N, B, H, L, K]
    return [x[rows].unflatten(1, (-1, L)).permute(1, 0, 3, 2, 4) for x in tensors]


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, _, _, m0, reset, ctx.input_gate, ctx.normalize, ctx.scale, ctx.eps = inputs
    y, C, n, _, r, between = output
    ctx.shapes = (C.shape, n.shape)
    ctx.save_for_backward(*tensors, m0, y, r, between, reset)
    ctx.set_materialize_grads(False)


def _backward(ctx, dy, dC, dn, dm, *_):  # type: ignore[no-untyped-def]
    *tensors, reset = ctx.saved_tensors
    _, _, v, _, _, m0, *_ = tensors
    shapes = (v.shape, *ctx.shapes, m0.shape)
    given = zip((dy, dC, dn, dm), shapes, strict=True)
    grads = (v.new_zeros(shape) if grad is None else grad for grad, shape in given)
    options = (ctx.input_gate, ctx.normalize, ctx.scale, ctx.eps)
    return *_mlstm_backward(*grads, *tensors, reset, *options), None, None, None, None, None


_mlstm.register_autograd(_backward, setup_context=_setup_context)


@_mlstm.register_fake
def _(q, k, v, i, f, C0, n0, m0, *_):  # type: ignore[no-untyped-def]
    B, T, H, V = v.shape
    between = q.new_empty(-(-T // GROUP) + 1, B, H, q.shape[-1], _columns(V))
    return *(q.new_empty(x.shape) for x in (v, C0, n0, m0)), q.new_empty(B, H, T), between


@_mlstm_backward.register_fake
def _(dy, dC, dn, dm, q, k, v, i, f, *_):  # type: ignore[no-untyped-def]
    return tuple(x.new_empty(x.shape) for x in (q, k, v, i, f, dC, dn, dm))
