"""The GPU kernels of `mlstm`; imported when one is first launched.

Two levels of blocks, as in TFLA (Beck et al. 2025): chunks of L steps, between which states pass, and tiles of BT steps
in them, over all of which programs run at once. Gates stand by chunk, `[N, B * H, L]`, and states too, `[N, B * H, K,
V]`, both float32; inputs are `[B, T, H, .]`. Transposed blocks are loaded as such. The derivation is in README.md.
"""

import triton
import triton.language as tl


@triton.jit
def _load(p, o_i, o_j, n_i, n_j, step_i, step_j):
    """A block `[len(o_i), len(o_j)]` of a matrix `[n_i, n_j]`; zeros outside."""
    b_mask = (o_i < n_i)[:, None] & (o_j < n_j)[None, :]
    o_block = o_i.to(tl.int64)[:, None] * step_i + o_j.to(tl.int64)[None, :] * step_j
    return tl.load(p + o_block, mask=b_mask, other=0).to(tl.float32)


@triton.jit
def _store(p, b_value, o_i, o_j, n_i, n_j, step_i):
    b_mask = (o_i < n_i)[:, None] & (o_j < n_j)[None, :]
    tl.store(p + o_i.to(tl.int64)[:, None] * step_i + o_j[None, :], b_value.to(p.dtype.element_ty), mask=b_mask)


@triton.jit
def _load_row(p, o_j, n_j):
    return tl.load(p + o_j, mask=o_j < n_j, other=0)


