"""The GPU kernels of `delta_rule`; imported when one is first launched.

The R = T * N rows, N writes for each token, are cut in n chunks of BT. A token's decay belongs to its first row, its
query to its last; a chunk may end within a token. Between kernels, float32: states before each chunk and their
gradients after it `[B * H, n, K, V]`, scores and inverses `[B * H, n, BT, BT]`, errors `[B, R, H, V]`. The formulas
stand in README.md.
"""

import triton
import triton.language as tl

from helixwave_kernels.triton_kernels import decayed


@triton.jit
def _lines(p, o_line, b_mask, o_col, n_col):
    """Some lines of a tensor whose last axis is `n_col` wide, `[len(o_line), len(o_col)]`; zeros where masked."""
    b_mask = b_mask[:, None] & (o_col < n_col)[None, :]
    return tl.load(p + o_line[:, None] * n_col + o_col[None, :], mask=b_mask, other=0).to(tl.float32)


@triton.jit
def _store_lines(p, b_value, o_line, b_mask, o_col, n_col):
    b_mask = b_mask[:, None] & (o_col < n_col)[None, :]
    tl.store(p + o_line[:, None] * n_col + o_col[None, :], b_value.to(p.dtype.element_ty), mask=b_mask)


@triton.jit
def _rows(c, b, h, T, N: tl.constexpr, H: tl.constexpr, BT: tl.constexpr):
    """A chunk's rows: their lines in k, v and beta, the tokens' lines, and which rows exist, decay and are read."""
    o_r = c * BT + tl.arange(0, BT)
    b_in = o_r < T * N
    o_row = (b * T * N + o_r) * H + h
    o_token = (b * T + o_r // N) * H + h
    return o_row, o_token, b_in, b_in & (o_r % N == 0), b_in & (o_r % N == N - 1)


@triton.jit
def _start(p_g, o_token, b_first):
    """What is left at each row of the state at the chunk's start, `[BT]`."""
    if p_g is None:
        b_start = tl.where(b_first, 1.0, 1.0)
    else:
        b_start = tl.exp(tl.cumsum(tl.load(p_g + o_token, mask=b_first, other=0), 0))
    return b_start


@triton.jit
def _end(p_g, c, b, h, T, N: tl.constexpr, H: tl.constexpr, BT: tl.constexpr):
    """What is left at the chunk's end of what each row writes, `[BT]`."""
    o_next = c * BT + 1 + tl.arange(0, BT)
    b_steps = (o_next < (c + 1) * BT) & (o_next < T * N) & (o_next % N == 0)
    if p_g is None:
        b_end = tl.where(b_steps, 1.0, 1.0)
    else:
        b_g = tl.load(p_g + (b * T + o_next // N) * H + h, mask=b_steps, other=0)
        b_end = tl.exp(tl.cumsum(b_g, 0, reverse=True))
    return b_end


@triton.jit
def _last(b_x, BT: tl.constexpr):
    return tl.sum(tl.where(tl.arange(0, BT) == BT - 1, b_x, 0.0), 0)


@triton.jit
def _pairs(p_g, o_token, b_first, BT: tl.constexpr):
    """What is left at row i of what row j <= i writes, zero for others, `[BT, BT]`; sums only, of what may be -inf."""
    o_i = tl.arange(0, BT)
    b_sums = tl.zeros((BT, BT), tl.float32)
    if p_g is not None:
        b_g = tl.load(p_g + o_token, mask=b_first, other=0)
        b_sums = tl.cumsum(tl.where(o_i[:, None] > o_i[None, :], b_g[:, None], b_sums), 0)
    return tl.where(o_i[:, None] >= o_i[None, :], tl.exp(b_sums), 0.0)


@triton.jit
def _inverse_of_blocks(b_A, BT: tl.constexpr):
    """The inverses of the blocks of 16 on the diagonal of I + A, A strictly lower, row by row."""
    NB: tl.constexpr = BT // 16
    o_b, o_i = tl.arange(0, NB), tl.arange(0, 16)
    b_same = (o_b[:, None] == o_b[None, :])[:, None, :, None]  # [NB, 1, NB, 1]
    b_blocks = tl.sum(tl.where(b_same, tl.reshape(b_A, (NB, 16, NB, 16)), 0.0), 2)  # [NB, 16, 16]
    b_identity = tl.where(o_i[:, None] == o_i[None, :], 1.0, 0.0)[None, :, :]
    b_X = b_identity + tl.zeros((NB, 16, 16), tl.float32)
    for i in range(1, 16):
        b_is_row = (o_i == i)[None, :, None]
        b_row = tl.sum(tl.where(b_is_row, b_blocks, 0.0), 1)  # [NB, 16]
        b_known = tl.sum(b_row[:, :, None] * b_X, 1)  # [NB, 16]
        b_X = tl.where(b_is_row, b_identity - b_known[:, None, :], b_X)
    return tl.reshape(tl.where(b_same, b_X[:, :, None, :], 0.0), (BT, BT))


@triton.jit
def _inverse(b_A, BT: tl.constexpr):
    """The inverse of I + A for a strictly lower A: of its blocks D on the diagonal, then of I + D (A outside them)."""
    b_D = _inverse_of_blocks(b_A, BT)
    if BT == 16:
        b_X = b_D
    else:
        o_i = tl.arange(0, BT)
        b_outside = (o_i // 16)[:, None] != (o_i // 16)[None, :]
        b_M = tl.dot(b_D, tl.where(b_outside, b_A, 0.0), input_precision="ieee")
        # the powers of M end before the number of blocks: (I + M)^-1 = (I - M) (I + M^2)
        b_X = b_D - tl.dot(b_M, b_D, input_precision="ieee")
        if BT > 32:
            b_M = tl.dot(b_M, b_M, input_precision="ieee")
            b_X += tl.dot(b_M, b_X, input_precision="ieee")
    return b_X


@triton.jit
def _within(p_k, b_pairs, o_row, b_in, K: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr):
    """How much row i recalls of what row j < i writes, zero for others, `[BT, BT]`."""
    o_i = tl.arange(0, BT)
    b_within = tl.zeros((BT, BT), tl.float32)
    for start in range(0, K, BK):
        b_k = _lines(p_k, o_row, b_in, start + tl.arange(0, BK), K)
        b_within += tl.dot(b_k, tl.trans(b_k), input_precision="ieee")
    return tl.where(o_i[:, None] > o_i[None, :], b_within * b_pairs, 0.0)


@triton.jit
def delta_rule_pairs_fwd_kernel(
    p_q, p_k, p_beta, p_g, p_scores, p_inverse, scale, T, n,
    N: tl.constexpr, H: tl.constexpr, K: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """How tokens read the rows of their chunk, and what takes the rows' targets to their errors."""
    c, z = tl.program_id(0), tl.program_id(1)
    b, h = (z // H).to(tl.int64), z % H
    o_row, o_token, b_in, b_first, b_read = _rows(c, b, h, T, N, H, BT)
    b_pairs = _pairs(p_g, o_token, b_first, BT)
    b_within = _within(p_k, b_pairs, o_row, b_in, K, BT, BK)
    b_scores = tl.zeros((BT, BT), tl.float32)
    for start in range(0, K, BK):
        o_k = start + tl.arange(0, BK)
        b_q = _lines(p_q, o_token, b_read, o_k, K)
        b_scores += tl.dot(b_q, tl.trans(_lines(p_k, o_row, b_in, o_k, K)), input_precision="ieee")
    b_beta = tl.load(p_beta + o_row, mask=b_in, other=0).to(tl.float32)
    o_i = tl.arange(0, BT)
    o_pair = (z.to(tl.int64) * n + c) * BT * BT + o_i[:, None] * BT + o_i[None, :]
    tl.store(p_scores + o_pair, b_scores * b_pairs * scale)
    tl.store(p_inverse + o_pair, _inverse(b_within * b_beta[None, :], BT))


@triton.jit
def delta_rule_states_fwd_kernel(
    p_k, p_v, p_beta, p_g, p_inverse, p_first, p_states, p_errors, p_last, T, n,
    N: tl.constexpr, H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr,
    BV: tl.constexpr,
):  # fmt: skip
    """From chunk to chunk: the states before each, and the errors of its rows."""
    z = tl.program_id(1)
    b, h = (z // H).to(tl.int64), z % H
    z = z.to(tl.int64)
    o_i, o_k = tl.arange(0, BT), tl.arange(0, BK)
    o_v = tl.program_id(0) * BV + tl.arange(0, BV)
    b_S = tl.zeros((BK, BV), tl.float32)
    if p_first is not None:
        b_S = _lines(p_first, z * K + o_k, o_k < K, o_v, V)
    for c in range(n):
        _store_lines(p_states, b_S, (z * n + c) * K + o_k, o_k < K, o_v, V)
        o_row, o_token, b_in, b_first, _ = _rows(c, b, h, T, N, H, BT)
        b_start = _start(p_g, o_token, b_first)
        b_k = _lines(p_k, o_row, b_in, o_k, K)
        b_recalled = decayed(b_start[:, None], tl.dot(b_k, b_S, input_precision="ieee"))
        b_inverse = tl.load(p_inverse + (z * n + c) * BT * BT + o_i[:, None] * BT + o_i[None, :])
        b_x = _lines(p_v, o_row, b_in, o_v, V) - b_recalled
        b_e = tl.dot(b_inverse, b_x, input_precision="ieee")
        _store_lines(p_errors, b_e, o_row, b_in, o_v, V)
        b_weight = tl.load(p_beta + o_row, mask=b_in, other=0).to(tl.float32) * _end(p_g, c, b, h, T, N, H, BT)
        b_S = decayed(_last(b_start, BT), b_S)
        b_S += tl.dot(tl.trans(b_k * b_weight[:, None]), b_e, input_precision="ieee")
    _store_lines(p_last, b_S, z * K + o_k, o_k < K, o_v, V)


@triton.jit
def delta_rule_fwd_kernel(
    p_q, p_beta, p_g, p_scores, p_states, p_errors, p_y, scale, T, n,
    N: tl.constexpr, H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr,
    BV: tl.constexpr,
):  # fmt: skip
    """Outputs of one chunk."""
    c, z = tl.program_id(0), tl.program_id(2)
    b, h = (z // H).to(tl.int64), z % H
    z = z.to(tl.int64)
    o_i = tl.arange(0, BT)
    o_v = tl.program_id(1) * BV + tl.arange(0, BV)
    o_row, o_token, b_in, b_first, b_read = _rows(c, b, h, T, N, H, BT)
    b_y = tl.zeros((BT, BV), tl.float32)
    for start in range(0, K, BK):
        o_k = start + tl.arange(0, BK)
        b_S = _lines(p_states, (z * n + c) * K + o_k, o_k < K, o_v, V)
        b_y += tl.dot(_lines(p_q, o_token, b_read, o_k, K), b_S, input_precision="ieee")
    b_y = decayed(_start(p_g, o_token, b_first)[:, None] * scale, b_y)
    b_scores = tl.load(p_scores + (z * n + c) * BT * BT + o_i[:, None] * BT + o_i[None, :])
    b_beta = tl.load(p_beta + o_row, mask=b_in, other=0).to(tl.float32)
    b_u = _lines(p_errors, o_row, b_in, o_v, V) * b_beta[:, None]
    b_y += tl.dot(b_scores, b_u, input_precision="ieee")
    _store_lines(p_y, b_y, o_token, b_read, o_v, V)


@triton.jit
def delta_rule_states_bwd_kernel(
    p_grad, p_q, p_k, p_beta, p_g, p_scores, p_inverse, p_last_grad, p_ends, p_targets_grad, p_first_grad, scale, T, n,
    N: tl.constexpr, H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr,
    BV: tl.constexpr,
):  # fmt: skip
    """From the last chunk to the first: gradients of the state after each, and of the targets of its rows."""
    z = tl.program_id(1)
    b, h = (z // H).to(tl.int64), z % H
    z = z.to(tl.int64)
    o_i, o_k = tl.arange(0, BT), tl.arange(0, BK)
    o_v = tl.program_id(0) * BV + tl.arange(0, BV)
    b_dS = _lines(p_last_grad, z * K + o_k, o_k < K, o_v, V)
    for later in range(n):
        c = n - 1 - later
        _store_lines(p_ends, b_dS, (z * n + c) * K + o_k, o_k < K, o_v, V)
        o_row, o_token, b_in, b_first, b_read = _rows(c, b, h, T, N, H, BT)
        b_start = _start(p_g, o_token, b_first)
        b_do = _lines(p_grad, o_token, b_read, o_v, V)
        b_k = _lines(p_k, o_row, b_in, o_k, K)
        # the transposed matrices are loaded as such
        o_pair = (z * n + c) * BT * BT + o_i[None, :] * BT + o_i[:, None]
        b_du = tl.dot(tl.load(p_scores + o_pair), b_do, input_precision="ieee")
        b_end = _end(p_g, c, b, h, T, N, H, BT)
        b_du += tl.dot(b_k * b_end[:, None], b_dS, input_precision="ieee")
        b_beta = tl.load(p_beta + o_row, mask=b_in, other=0).to(tl.float32)
        b_dx = tl.dot(tl.load(p_inverse + o_pair), b_du * b_beta[:, None], input_precision="ieee")
        _store_lines(p_targets_grad, b_dx, o_row, b_in, o_v, V)
        b_q = _lines(p_q, o_token, b_read, o_k, K) * (b_start * scale)[:, None]
        b_dS = decayed(_last(b_start, BT), b_dS)
        b_dS += tl.dot(tl.trans(b_q), b_do, input_precision="ieee")
        b_dS -= tl.dot(tl.trans(b_k * b_start[:, None]), b_dx, input_precision="ieee")
    _store_lines(p_first_grad, b_dS, z * K + o_k, o_k < K, o_v, V)


@triton.jit
def delta_rule_bwd_kernel(
    p_grad, p_q, p_k, p_beta, p_g, p_scores, p_states, p_errors, p_ends, p_targets_grad,
    p_q_grad, p_k_grad, p_beta_grad, p_g_grad, scale, T, n,
    N: tl.constexpr, H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr,
    BV: tl.constexpr,
):  # fmt: skip
    """Gradients of one chunk's queries, keys, step sizes and decays."""
    c, z = tl.program_id(0), tl.program_id(1)
    b, h = (z // H).to(tl.int64), z % H
    z = z.to(tl.int64)
    o_i = tl.arange(0, BT)
    b_earlier = o_i[:, None] > o_i[None, :]
    o_row, o_token, b_in, b_first, b_read = _rows(c, b, h, T, N, H, BT)
    b_beta = tl.load(p_beta + o_row, mask=b_in, other=0).to(tl.float32)

    # products of what row i (first of them as a token) gets for its result with the error of row j
    b_read_pairs = tl.zeros((BT, BT), tl.float32)
    b_write_pairs = tl.zeros((BT, BT), tl.float32)
    for v in range(0, V, BV):
        o_v = v + tl.arange(0, BV)
        b_e = tl.trans(_lines(p_errors, o_row, b_in, o_v, V))
        b_read_pairs += tl.dot(_lines(p_grad, o_token, b_read, o_v, V), b_e, input_precision="ieee")
        b_write_pairs += tl.dot(_lines(p_targets_grad, o_row, b_in, o_v, V), b_e, input_precision="ieee")
    b_pairs = _pairs(p_g, o_token, b_first, BT)
    b_within = _within(p_k, b_pairs, o_row, b_in, K, BT, BK)
    b_scores = tl.load(p_scores + (z * n + c) * BT * BT + o_i[:, None] * BT + o_i[None, :])
    b_sums = b_scores * b_read_pairs - b_within * b_write_pairs
    b_beta_grad = tl.sum(b_sums, 0)
    b_sums *= b_beta[None, :]
    b_scores_grad = b_read_pairs * b_pairs * (scale * b_beta)[None, :]
    b_within_grad = -tl.where(b_earlier, b_write_pairs * b_pairs * b_beta[None, :], 0.0)
    b_within_grad += tl.trans(b_within_grad)

    b_start = _start(p_g, o_token, b_first)
    b_end = _end(p_g, c, b, h, T, N, H, BT)
    b_start_grad = tl.zeros((BT,), tl.float32)
    b_end_grad = tl.zeros((BT,), tl.float32)
    b_whole_grad = tl.zeros((BK,), tl.float32)
    for k in range(0, K, BK):
        o_k = k + tl.arange(0, BK)
        o_state = (z * n + c) * K + o_k
        b_dq = tl.zeros((BT, BK), tl.float32)
        b_dk_start = tl.zeros((BT, BK), tl.float32)
        b_dk_end = tl.zeros((BT, BK), tl.float32)
        for v in range(0, V, BV):
            o_v = v + tl.arange(0, BV)
            b_S = _lines(p_states, o_state, o_k < K, o_v, V)
            b_dS = _lines(p_ends, o_state, o_k < K, o_v, V)
            b_whole_grad += tl.sum(b_S * b_dS, 1)
            b_S = tl.trans(b_S)
            b_dq += tl.dot(_lines(p_grad, o_token, b_read, o_v, V), b_S, input_precision="ieee")
            b_dk_start += tl.dot(_lines(p_targets_grad, o_row, b_in, o_v, V), b_S, input_precision="ieee")
            b_dk_end += tl.dot(_lines(p_errors, o_row, b_in, o_v, V), tl.trans(b_dS), input_precision="ieee")
        b_q, b_k = _lines(p_q, o_token, b_read, o_k, K), _lines(p_k, o_row, b_in, o_k, K)
        b_dq = decayed((b_start * scale)[:, None], b_dq)
        b_dk_start = decayed(b_start[:, None], b_dk_start)
        b_dk_end *= b_end[:, None]
        b_written = tl.sum(b_k * b_dk_end, 1)
        b_beta_grad += b_written
        b_end_grad += b_written * b_beta
        b_start_grad += tl.sum(b_q * b_dq - b_k * b_dk_start, 1)
        b_dq += tl.dot(b_scores_grad, b_k, input_precision="ieee")
        b_dk = b_dk_end * b_beta[:, None] - b_dk_start
        b_dk += tl.dot(tl.trans(b_scores_grad), b_q, input_precision="ieee")
        b_dk += tl.dot(b_within_grad, b_k, input_precision="ieee")
        _store_lines(p_q_grad, b_dq, o_token, b_read, o_k, K)
        _store_lines(p_k_grad, b_dk, o_row, b_in, o_k, K)
    tl.store(p_beta_grad + o_row, b_beta_grad.to(p_beta_grad.dtype.element_ty), mask=b_in)
    if p_g is not None:
        # a decay is in each sum from a moment before it to one after it, the chunk's start and end among them
        b_across = tl.where(b_earlier, tl.cumsum(b_sums, 0, reverse=True) + b_end_grad[None, :], 0.0)
        b_g_grad = tl.sum(b_across, 1) + tl.cumsum(b_start_grad, 0, reverse=True)
        b_g_grad += decayed(_last(b_start, BT), tl.sum(b_whole_grad, 0))
        tl.store(p_g_grad + o_token, b_g_grad, mask=b_first)
