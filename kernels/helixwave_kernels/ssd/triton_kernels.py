"""The GPU kernels of `ssd`; imported when one is first launched.

The sequence is cut in n chunks of BT steps. States are `[B, n, H, N, P]`, the scores `C B^T` `[B, n, G, BT, BT]`, both
float32. Transposed blocks are loaded as such. The derivation is in README.md.
"""

import triton
import triton.language as tl

from helixwave_kernels.triton_kernels import decayed


@triton.jit
def place(n, H: tl.constexpr):
    """The chunk, the sequence and the head (or group) of this program."""
    row = tl.program_id(0) // n
    return tl.program_id(0) % n, (row // H).to(tl.int64), row % H


@triton.jit
def load_block(p, o_i, o_j, n_i, n_j, step_i, step_j):
    """A block `[len(o_i), len(o_j)]` of a matrix `[n_i, n_j]`; zeros outside."""
    b_mask = (o_i < n_i)[:, None] & (o_j < n_j)[None, :]
    o_block = o_i.to(tl.int64)[:, None] * step_i + o_j.to(tl.int64)[None, :] * step_j
    return tl.load(p + o_block, mask=b_mask, other=0).to(tl.float32)


@triton.jit
def _load_weighted(p, b_weight, o_i, o_j, n_i, n_j, step_i):
    """A block times weights of its rows; what has a weight of zero is not read, be it not a number."""
    return b_weight[:, None] * load_block(p, tl.where(b_weight == 0, n_i, o_i), o_j, n_i, n_j, step_i, 1)


@triton.jit
def store_block(p, b_value, o_i, o_j, n_i, n_j, step_i):
    b_mask = (o_i < n_i)[:, None] & (o_j < n_j)[None, :]
    tl.store(p + o_i.to(tl.int64)[:, None] * step_i + o_j[None, :], b_value.to(p.dtype.element_ty), mask=b_mask)


@triton.jit
def _sums(p_log_decay, p_reset, b, h, o_t, T, H, CLEARED: tl.constexpr):
    """Sums of the chunk's logarithmic decays, `[BT]`, in a whole number and a rest: differences lose no digits."""
    b_in_t = o_t < T
    b_log = tl.load(p_log_decay + (b * T + o_t) * H + h, mask=b_in_t, other=0).to(tl.float32)
    if p_reset is not None:
        b_log = tl.where(tl.load(p_reset + b * T + o_t, mask=b_in_t, other=0) != 0, CLEARED, b_log)
    b_log = tl.maximum(b_log, CLEARED)
    b_whole = tl.floor(b_log + 0.5)
    b_rest = tl.cumsum(b_log - b_whole, 0)
    b_carry = tl.floor(b_rest + 0.5)
    return tl.cumsum(b_whole, 0) + b_carry, b_rest - b_carry


@triton.jit
def _last(b_x, BT: tl.constexpr):
    return tl.sum(tl.where(tl.arange(0, BT) == BT - 1, b_x, 0.0), 0)


@triton.jit
def _to_end(b_whole, b_rest, BT: tl.constexpr):
    """Decays from each step to the chunk's end, `[BT]`."""
    return tl.exp((_last(b_whole, BT) - b_whole) + (_last(b_rest, BT) - b_rest))


@triton.jit
def _decays(b_whole, b_rest, BT: tl.constexpr, TRANSPOSED: tl.constexpr):
    """Decays `[BT, BT]` from step j to step i >= j, zero for others; j first if transposed."""
    o_row = tl.arange(0, BT)
    b_sums = (b_whole[:, None] - b_whole[None, :]) + (b_rest[:, None] - b_rest[None, :])
    b_lower = o_row[:, None] >= o_row[None, :]
    if TRANSPOSED:
        b_sums = -b_sums
        b_lower = o_row[:, None] <= o_row[None, :]
    return tl.exp(tl.where(b_lower, b_sums, float("-inf")))


@triton.jit
def ssd_scores_fwd_kernel(
    p_B, p_C, p_scores, T, n, G: tl.constexpr, N: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """`C B^T` of one chunk and group."""
    c, b, g = place(n, G)
    o_row = tl.arange(0, BT)
    o_t = c * BT + o_row
    p_map = (b * T * G + g) * N
    b_scores = tl.zeros((BT, BT), tl.float32)
    for start in range(0, N, BN):
        o_n = start + tl.arange(0, BN)
        b_C = load_block(p_C + p_map, o_t, o_n, T, N, G * N, 1)  # [BT, BN]
        b_B = load_block(p_B + p_map, o_n, o_t, N, T, 1, G * N)  # [BN, BT]
        b_scores += tl.dot(b_C, b_B, input_precision=PRECISION)
    store_block(p_scores + ((b * n + c) * G + g) * BT * BT, b_scores, o_row, o_row, BT, BT, BT)


@triton.jit
def ssd_states_fwd_kernel(
    p_map, p_x, p_log_decay, p_reset, p_first, p_states, p_last, T, n, H: tl.constexpr, G: tl.constexpr,
    N: tl.constexpr, P: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr, BP: tl.constexpr, CLEARED: tl.constexpr,
    REVERSE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """States before each chunk; in reverse, with C for B and y's gradient for x, gradients of the states after it."""
    _, b, h = place(1, H)
    o_n = tl.program_id(1) * BN + tl.arange(0, BN)
    o_p = tl.program_id(2) * BP + tl.arange(0, BP)
    b_h = tl.zeros((BN, BP), tl.float32)
    if p_first is not None:
        b_h += load_block(p_first + (b * H + h) * N * P, o_n, o_p, N, P, P, 1)
    for i in range(n):
        c = n - 1 - i if REVERSE else i
        o_t = c * BT + tl.arange(0, BT)
        store_block(p_states + ((b * n + c) * H + h) * N * P, b_h, o_n, o_p, N, P, P)
        b_whole, b_rest = _sums(p_log_decay, p_reset, b, h, o_t, T, H, CLEARED)
        b_weight = tl.exp(b_whole + b_rest) if REVERSE else _to_end(b_whole, b_rest, BT)
        b_map = load_block(p_map + (b * T * G + h // (H // G)) * N, o_n, o_t, N, T, 1, G * N)  # [BN, BT]
        b_x = _load_weighted(p_x + (b * T * H + h) * P, b_weight, o_t, o_p, T, P, H * P)  # [BT, BP]
        b_h = decayed(tl.exp(_last(b_whole, BT) + _last(b_rest, BT)), b_h)
        b_h += tl.dot(b_map, b_x, input_precision=PRECISION)
    store_block(p_last + (b * H + h) * N * P, b_h, o_n, o_p, N, P, P)


@triton.jit
def ssd_fwd_kernel(
    p_x, p_log_decay, p_reset, p_C, p_scores, p_starts, p_y, T, n, H: tl.constexpr, G: tl.constexpr, N: tl.constexpr,
    P: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr, BP: tl.constexpr, CLEARED: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The outputs of one chunk."""
    c, b, h = place(n, H)
    g = h // (H // G)
    o_row = tl.arange(0, BT)
    o_t = c * BT + o_row
    o_p = tl.program_id(1) * BP + tl.arange(0, BP)
    b_y = tl.zeros((BT, BP), tl.float32)
    for start in range(0, N, BN):
        o_n = start + tl.arange(0, BN)
        b_C = load_block(p_C + (b * T * G + g) * N, o_t, o_n, T, N, G * N, 1)  # [BT, BN]
        b_start = load_block(p_starts + ((b * n + c) * H + h) * N * P, o_n, o_p, N, P, P, 1)  # [BN, BP]
        b_y += tl.dot(b_C, b_start, input_precision=PRECISION)
    b_whole, b_rest = _sums(p_log_decay, p_reset, b, h, o_t, T, H, CLEARED)
    b_y = decayed(tl.exp(b_whole + b_rest)[:, None], b_y)
    b_scores = load_block(p_scores + ((b * n + c) * G + g) * BT * BT, o_row, o_row, BT, BT, BT, 1)
    b_x = load_block(p_x + (b * T * H + h) * P, o_t, o_p, T, P, H * P, 1)  # [BT, BP]
    b_y += tl.dot(b_scores * _decays(b_whole, b_rest, BT, False), b_x, input_precision=PRECISION)
    store_block(p_y + (b * T * H + h) * P, b_y, o_t, o_p, T, P, H * P)


@triton.jit
def ssd_x_bwd_kernel(
    p_grad, p_x, p_log_decay, p_reset, p_B, p_C, p_scores, p_starts, p_ends, p_x_grad, p_leaving, p_entering, T, n,
    H: tl.constexpr, G: tl.constexpr, N: tl.constexpr, P: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr,
    BP: tl.constexpr, CLEARED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of x in one chunk, and of the decays from its start and to its end, `[P / BP, B, T, H]`."""
    c, b, h = place(n, H)
    g = h // (H // G)
    o_row = tl.arange(0, BT)
    o_t = c * BT + o_row
    o_p = tl.program_id(1) * BP + tl.arange(0, BP)
    b_x_grad = tl.zeros((BT, BP), tl.float32)
    b_read = tl.zeros((BT, BP), tl.float32)
    for start in range(0, N, BN):
        o_n = start + tl.arange(0, BN)
        p_state = ((b * n + c) * H + h) * N * P
        b_B = load_block(p_B + (b * T * G + g) * N, o_t, o_n, T, N, G * N, 1)  # [BT, BN]
        b_C = load_block(p_C + (b * T * G + g) * N, o_t, o_n, T, N, G * N, 1)
        b_end = load_block(p_ends + p_state, o_n, o_p, N, P, P, 1)  # [BN, BP]
        b_start = load_block(p_starts + p_state, o_n, o_p, N, P, P, 1)
        b_x_grad += tl.dot(b_B, b_end, input_precision=PRECISION)
        b_read += tl.dot(b_C, b_start, input_precision=PRECISION)
    b_whole, b_rest = _sums(p_log_decay, p_reset, b, h, o_t, T, H, CLEARED)
    b_x = load_block(p_x + (b * T * H + h) * P, o_t, o_p, T, P, H * P, 1)  # [BT, BP]
    b_grad = load_block(p_grad + (b * T * H + h) * P, o_t, o_p, T, P, H * P, 1)
    b_x_grad = decayed(_to_end(b_whole, b_rest, BT)[:, None], b_x_grad)
    b_read = decayed(tl.exp(b_whole + b_rest)[:, None], b_read)
    p_sums = ((tl.program_id(1).to(tl.int64) * (tl.num_programs(0) // (n * H)) + b) * T + o_t) * H + h
    tl.store(p_entering + p_sums, tl.sum(b_x * b_x_grad, 1), mask=o_t < T)
    tl.store(p_leaving + p_sums, tl.sum(b_grad * b_read, 1), mask=o_t < T)
    b_scores = load_block(p_scores + ((b * n + c) * G + g) * BT * BT, o_row, o_row, BT, BT, 1, BT)  # [j, i]
    b_x_grad += tl.dot(b_scores * _decays(b_whole, b_rest, BT, True), b_grad, input_precision=PRECISION)
    store_block(p_x_grad + (b * T * H + h) * P, b_x_grad, o_t, o_p, T, P, H * P)


@triton.jit
def ssd_scores_bwd_kernel(
    p_grad, p_x, p_log_decay, p_reset, p_scores, p_scores_grad, p_within, T, n, H: tl.constexpr, G: tl.constexpr,
    P: tl.constexpr, BT: tl.constexpr, BP: tl.constexpr, CLEARED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of the scores of one chunk and group; and of the decays within it, by step and head `[B, T, H]`."""
    c, b, g = place(n, G)
    o_row = tl.arange(0, BT)
    o_t = c * BT + o_row
    o_scores = ((b * n + c) * G + g) * BT * BT
    b_scores = load_block(p_scores + o_scores, o_row, o_row, BT, BT, BT, 1)
    b_scores = tl.where(o_row[:, None] > o_row[None, :], b_scores, 0.0)
    b_sum = tl.zeros((BT, BT), tl.float32)
    for h in range(g * (H // G), (g + 1) * (H // G)):
        b_weights_grad = tl.zeros((BT, BT), tl.float32)
        for start in range(0, P, BP):
            o_p = start + tl.arange(0, BP)
            b_grad = load_block(p_grad + (b * T * H + h) * P, o_t, o_p, T, P, H * P, 1)  # [BT, BP]
            b_x = load_block(p_x + (b * T * H + h) * P, o_p, o_t, P, T, 1, H * P)  # [BP, BT]
            b_weights_grad += tl.dot(b_grad, b_x, input_precision=PRECISION)
        b_whole, b_rest = _sums(p_log_decay, p_reset, b, h, o_t, T, H, CLEARED)
        b_weights_grad *= _decays(b_whole, b_rest, BT, False)
        b_sum += b_weights_grad
        b_weights_grad *= b_scores
        b_within = tl.sum(b_weights_grad, 1) - tl.sum(b_weights_grad, 0)
        tl.store(p_within + (b * T + o_t) * H + h, b_within, mask=o_t < T)
    store_block(p_scores_grad + o_scores, b_sum, o_row, o_row, BT, BT, BT)


@triton.jit
def ssd_maps_bwd_kernel(
    p_grad, p_x, p_log_decay, p_reset, p_B, p_C, p_scores_grad, p_starts, p_ends, p_B_grad, p_C_grad, T, n,
    H: tl.constexpr, G: tl.constexpr, N: tl.constexpr, P: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr,
    BP: tl.constexpr, CLEARED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of B and C in one chunk and group."""
    c, b, g = place(n, G)
    o_row = tl.arange(0, BT)
    o_t = c * BT + o_row
    o_n = tl.program_id(1) * BN + tl.arange(0, BN)
    o_map = (b * T * G + g) * N
    o_scores = ((b * n + c) * G + g) * BT * BT
    b_B = load_block(p_B + o_map, o_t, o_n, T, N, G * N, 1)  # [BT, BN]
    b_C = load_block(p_C + o_map, o_t, o_n, T, N, G * N, 1)
    b_scores_grad = load_block(p_scores_grad + o_scores, o_row, o_row, BT, BT, BT, 1)
    b_C_grad = tl.dot(b_scores_grad, b_B, input_precision=PRECISION)
    b_scores_grad = load_block(p_scores_grad + o_scores, o_row, o_row, BT, BT, 1, BT)
    b_B_grad = tl.dot(b_scores_grad, b_C, input_precision=PRECISION)
    for h in range(g * (H // G), (g + 1) * (H // G)):
        b_whole, b_rest = _sums(p_log_decay, p_reset, b, h, o_t, T, H, CLEARED)
        b_to_end = _to_end(b_whole, b_rest, BT)
        b_from_start = tl.exp(b_whole + b_rest)
        for start in range(0, P, BP):
            o_p = start + tl.arange(0, BP)
            o_state = ((b * n + c) * H + h) * N * P
            b_x = _load_weighted(p_x + (b * T * H + h) * P, b_to_end, o_t, o_p, T, P, H * P)  # [BT, BP]
            b_end = load_block(p_ends + o_state, o_p, o_n, P, N, 1, P)  # [BP, BN]
            b_part = tl.dot(b_x, b_end, input_precision=PRECISION)
            b_B_grad += tl.where((b_to_end == 0)[:, None], 0.0, b_part)
            b_grad = _load_weighted(p_grad + (b * T * H + h) * P, b_from_start, o_t, o_p, T, P, H * P)
            b_start = load_block(p_starts + o_state, o_p, o_n, P, N, 1, P)
            b_part = tl.dot(b_grad, b_start, input_precision=PRECISION)
            b_C_grad += tl.where((b_from_start == 0)[:, None], 0.0, b_part)
    store_block(p_B_grad + o_map, b_B_grad, o_t, o_n, T, N, G * N)
    store_block(p_C_grad + o_map, b_C_grad, o_t, o_n, T, N, G * N)
