"""The GPU kernels of `gated_linear_attention` with a decay for each key dimension; imported when one is first launched.

The sequence is cut in n chunks of BT steps, and these in parts of BC. States are `[B, n, H, K, V]`, the scores of the
pairs within a chunk `[B, n, H, BT, BT]`, without meaning above the diagonal; both float32. Logarithmic decays are only
ever added up, never subtracted, so that none is too strong. The derivation is in README.md.
"""

import triton
import triton.language as tl

from helixwave_kernels.ssd.triton_kernels import load_block, place, store_block


@triton.jit
def _log(p_log_decay, p_reset, b, h, o_t, o_k, begin, end, T, H, K, CLEARED: tl.constexpr):
    """Logarithmic decays of the steps from begin to before end, zeros for others; o_t and o_k broadcast."""
    b_in_t = (o_t >= begin) & (o_t < end) & (o_t < T)
    b_log = tl.load(p_log_decay + ((b * T + o_t) * H + h) * K + o_k, mask=b_in_t & (o_k < K), other=0).to(tl.float32)
    if p_reset is not None:
        b_log = tl.where(tl.load(p_reset + b * T + o_t, mask=b_in_t, other=0) != 0, CLEARED, b_log)
    return tl.maximum(b_log, CLEARED)


@triton.jit
def gla_states_fwd_kernel(
    p_k, p_v, p_log_decay, p_reset, p_first, p_states, p_last, scale, T, n, H: tl.constexpr, K: tl.constexpr,
    V: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, CLEARED: tl.constexpr,
    REVERSE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """States before each chunk; in reverse, with q for k and y's gradient for v, gradients of the states after it."""
    _, b, h = place(1, H)
    o_k = tl.program_id(1) * BK + tl.arange(0, BK)
    o_v = tl.program_id(2) * BV + tl.arange(0, BV)
    b_S = tl.zeros((BK, BV), tl.float32)
    if p_first is not None:
        b_S += load_block(p_first + (b * H + h) * K * V, o_k, o_v, K, V, V, 1)
    for i in range(n):
        c = n - 1 - i if REVERSE else i
        begin, end = c * BT, (c + 1) * BT
        o_t = begin + tl.arange(0, BT)
        store_block(p_states + ((b * n + c) * H + h) * K * V, b_S, o_k, o_v, K, V, V)
        b_log = _log(p_log_decay, p_reset, b, h, o_t[None, :], o_k[:, None], begin, end, T, H, K, CLEARED)  # [BK, BT]
        b_across = tl.exp(tl.sum(b_log, 1))[:, None]
        if REVERSE:
            b_weight = tl.exp(tl.cumsum(b_log, 1))
        else:
            b_log = _log(p_log_decay, p_reset, b, h, o_t[None, :] + 1, o_k[:, None], begin, end, T, H, K, CLEARED)
            b_weight = tl.exp(tl.cumsum(b_log, 1, reverse=True))
        # what has no weight is not read, be it not a number
        o_t = tl.where(tl.max(b_weight, 0) == 0, T, o_t)
        b_k = load_block(p_k + (b * T * H + h) * K, o_k, o_t, K, T, 1, H * K) * b_weight  # [BK, BT]
        b_v = load_block(p_v + (b * T * H + h) * V, o_t, o_v, T, V, H * V, 1)  # [BT, BV]
        b_S = tl.where(b_across == 0, 0.0, b_across * b_S)
        b_S += tl.dot(b_k, b_v, input_precision=PRECISION) * scale
    store_block(p_last + (b * H + h) * K * V, b_S, o_k, o_v, K, V, V)


@triton.jit
def gla_scores_fwd_kernel(
    p_q, p_k, p_log_decay, p_reset, p_scores, T, n, H: tl.constexpr, K: tl.constexpr, BT: tl.constexpr,
    BC: tl.constexpr, BK: tl.constexpr, CLEARED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The scores of the steps of one part with those of its chunk up to them."""
    c, b, h = place(n, H)
    part = tl.program_id(1)
    o_row = tl.arange(0, BC)
    begin = c * BT + part * BC
    o_i = begin + o_row
    o_chunk = c * BT + tl.arange(0, BT)
    p_rows = (b * T * H + h) * K
    p_scores += ((b * n + c) * H + h) * BT * BT + part * BC * BT
    for other in range(part):
        # the decay between the two parts splits at the beginning of the later one
        other_end = c * BT + (other + 1) * BC
        o_j = c * BT + other * BC + o_row
        b_scores = tl.zeros((BC, BC), tl.float32)
        for start in range(0, K, BK):
            o_k = start + tl.arange(0, BK)
            b_part = _log(p_log_decay, p_reset, b, h, o_i[:, None], o_k[None, :], begin, T, T, H, K, CLEARED)
            b_q = load_block(p_q + p_rows, o_i, o_k, T, K, H * K, 1) * tl.exp(tl.cumsum(b_part, 0))  # [BC, BK]
            b_chunk = _log(
                p_log_decay, p_reset, b, h, o_chunk[None, :], o_k[:, None], other_end, begin, T, H, K, CLEARED
            )
            b_between = tl.sum(b_chunk, 1)[:, None]
            b_other = _log(p_log_decay, p_reset, b, h, o_j[None, :] + 1, o_k[:, None], 0, other_end, T, H, K, CLEARED)
            b_weight = tl.exp(tl.cumsum(b_other, 1, reverse=True) + b_between)
            b_k = load_block(p_k + p_rows, o_k, o_j, K, T, 1, H * K) * b_weight  # [BK, BC]
            b_scores += tl.dot(b_q, b_k, input_precision=PRECISION)
        store_block(p_scores + other * BC, b_scores, o_row, o_row, BC, BC, BT)
    # within the part, one column after the other from the last: the decays from it to later steps grow step by step
    b_scores = tl.zeros((BC, BC), tl.float32)
    for start in range(0, K, BK):
        o_k = start + tl.arange(0, BK)
        b_q = load_block(p_q + p_rows, o_i, o_k, T, K, H * K, 1)
        b_log = tl.zeros((BC, BK), tl.float32)
        for column in range(BC):
            j = BC - 1 - column
            b_log += _after(p_log_decay, p_reset, b, h, begin, j, o_row, o_k, T, H, K, BC, CLEARED)
            b_k = load_block(p_k + p_rows, begin + j + tl.zeros((1,), tl.int32), o_k, T, K, H * K, 1)  # [1, BK]
            b_column = tl.sum(b_q * tl.exp(b_log) * b_k, 1)
            b_scores += tl.where(o_row[None, :] == j, b_column[:, None], 0.0)
    store_block(p_scores + part * BC, b_scores, o_row, o_row, BC, BC, BT)


@triton.jit
def _after(p_log_decay, p_reset, b, h, begin, j, o_row, o_k, T, H, K, BC: tl.constexpr, CLEARED: tl.constexpr):
    """The logarithmic decay of step j + 1 for the rows after j of the part that begins at `begin`, `[BC, BK]`."""
    o_t = begin + j + 1 + tl.zeros((1, 1), tl.int32)
    b_log = _log(p_log_decay, p_reset, b, h, o_t, o_k[None, :], begin, begin + BC, T, H, K, CLEARED)
    return tl.where(o_row[:, None] > j, b_log, 0.0)


@triton.jit
def gla_fwd_kernel(
    p_q, p_v, p_log_decay, p_reset, p_scores, p_starts, p_y, scale, T, n, H: tl.constexpr, K: tl.constexpr,
    V: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, CLEARED: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The outputs of one chunk."""
    c, b, h = place(n, H)
    o_row = tl.arange(0, BT)
    o_t = c * BT + o_row
    o_v = tl.program_id(1) * BV + tl.arange(0, BV)
    o_chunk = (b * n + c) * H + h
    b_y = tl.zeros((BT, BV), tl.float32)
    for start in range(0, K, BK):
        o_k = start + tl.arange(0, BK)
        b_log = _log(p_log_decay, p_reset, b, h, o_t[:, None], o_k[None, :], 0, T, T, H, K, CLEARED)
        b_weight = tl.exp(tl.cumsum(b_log, 0))  # [BT, BK]
        b_q = load_block(p_q + (b * T * H + h) * K, o_t, o_k, T, K, H * K, 1) * b_weight
        b_start = load_block(p_starts + o_chunk * K * V, o_k, o_v, K, V, V, 1)  # [BK, BV]
        b_read = tl.dot(b_q, b_start, input_precision=PRECISION)
        b_y += tl.where((tl.max(b_weight, 1) == 0)[:, None], 0.0, b_read)
    b_scores = load_block(p_scores + o_chunk * BT * BT, o_row, o_row, BT, BT, BT, 1)
    b_scores = tl.where(o_row[:, None] >= o_row[None, :], b_scores, 0.0)
    b_v = load_block(p_v + (b * T * H + h) * V, o_t, o_v, T, V, H * V, 1)  # [BT, BV]
    b_y += tl.dot(b_scores, b_v, input_precision=PRECISION)
    store_block(p_y + (b * T * H + h) * V, b_y * scale, o_t, o_v, T, V, H * V)


@triton.jit
def gla_scores_bwd_kernel(
    p_grad, p_v, p_scores_grad, scale, T, n, H: tl.constexpr, V: tl.constexpr, BT: tl.constexpr, BV: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of the scores of one chunk."""
    c, b, h = place(n, H)
    o_row = tl.arange(0, BT)
    o_t = c * BT + o_row
    b_scores_grad = tl.zeros((BT, BT), tl.float32)
    for start in range(0, V, BV):
        o_v = start + tl.arange(0, BV)
        b_grad = load_block(p_grad + (b * T * H + h) * V, o_t, o_v, T, V, H * V, 1)  # [BT, BV]
        b_v = load_block(p_v + (b * T * H + h) * V, o_v, o_t, V, T, 1, H * V)  # [BV, BT]
        b_scores_grad += tl.dot(b_grad, b_v, input_precision=PRECISION)
    store_block(p_scores_grad + ((b * n + c) * H + h) * BT * BT, b_scores_grad * scale, o_row, o_row, BT, BT, BT)


@triton.jit
def gla_v_bwd_kernel(
    p_grad, p_k, p_log_decay, p_reset, p_scores, p_ends, p_v_grad, scale, T, n, H: tl.constexpr, K: tl.constexpr,
    V: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, CLEARED: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of v in one chunk."""
    c, b, h = place(n, H)
    o_row = tl.arange(0, BT)
    o_t = c * BT + o_row
    o_v = tl.program_id(1) * BV + tl.arange(0, BV)
    o_chunk = (b * n + c) * H + h
    b_scores = load_block(p_scores + o_chunk * BT * BT, o_row, o_row, BT, BT, 1, BT)  # [j, i]
    b_scores = tl.where(o_row[:, None] <= o_row[None, :], b_scores, 0.0)
    b_grad = load_block(p_grad + (b * T * H + h) * V, o_t, o_v, T, V, H * V, 1)  # [BT, BV]
    b_v_grad = tl.dot(b_scores, b_grad, input_precision=PRECISION) * scale
    for start in range(0, K, BK):
        o_k = start + tl.arange(0, BK)
        b_log = _log(p_log_decay, p_reset, b, h, o_t[:, None] + 1, o_k[None, :], 0, (c + 1) * BT, T, H, K, CLEARED)
        b_weight = tl.exp(tl.cumsum(b_log, 0, reverse=True))  # [BT, BK]
        b_k = load_block(p_k + (b * T * H + h) * K, o_t, o_k, T, K, H * K, 1) * b_weight
        b_end = load_block(p_ends + o_chunk * K * V, o_k, o_v, K, V, V, 1)  # [BK, BV]
        b_written_grad = tl.dot(b_k, b_end, input_precision=PRECISION)
        b_v_grad += tl.where((tl.max(b_weight, 1) == 0)[:, None], 0.0, b_written_grad)
    store_block(p_v_grad + (b * T * H + h) * V, b_v_grad, o_t, o_v, T, V, H * V)


@triton.jit
def gla_qk_bwd_kernel(
    p_grad, p_q, p_k, p_v, p_log_decay, p_reset, p_scores_grad, p_starts, p_ends, p_q_grad, p_k_grad, p_leaving,
    p_entering, scale, T, n, H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, BT: tl.constexpr, BC: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, CLEARED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of q and k in one part of a chunk, and of the decays from the chunk's start and to its end."""
    c, b, h = place(n, H)
    part = tl.program_id(2)
    o_row = tl.arange(0, BC)
    chunk_begin, chunk_end = c * BT, (c + 1) * BT
    begin, end = chunk_begin + part * BC, chunk_begin + (part + 1) * BC
    o_i = begin + o_row
    o_chunk = chunk_begin + tl.arange(0, BT)
    o_k = tl.program_id(1) * BK + tl.arange(0, BK)
    p_rows, p_values = (b * T * H + h) * K, (b * T * H + h) * V
    o_state = ((b * n + c) * H + h) * K * V
    p_scores_grad += ((b * n + c) * H + h) * BT * BT
    b_part = _log(p_log_decay, p_reset, b, h, o_i[:, None], o_k[None, :], begin, end, T, H, K, CLEARED)
    b_from = tl.cumsum(b_part, 0)  # [BC, BK]
    b_part = _log(p_log_decay, p_reset, b, h, o_i[:, None] + 1, o_k[None, :], begin, end, T, H, K, CLEARED)
    b_to = tl.cumsum(b_part, 0, reverse=True)
    # by way of the states
    b_q_grad = tl.zeros((BC, BK), tl.float32)
    b_written_grad = tl.zeros((BC, BK), tl.float32)
    for start in range(0, V, BV):
        o_v = start + tl.arange(0, BV)
        b_grad = load_block(p_grad + p_values, o_i, o_v, T, V, H * V, 1)  # [BC, BV]
        b_start = load_block(p_starts + o_state, o_v, o_k, V, K, 1, V)  # [BV, BK]
        b_q_grad += tl.dot(b_grad, b_start, input_precision=PRECISION) * scale
        b_v = load_block(p_v + p_values, o_i, o_v, T, V, H * V, 1)
        b_end = load_block(p_ends + o_state, o_v, o_k, V, K, 1, V)
        b_written_grad += tl.dot(b_v, b_end, input_precision=PRECISION)
    b_chunk = _log(p_log_decay, p_reset, b, h, o_chunk[:, None], o_k[None, :], chunk_begin, begin, T, H, K, CLEARED)
    b_weight = tl.exp(tl.sum(b_chunk, 0)[None, :] + b_from)
    b_q_grad = tl.where(b_weight == 0, 0.0, b_weight * b_q_grad)
    b_chunk = _log(p_log_decay, p_reset, b, h, o_chunk[:, None], o_k[None, :], end, chunk_end, T, H, K, CLEARED)
    b_weight = tl.exp(b_to + tl.sum(b_chunk, 0)[None, :])
    b_written_grad = tl.where(b_weight == 0, 0.0, b_weight * b_written_grad)
    # by way of the scores with earlier parts, and with later ones
    b_sum = tl.zeros((BC, BK), tl.float32)
    for other in range(part):
        other_end = chunk_begin + (other + 1) * BC
        o_j = other_end - BC + o_row
        b_chunk = _log(p_log_decay, p_reset, b, h, o_chunk[:, None], o_k[None, :], other_end, begin, T, H, K, CLEARED)
        b_between = tl.sum(b_chunk, 0)[None, :]
        b_part = _log(p_log_decay, p_reset, b, h, o_j[:, None] + 1, o_k[None, :], 0, other_end, T, H, K, CLEARED)
        b_weight = tl.exp(tl.cumsum(b_part, 0, reverse=True) + b_between)
        b_k = load_block(p_k + p_rows, o_j, o_k, T, K, H * K, 1) * b_weight  # [BC, BK]
        b_scores_grad = load_block(p_scores_grad + part * BC * BT + other * BC, o_row, o_row, BC, BC, BT, 1)
        b_sum += tl.dot(b_scores_grad, b_k, input_precision=PRECISION)
    b_q_grad += tl.exp(b_from) * b_sum
    b_sum = tl.zeros((BC, BK), tl.float32)
    for other in range(part + 1, BT // BC):
        other_begin = chunk_begin + other * BC
        o_j = other_begin + o_row
        b_chunk = _log(p_log_decay, p_reset, b, h, o_chunk[:, None], o_k[None, :], end, other_begin, T, H, K, CLEARED)
        b_between = tl.sum(b_chunk, 0)[None, :]
        b_part = _log(p_log_decay, p_reset, b, h, o_j[:, None], o_k[None, :], other_begin, T, T, H, K, CLEARED)
        b_weight = tl.exp(tl.cumsum(b_part, 0) + b_between)
        b_q = load_block(p_q + p_rows, o_j, o_k, T, K, H * K, 1) * b_weight  # [BC, BK]
        b_scores_grad = load_block(p_scores_grad + other * BC * BT + part * BC, o_row, o_row, BC, BC, 1, BT)
        b_sum += tl.dot(b_scores_grad, b_q, input_precision=PRECISION)
    b_k_grad = tl.exp(b_to) * b_sum
    # within the part, as in the forward pass
    b_q = load_block(p_q + p_rows, o_i, o_k, T, K, H * K, 1)
    b_k = load_block(p_k + p_rows, o_i, o_k, T, K, H * K, 1)
    b_log = tl.zeros((BC, BK), tl.float32)
    p_part = p_scores_grad + part * BC * BT + part * BC
    for column in range(BC):
        j = BC - 1 - column
        b_log += _after(p_log_decay, p_reset, b, h, begin, j, o_row, o_k, T, H, K, BC, CLEARED)
        b_scores_grad = tl.load(p_part + o_row * BT + j, mask=o_row > j, other=0)
        b_weight = tl.exp(b_log) * b_scores_grad[:, None]
        b_k_j = load_block(p_k + p_rows, begin + j + tl.zeros((1,), tl.int32), o_k, T, K, H * K, 1)  # [1, BK]
        b_q_grad += b_weight * b_k_j
        b_k_grad += tl.where(o_row[:, None] == j, tl.sum(b_weight * b_q, 0)[None, :], 0.0)
    store_block(p_leaving + p_rows, b_q * b_q_grad - b_k * b_k_grad, o_i, o_k, T, K, H * K)
    store_block(p_entering + p_rows, b_k * b_written_grad, o_i, o_k, T, K, H * K)
    # on the diagonal there is no decay
    b_diagonal = tl.load(p_part + o_row * BT + o_row)[:, None]
    store_block(p_q_grad + p_rows, b_q_grad + b_diagonal * b_k, o_i, o_k, T, K, H * K)
    store_block(p_k_grad + p_rows, b_k_grad + b_written_grad + b_diagonal * b_q, o_i, o_k, T, K, H * K)
