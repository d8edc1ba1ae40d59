"""`delta_rule` in chunks: what a chunk does to the state is one matrix, and only these matrices wait for each other.

A row is one write; a token has n of them. Inside, tensors are chunk first, `[M, Z, C, K]`: M chunks, Z = B * H, and C
rows or c = C / n tokens. The chunks of a stretch are worked on at once. The derivation is in README.md.
"""

import itertools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels import memory
from helixwave_kernels.delta_rule.reference import delta_rule, empty_state, query_scale
from helixwave_kernels.shapes import compute_dtype

# rows of a chunk, and chunks of a stretch
ROWS = 32
STRETCH = 16


@delta_rule.implementation("chunked")
def delta_rule_chunked(
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
    dtype = compute_dtype(q)
    scaled = q.to(dtype) * query_scale(q, scale)
    if reset is not None:
        log_decay = torch.zeros_like(scaled[..., 0]) if log_decay is None else log_decay
        log_decay = log_decay.masked_fill(reset.unsqueeze(-1), -torch.inf)
    S = empty_state(q, v) if initial_state is None else initial_state.to(dtype)
    g = None if log_decay is None else log_decay.to(dtype)
    y, S, _ = _delta_rule(scaled, k.to(dtype), v.to(dtype), beta.to(dtype), g, reset, S, n_householder)
    return y.to(q.dtype), S


# a custom operator, so that torch.compile and torch.export see one node and not the unrolled loop
@torch.library.custom_op("helixwave::delta_rule_chunked", mutates_args=())
def _delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    g: Tensor | None,
    reset: Tensor | None,
    initial_state: Tensor,
    n: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, the last state, and the states before each chunk and after all, `[chunks + 1, B, H, K, V]`."""
    y = memory.empty(*q.shape[:3], v.shape[-1], like=v)
    between = memory.empty(_n_chunk(q.shape[1], n) + 1, *initial_state.shape, like=initial_state)
    between[0] = initial_state
    for part, states in _stretches(q, k, v, beta, g, reset, between, n):
        # the errors were the state empty, and what a state takes away from them
        solved = part.solve(torch.cat([part.v, part.k_start], -1))
        errors, taken = solved.split([v.shape[-1], q.shape[-1]], -1)
        writing = (part.k_end * part.beta).mT
        transitions, writes = part.whole - writing @ taken, writing @ errors
        for m, (start, end) in enumerate(itertools.pairwise(states)):
            torch.baddbmm(writes[m], transitions[m], part.kept_state(start, m), out=end)
        u = (errors - part.kept_rows(taken @ states[:-1])).mul_(part.beta)
        _put(y, part.tokens, part.kept_tokens(part.q_start @ states[:-1]).add_(part.scores @ u))
    return y, between[-1].clone(), between


@torch.library.custom_op("helixwave::delta_rule_chunked_backward", mutates_args=())
def _delta_rule_backward(
    grad_y: Tensor,
    grad_state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    g: Tensor | None,
    reset: Tensor | None,
    between: Tensor,
    n: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, beta, g (empty if None) and the initial state: the last stretch first."""
    dq, dk, dv, dbeta = (memory.empty_like(tensor) for tensor in (q, k, v, beta))
    dg = q.new_empty(0) if g is None else torch.empty_like(g, memory_format=torch.contiguous_format)
    carry = grad_state.flatten(0, 1)
    for part, states in reversed(list(_stretches(q, k, v, beta, g, reset, between, n))):
        S, do = states[:-1], _by_chunk(grad_y[:, part.tokens], part.c)
        recalled = part.kept_rows(part.k_start @ S)
        errors = part.solve(part.v - recalled)
        u = errors * part.beta
        # the gradient of u as far as this chunk reads it, and what the gradient of the end state adds to it
        solved = part.solve_transposed(torch.cat([part.scores.mT @ do, part.k_end], -1))
        local, added = solved.split([v.shape[-1], q.shape[-1]], -1)
        recalling = (part.k_start * part.beta).mT
        transitions, reads = part.whole - recalling @ added, part.q_start.mT @ do - recalling @ local
        dS = torch.empty_like(S)
        for m in reversed(range(len(dS))):
            dS[m] = carry
            carry = torch.baddbmm(reads[m], transitions[m], carry)
        du = local + added @ dS
        dx = du * part.beta
        _put(dv, part.rows, dx)
        _put(dbeta, part.rows, (errors * du).sum(-1))
        d_scores, d_within, u_dS = do @ u.mT, (dx @ u.mT).neg_(), u @ dS.mT
        if part.decay is not None:
            pairs = part.sum_columns(d_scores * part.scores) + part.sum_rows(part.sum_columns(d_within * part.within))
            start = (do * part.kept_tokens(part.q_start @ S)).sum(-1, keepdim=True)
            start -= part.sum_rows((dx * recalled).sum(-1, keepdim=True))
            end = part.sum_columns((part.k_end * u_dS).sum(-1, keepdim=True).mT)
            whole = part.decay.whole * part.kept_states(S * dS).sum((-1, -2), keepdim=True)
            _put(dg, part.tokens, _decay_gradient(pairs, start, end, whole))
        d_scores, d_within = part.causal_scores(d_scores), part.causal_within(d_within)
        d_q = part.kept_tokens(do @ S.mT)
        d_k = part.kept_rows(dx @ S.mT).neg_()
        if part.decay is not None:
            d_q *= part.decay.start
            d_k *= part.decay.start_rows
            u_dS *= part.decay.end_rows
        _put(dq, part.tokens, d_q.add_(d_scores @ part.k))
        d_k.add_(u_dS).add_(d_scores.mT @ part.q).add_((d_within + d_within.mT) @ part.k)
        _put(dk, part.rows, d_k)
    return dq, dk, dv, dbeta, dg, carry.view_as(grad_state)


class _Stretch:
    """Some chunks: inputs, and how the rows of a chunk act on each other, on the state and on the tokens."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        beta: Tensor,
        g: Tensor | None,
        reset: Tensor | None,
        tokens: slice,
        n: int,
    ):
        self.n, self.c = n, min(_tokens(n), tokens.stop - tokens.start)
        self.tokens, self.rows = tokens, slice(tokens.start * n, tokens.stop * n)
        self.q = self.q_start = _by_chunk(q[:, self.tokens], self.c)
        self.k, self.v = (_by_chunk(tensor[:, self.rows], self.c * n) for tensor in (k, v))
        self.beta = _by_chunk(beta[:, self.rows, :, None], self.c * n)
        self.k_start = self.k_end = self.k
        self.whole = torch.eye(k.shape[-1], dtype=k.dtype, device=k.device)
        self.decay = self.cleared = None
        if reset is not None:
            every_head = reset[:, self.tokens, None, None].expand(-1, -1, k.shape[2], -1)
            self.cleared = _by_chunk(every_head, self.c).cumsum(-2) > 0
        if g is not None:
            self.decay = _Decay(_by_chunk(g[:, self.tokens, :, None], self.c), n)
            self.q_start = self.q * self.decay.start
            self.k_start, self.k_end = self.k * self.decay.start_rows, self.k * self.decay.end_rows
            self.whole = self.whole * self.decay.whole
        self.scores = self.causal_scores(self.q @ self.k.mT)
        self.within = self.causal_within(self.k @ self.k.mT)

    def solve(self, x: Tensor) -> Tensor:
        """`e` of `e_r + sum_{s < r} within[r, s] beta_s e_s = x_r`."""
        upper = (self.within * self.beta.mT).mT
        return torch.linalg.solve_triangular(upper, x.mT, upper=True, left=False, unitriangular=True).mT

    def solve_transposed(self, x: Tensor) -> Tensor:
        """`f` of `f_r + sum_{s > r} within[s, r] beta_s f_s = x_r`."""
        lower = self.within * self.beta
        return torch.linalg.solve_triangular(lower, x.mT, upper=False, left=False, unitriangular=True).mT

    def causal_scores(self, pairs: Tensor) -> Tensor:
        """Pairs of a token and a row `[M, Z, c, C]`, faded; zero for the rows of later tokens. In place."""
        if self.decay is not None:
            pairs *= self.decay.scores
        pairs.unflatten(-1, (-1, self.n)).movedim(-1, -3).tril_()
        return pairs

    def causal_within(self, pairs: Tensor) -> Tensor:
        """Pairs of rows `[M, Z, C, C]`, faded; zero but for earlier rows. In place."""
        if self.decay is not None:
            pairs *= self.decay.within
        return pairs.tril_(-1)

    def kept_tokens(self, values: Tensor) -> Tensor:
        """Values `[M, Z, c, ...]` that come from the start's state, none where it has been cleared. In place."""
        return values if self.cleared is None else values.masked_fill_(self.cleared, 0)

    def kept_rows(self, values: Tensor) -> Tensor:
        """The same for `[M, Z, C, ...]`."""
        return values if self.cleared is None else values.masked_fill_(self.cleared.repeat_interleave(self.n, -2), 0)

    def kept_states(self, values: Tensor) -> Tensor:
        """The same for `[M, Z, K, V]` that comes from the start's state to the end. In place."""
        return values if self.cleared is None else values.masked_fill_(self.cleared[..., -1:, :], 0)

    def kept_state(self, state: Tensor, m: int) -> Tensor:
        """The state `[Z, K, V]` before chunk m as its end sees it."""
        return state if self.cleared is None else state.masked_fill(self.cleared[m, :, -1:], 0)

    def sum_rows(self, pairs: Tensor) -> Tensor:  # [M, Z, C, ...] -> [M, Z, c, ...]
        return pairs if self.n == 1 else pairs.unflatten(-2, (-1, self.n)).sum(-2)

    def sum_columns(self, pairs: Tensor) -> Tensor:  # [M, Z, ..., C] -> [M, Z, ..., c]
        return pairs if self.n == 1 else pairs.unflatten(-1, (-1, self.n)).sum(-1)


class _Decay:
    """What is left, at a token (first axis) or at the chunk's end, of what was there at another or at the start.

    Sums of log decays between any two moments, with nothing subtracted: an entry may be -inf.
    """

    def __init__(self, g: Tensor, n: int):  # [M, Z, c, 1]
        steps = F.pad(g, (0, 0, 0, 1)).expand(*g.shape[:2], -1, g.shape[2] + 1)
        left = steps.tril().cumsum(-2).exp()
        self.scores = left[..., :-1, 1:].repeat_interleave(n, -1)
        self.within = self.scores.repeat_interleave(n, -2)
        self.start, self.whole = left[..., :-1, :1], left[..., -1:, :1]
        self.start_rows = self.start.repeat_interleave(n, -2)
        self.end_rows = left[..., -1:, 1:].mT.repeat_interleave(n, -2)


def _decay_gradient(pairs: Tensor, start: Tensor, end: Tensor, whole: Tensor) -> Tensor:
    """Gradient of g `[M, Z, c]`, from those of the sums of g between two moments: a step is in each sum across it."""
    sums = torch.cat([torch.cat([start, pairs], -1), torch.cat([whole, end], -1)], -2)
    return sums.flip(-2).cumsum(-2).flip(-2).tril().sum(-1)[..., :-1]


def _tokens(n: int) -> int:
    return max(1, ROWS // n)


def _n_chunk(T: int, n: int) -> int:
    return -(-T // _tokens(n))


def _stretches(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    g: Tensor | None,
    reset: Tensor | None,
    between: Tensor,
    n: int,
) -> Iterator[tuple[_Stretch, Tensor]]:
    """The stretches with the states `[M + 1, Z, K, V]` around their chunks."""
    T, length = q.shape[1], STRETCH * _tokens(n)
    states = between.flatten(1, 2)
    for i, start in enumerate(range(0, T, length)):
        tokens = slice(start, min(start + length, T))
        yield _Stretch(q, k, v, beta, g, reset, tokens, n), states[i * STRETCH : (i + 1) * STRETCH + 1]


def _by_chunk(tensor: Tensor, size: int) -> Tensor:
    """`[B, T, H, ...]` to `[M, B * H, size, ...]`, with zeros after the end."""
    M = -(-tensor.shape[1] // size)
    if missing := M * size - tensor.shape[1]:
        tensor = torch.cat([tensor, tensor.new_zeros(tensor.shape[0], missing, *tensor.shape[2:])], 1)
    return tensor.unflatten(1, (M, size)).movedim((1, 3), (0, 2)).flatten(1, 2)


def _put(target: Tensor, part: slice, values: Tensor) -> None:
    """Write `[M, B * H, size, ...]` to its place in time in `[B, T, H, ...]`."""
    by_time = values.unflatten(1, (target.shape[0], -1)).movedim((0, 2), (1, 3)).flatten(1, 2)
    target[:, part] = by_time[:, : part.stop - part.start]


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    q, k, v, beta, g, reset, _, ctx.n = inputs
    ctx.save_for_backward(q, k, v, beta, g, reset, output[2])


def _backward(ctx, grad_y, grad_state, _):  # type: ignore[no-untyped-def]
    saved = ctx.saved_tensors
    dq, dk, dv, dbeta, dg, dS = _delta_rule_backward(grad_y.contiguous(), grad_state.contiguous(), *saved, ctx.n)
    return dq, dk, dv, dbeta, None if saved[4] is None else dg, None, dS, None


_delta_rule.register_autograd(_backward, setup_context=_setup_context)


@_delta_rule.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    g: Tensor | None,
    reset: Tensor | None,
    initial_state: Tensor,
    n: int,
) -> tuple[Tensor, Tensor, Tensor]:
    between = initial_state.new_empty(_n_chunk(q.shape[1], n) + 1, *initial_state.shape)
    return v.new_empty(*q.shape[:3], v.shape[-1]), initial_state.new_empty(initial_state.shape), between


@_delta_rule_backward.register_fake
def _(grad_y, grad_state, q, k, v, beta, g, *_):  # type: ignore[no-untyped-def]
    inputs = (q, k, v, beta, q.new_empty(0) if g is None else g, grad_state)
    return tuple(tensor.new_empty(tensor.shape) for tensor in inputs)