@triton.jit
def _start_of(bh, T, H, D):
    """Where head h of row b starts in `[B, T, H, D]`."""
    return (bh // H).to(tl.int64) * T * H * D + (bh % H) * D


@triton.jit
def _decays(p_total, p_query, p_key, o_t, o_s):
    """Weights of q_t k_s `[t, s]` in a chunk: decay from s to t, gate and scale; zero for s > t."""
    b_log = tl.load(p_total + o_t)[:, None] - tl.load(p_total + o_s)[None, :]
    b_weight = tl.exp(tl.minimum(b_log, 1)) * tl.load(p_query + o_t)[:, None] * tl.load(p_key + o_s)[None, :]
    return tl.where(o_t[:, None] >= o_s[None, :], b_weight, 0.0)


@triton.jit
def _decays_transposed(p_total, p_query, p_key, o_t, o_s):  # [s, t]
    b_log = tl.load(p_total + o_t)[None, :] - tl.load(p_total + o_s)[:, None]
    b_weight = tl.exp(tl.minimum(b_log, 1)) * tl.load(p_query + o_t)[None, :] * tl.load(p_key + o_s)[:, None]
    return tl.where(o_t[None, :] >= o_s[:, None], b_weight, 0.0)


@triton.jit
def mlstm_states_fwd_kernel(
    p_k, p_v, p_key, p_to_end, p_whole, p_C0, p_n0, p_C, p_n, p_C_end, p_n_end, T, N, BH,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, L: tl.constexpr,
    BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The states before each chunk, and the last one."""
    bh, i_k, i_v = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    o_k, o_v = i_k * BK + tl.arange(0, BK), i_v * BV + tl.arange(0, BV)
    p_k += _start_of(bh, T, H, K)
    p_v += _start_of(bh, T, H, V)
    b_C = _load(p_C0 + bh * K * V, o_k, o_v, K, V, V, 1)  # [BK, BV]
    b_n = _load_row(p_n0 + bh * K, o_k, K)  # [BK]
    for c in range(N):
        i_state = c * BH + bh
        _store(p_C + i_state * K * V, b_C, o_k, o_v, K, V, V)
        if i_v == 0:
            tl.store(p_n + i_state * K + o_k, b_n, mask=o_k < K)
        b_whole = tl.load(p_whole + i_state)
        b_C *= b_whole
        b_n *= b_whole
        for j in range(0, L, BT):
            o_s = j + tl.arange(0, BT)
            b_gate = tl.load(p_key + i_state * L + o_s) * tl.load(p_to_end + i_state * L + o_s)  # [BT]
            b_k = _load(p_k, o_k, c * L + o_s, K, T, 1, H * K) * b_gate[None, :]  # [BK, BT]
            b_v = _load(p_v, c * L + o_s, o_v, T, V, H * V, 1)  # [BT, BV]
            b_C += tl.dot(b_k, b_v, input_precision=PRECISION)
            b_n += tl.sum(b_k, 1)
    _store(p_C_end + bh * K * V, b_C, o_k, o_v, K, V, V)
    if i_v == 0:
        tl.store(p_n_end + bh * K + o_k, b_n, mask=o_k < K)


@triton.jit
def mlstm_fwd_kernel(
    p_q, p_k, p_v, p_total, p_query, p_key, p_from_start, p_one, p_C, p_n, p_y, p_r, T, BH, eps,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, L: tl.constexpr, NORMALIZE: tl.constexpr,
    BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Outputs of a tile of steps, and the sums that normalise them, which the first block of values stores."""
    i_state, i_t, i_v = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    c, bh = i_state // BH, i_state % BH
    o_t, o_v = i_t * BT + tl.arange(0, BT), i_v * BV + tl.arange(0, BV)
    p_q += _start_of(bh, T, H, K)
    p_k += _start_of(bh, T, H, K)
    p_v += _start_of(bh, T, H, V)
    b_y = tl.zeros([BT, BV], tl.float32)
    b_r = tl.zeros([BT], tl.float32)
    for j in range(0, K, BK):
        o_k = j + tl.arange(0, BK)
        b_q = _load(p_q, c * L + o_t, o_k, T, K, H * K, 1)  # [BT, BK]
        b_C = _load(p_C + i_state * K * V, o_k, o_v, K, V, V, 1)  # [BK, BV]
        b_n = _load_row(p_n + i_state * K, o_k, K)  # [BK]
        b_y += tl.dot(b_q, b_C, input_precision=PRECISION)
        b_r += tl.sum(b_q * b_n[None, :], 1)
    b_gate = tl.load(p_query + i_state * L + o_t) * tl.load(p_from_start + i_state * L + o_t)  # [BT]
    b_y *= b_gate[:, None]
    b_r *= b_gate
    for i_s in range(i_t + 1):
        o_s = i_s * BT + tl.arange(0, BT)
        b_weights = tl.zeros([BT, BT], tl.float32)
        for j in range(0, K, BK):
            o_k = j + tl.arange(0, BK)
            b_q = _load(p_q, c * L + o_t, o_k, T, K, H * K, 1)  # [BT, BK]
            b_k = _load(p_k, o_k, c * L + o_s, K, T, 1, H * K)  # [BK, BT]
            b_weights += tl.dot(b_q, b_k, input_precision=PRECISION)
        b_weights *= _decays(p_total + i_state * L, p_query + i_state * L, p_key + i_state * L, o_t, o_s)
        b_v = _load(p_v, c * L + o_s, o_v, T, V, H * V, 1)  # [BT, BV]
        b_y += tl.dot(b_weights, b_v, input_precision=PRECISION)
        b_r += tl.sum(b_weights, 1)
    if i_v == 0:
        tl.store(p_r + i_state * L + o_t, b_r)
    if NORMALIZE:
        b_y /= (tl.maximum(tl.abs(b_r), tl.load(p_one + i_state * L + o_t)) + eps)[:, None]
    _store(p_y + _start_of(bh, T, H, V), b_y, c * L + o_t, o_v, T, V, H * V)


@triton.jit
def mlstm_along_bwd_kernel(
    p_y, p_dy, p_along, T, BH,
    H: tl.constexpr, V: tl.constexpr, L: tl.constexpr, BT: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """`y . dy` of each step."""
    i_state, i_t = tl.program_id(0).to(tl.int64), tl.program_id(1)
    c, bh = i_state // BH, i_state % BH
    o_t = i_t * BT + tl.arange(0, BT)
    b_along = tl.zeros([BT], tl.float32)
    for j in range(0, V, BV):
        o_v = j + tl.arange(0, BV)
        b_y = _load(p_y + _start_of(bh, T, H, V), c * L + o_t, o_v, T, V, H * V, 1)
        b_dy = _load(p_dy + _start_of(bh, T, H, V), c * L + o_t, o_v, T, V, H * V, 1)
        b_along += tl.sum(b_y * b_dy, 1)
    tl.store(p_along + i_state * L + o_t, b_along)


@triton.jit
def mlstm_states_bwd_kernel(
    p_q, p_dy, p_inverse, p_dr, p_query, p_from_start, p_whole, p_C, p_n, p_dC_end, p_dn_end,
    p_dC, p_dn, p_dC0, p_dn0, p_across, T, N, BH,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, L: tl.constexpr,
    BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of the states after each chunk and of the first, and of the decay across a chunk in parts."""
    bh, i_k, i_v = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    o_k, o_v = i_k * BK + tl.arange(0, BK), i_v * BV + tl.arange(0, BV)
    p_q += _start_of(bh, T, H, K)
    p_dy += _start_of(bh, T, H, V)
    p_across += (i_k * tl.num_programs(2) + i_v).to(tl.int64) * N * BH
    b_dC = _load(p_dC_end + bh * K * V, o_k, o_v, K, V, V, 1)  # [BK, BV]
    b_dn = _load_row(p_dn_end + bh * K, o_k, K)  # [BK]
    for later in range(N):
        c = N - 1 - later
        i_state = c * BH + bh
        b_whole = tl.load(p_whole + i_state)
        b_across = tl.sum(b_dC * _load(p_C + i_state * K * V, o_k, o_v, K, V, V, 1))
        _store(p_dC + i_state * K * V, b_dC, o_k, o_v, K, V, V)
        if i_v == 0:
            b_across += tl.sum(b_dn * _load_row(p_n + i_state * K, o_k, K))
            tl.store(p_dn + i_state * K + o_k, b_dn, mask=o_k < K)
        tl.store(p_across + i_state, b_across * b_whole)
        b_dC *= b_whole
        b_dn *= b_whole
        for j in range(0, L, BT):
            o_t = j + tl.arange(0, BT)
            b_gate = tl.load(p_query + i_state * L + o_t) * tl.load(p_from_start + i_state * L + o_t)  # [BT]
            b_q = _load(p_q, o_k, c * L + o_t, K, T, 1, H * K) * b_gate[None, :]  # [BK, BT]
            b_inverse = tl.load(p_inverse + i_state * L + o_t)
            b_dy = _load(p_dy, c * L + o_t, o_v, T, V, H * V, 1) * b_inverse[:, None]  # [BT, BV]
            b_dC += tl.dot(b_q, b_dy, input_precision=PRECISION)
            b_dn += tl.sum(b_q * tl.load(p_dr + i_state * L + o_t)[None, :], 1)
    _store(p_dC0 + bh * K * V, b_dC, o_k, o_v, K, V, V)
    if i_v == 0:
        tl.store(p_dn0 + bh * K + o_k, b_dn, mask=o_k < K)


@triton.jit
def mlstm_q_bwd_kernel(
    p_q, p_k, p_v, p_dy, p_inverse, p_dr, p_total, p_query, p_key, p_from_start, p_C, p_n,
    p_dq, p_read, T, N, BH,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, L: tl.constexpr,
    BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of a tile of queries, and `q . dq` in parts."""
    i_state, i_t, i_k = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    c, bh = i_state // BH, i_state % BH
    o_t, o_k = i_t * BT + tl.arange(0, BT), i_k * BK + tl.arange(0, BK)
    p_k += _start_of(bh, T, H, K)
    p_v += _start_of(bh, T, H, V)
    p_dy += _start_of(bh, T, H, V)
    b_dr = tl.load(p_dr + i_state * L + o_t)  # [BT]
    b_inverse = tl.load(p_inverse + i_state * L + o_t)  # [BT]
    b_dq = b_dr[:, None] * _load_row(p_n + i_state * K, o_k, K)[None, :]  # [BT, BK]
    for j in range(0, V, BV):
        o_v = j + tl.arange(0, BV)
        b_dy = _load(p_dy, c * L + o_t, o_v, T, V, H * V, 1) * b_inverse[:, None]  # [BT, BV]
        b_C = _load(p_C + i_state * K * V, o_v, o_k, V, K, 1, V)  # [BV, BK]
        b_dq += tl.dot(b_dy, b_C, input_precision=PRECISION)
    b_dq *= (tl.load(p_query + i_state * L + o_t) * tl.load(p_from_start + i_state * L + o_t))[:, None]
    for i_s in range(i_t + 1):
        o_s = i_s * BT + tl.arange(0, BT)
        b_d = tl.zeros([BT, BT], tl.float32) + b_dr[:, None]  # by weight, then by score
        for j in range(0, V, BV):
            o_v = j + tl.arange(0, BV)
            b_dy = _load(p_dy, c * L + o_t, o_v, T, V, H * V, 1) * b_inverse[:, None]  # [BT, BV]
            b_v = _load(p_v, o_v, c * L + o_s, V, T, 1, H * V)  # [BV, BT]
            b_d += tl.dot(b_dy, b_v, input_precision=PRECISION)
        b_d *= _decays(p_total + i_state * L, p_query + i_state * L, p_key + i_state * L, o_t, o_s)
        b_k = _load(p_k, c * L + o_s, o_k, T, K, H * K, 1)  # [BT, BK]
        b_dq += tl.dot(b_d, b_k, input_precision=PRECISION)
    b_q = _load(p_q + _start_of(bh, T, H, K), c * L + o_t, o_k, T, K, H * K, 1)  # [BT, BK]
    tl.store(p_read + (i_k.to(tl.int64) * N * BH + i_state) * L + o_t, tl.sum(b_q * b_dq, 1))
    _store(p_dq + _start_of(bh, T, H, K), b_dq, c * L + o_t, o_k, T, K, H * K)


@triton.jit
def mlstm_k_bwd_kernel(
    p_q, p_k, p_v, p_dy, p_inverse, p_dr, p_total, p_query, p_key, p_to_end, p_dC, p_dn,
    p_dk, p_written, p_to_state, T, N, BH,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, L: tl.constexpr,
    BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of a tile of keys, and `k . dk` in parts: within the chunk, and through the state after it."""
    i_state, i_s, i_k = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    c, bh = i_state // BH, i_state % BH
    o_s, o_k = i_s * BT + tl.arange(0, BT), i_k * BK + tl.arange(0, BK)
    p_q += _start_of(bh, T, H, K)
    p_v += _start_of(bh, T, H, V)
    p_dy += _start_of(bh, T, H, V)
    b_dk = tl.zeros([BT, BK], tl.float32)
    for i_t in range(i_s, L // BT):
        o_t = i_t * BT + tl.arange(0, BT)
        b_inverse = tl.load(p_inverse + i_state * L + o_t)
        b_d = tl.zeros([BT, BT], tl.float32) + tl.load(p_dr + i_state * L + o_t)[None, :]  # [s, t]
        for j in range(0, V, BV):
            o_v = j + tl.arange(0, BV)
            b_v = _load(p_v, c * L + o_s, o_v, T, V, H * V, 1)  # [BT, BV]
            b_dy = _load(p_dy, o_v, c * L + o_t, V, T, 1, H * V) * b_inverse[None, :]  # [BV, BT]
            b_d += tl.dot(b_v, b_dy, input_precision=PRECISION)
        b_d *= _decays_transposed(p_total + i_state * L, p_query + i_state * L, p_key + i_state * L, o_t, o_s)
        b_q = _load(p_q, c * L + o_t, o_k, T, K, H * K, 1)  # [BT, BK]
        b_dk += tl.dot(b_d, b_q, input_precision=PRECISION)
    b_to_state = tl.zeros([BT, BK], tl.float32) + _load_row(p_dn + i_state * K, o_k, K)[None, :]
    for j in range(0, V, BV):
        o_v = j + tl.arange(0, BV)
        b_v = _load(p_v, c * L + o_s, o_v, T, V, H * V, 1)  # [BT, BV]
        b_dC = _load(p_dC + i_state * K * V, o_v, o_k, V, K, 1, V)  # [BV, BK]
        b_to_state += tl.dot(b_v, b_dC, input_precision=PRECISION)
    b_to_state *= (tl.load(p_key + i_state * L + o_s) * tl.load(p_to_end + i_state * L + o_s))[:, None]
    b_k = _load(p_k + _start_of(bh, T, H, K), c * L + o_s, o_k, T, K, H * K, 1)  # [BT, BK]
    o_part = (i_k.to(tl.int64) * N * BH + i_state) * L + o_s
    tl.store(p_written + o_part, tl.sum(b_k * b_dk, 1))
    tl.store(p_to_state + o_part, tl.sum(b_k * b_to_state, 1))
    _store(p_dk + _start_of(bh, T, H, K), b_dk + b_to_state, c * L + o_s, o_k, T, K, H * K)


@triton.jit
def mlstm_v_bwd_kernel(
    p_q, p_k, p_dy, p_inverse, p_total, p_query, p_key, p_to_end, p_dC, p_dv, T, BH,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, L: tl.constexpr,
    BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of a tile of values."""
    i_state, i_s, i_v = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    c, bh = i_state // BH, i_state % BH
    o_s, o_v = i_s * BT + tl.arange(0, BT), i_v * BV + tl.arange(0, BV)
    p_q += _start_of(bh, T, H, K)
    p_k += _start_of(bh, T, H, K)
    p_dy += _start_of(bh, T, H, V)
    b_dv = tl.zeros([BT, BV], tl.float32)
    for j in range(0, K, BK):
        o_k = j + tl.arange(0, BK)
        b_k = _load(p_k, c * L + o_s, o_k, T, K, H * K, 1)  # [BT, BK]
        b_dC = _load(p_dC + i_state * K * V, o_k, o_v, K, V, V, 1)  # [BK, BV]
        b_dv += tl.dot(b_k, b_dC, input_precision=PRECISION)
    b_dv *= (tl.load(p_key + i_state * L + o_s) * tl.load(p_to_end + i_state * L + o_s))[:, None]
    for i_t in range(i_s, L // BT):
        o_t = i_t * BT + tl.arange(0, BT)
        b_weights = tl.zeros([BT, BT], tl.float32)  # [s, t]
        for j in range(0, K, BK):
            o_k = j + tl.arange(0, BK)
            b_k = _load(p_k, c * L + o_s, o_k, T, K, H * K, 1)  # [BT, BK]
            b_q = _load(p_q, o_k, c * L + o_t, K, T, 1, H * K)  # [BK, BT]
            b_weights += tl.dot(b_k, b_q, input_precision=PRECISION)
        b_weights *= _decays_transposed(p_total + i_state * L, p_query + i_state * L, p_key + i_state * L, o_t, o_s)
        b_inverse = tl.load(p_inverse + i_state * L + o_t)
        b_dy = _load(p_dy, c * L + o_t, o_v, T, V, H * V, 1) * b_inverse[:, None]  # [BT, BV]
        b_dv += tl.dot(b_weights, b_dy, input_precision=PRECISION)
    _store(p_dv + _start_of(bh, T, H, V), b_dv, c * L + o_s, o_v, T, V, H * V)
