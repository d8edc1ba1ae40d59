"""The GPU kernels of `selective_scan`; imported when one is first launched.

A program owns BD channels of one group in one sequence, and goes through the sequence in chunks of BT steps, whose
states `[BT, BD, BN]` it computes together. The derivation is in README.md.
"""

import triton
import triton.language as tl

from helixwave_kernels.triton_kernels import decayed, silu, silu_slope, softplus, then


@triton.jit
def _channels(D, G: tl.constexpr, BD: tl.constexpr):
    """This program's channels `[BD]`, which of them there are, and their group: blocks do not cross groups."""
    n_block = tl.cdiv(D // G, BD)
    group = tl.program_id(0) // n_block
    o_within = (tl.program_id(0) % n_block) * BD + tl.arange(0, BD)
    return group * (D // G) + o_within, o_within < D // G, group


@triton.jit
def _load_rows(p, b, o_t, o_d, b_in_d, T, D):
    """A part `[BT, BD]` of an input `[B, T, D]`; zeros outside."""
    b_mask = ((o_t >= 0) & (o_t < T))[:, None] & b_in_d[None, :]
    return tl.load(p + (b * T + o_t)[:, None] * D + o_d[None, :], mask=b_mask, other=0).to(tl.float32)


@triton.jit
def _store_rows(p, b_value, b, o_t, o_d, b_in_d, T, D):
    p_rows = p + (b * T + o_t)[:, None] * D + o_d[None, :]
    tl.store(p_rows, b_value.to(p.dtype.element_ty), mask=(o_t < T)[:, None] & b_in_d[None, :])


@triton.jit
def _load_map(p, b, o_t, o_d, b_in_d, group, T, N, G: tl.constexpr, GM: tl.constexpr, BN: tl.constexpr):
    """A part of B or C: `[1, BD, BN]` where it is constant in time (GM = 0), else `[BT, 1, BN]` of one of GM groups."""
    o_n = tl.arange(0, BN)
    if GM == 0:
        b_mask = b_in_d[:, None] & (o_n < N)[None, :]
        b_map = tl.load(p + o_d[:, None] * N + o_n[None, :], mask=b_mask, other=0).to(tl.float32)[None, :, :]
    else:
        b_mask = ((o_t >= 0) & (o_t < T))[:, None] & (o_n < N)[None, :]
        p_rows = p + ((b * T + o_t) * GM + group * GM // G)[:, None] * N + o_n[None, :]
        b_map = tl.load(p_rows, mask=b_mask, other=0).to(tl.float32)[:, None, :]
    return b_map


@triton.jit
def _step_sizes(p_delta, p_bias, b, o_t, o_d, b_in_d, T, D, SOFTPLUS: tl.constexpr):
    """Steps before and after softplus, `[BT, BD]`; a step of zero outside leaves the state as it is."""
    b_raw = _load_rows(p_delta, b, o_t, o_d, b_in_d, T, D)
    if p_bias is not None:
        b_raw += tl.load(p_bias + o_d, mask=b_in_d, other=0).to(tl.float32)[None, :]
    b_mask = ((o_t >= 0) & (o_t < T))[:, None] & b_in_d[None, :]
    b_step = softplus(b_raw) if SOFTPLUS else b_raw
    return b_raw, tl.where(b_mask, b_step, 0.0)


@triton.jit
def _kept(p_reset, b, o_t, T):
    """False where the state before the step is cleared, `[BT, 1, 1]`."""
    b_reset = tl.load(p_reset + b * T + o_t, mask=(o_t >= 0) & (o_t < T), other=0)
    return (b_reset == 0)[:, None, None]


@triton.jit
def _transitions(b_step, b_A, p_reset, b, o_t, T, NEGATIVE: tl.constexpr):
    """Transitions `[BT, BD, BN]` and their derivatives by the exponent."""
    b_slope = tl.exp(b_step[:, :, None] * b_A[None, :, :])
    b_a = b_slope
    if NEGATIVE:
        b_slope = 2 * b_slope
        b_a = b_slope - 1
    if p_reset is not None:
        b_kept = _kept(p_reset, b, o_t, T)
        b_a = tl.where(b_kept, b_a, 0.0)
        b_slope = tl.where(b_kept, b_slope, 0.0)
    return b_a, b_slope


@triton.jit
def selective_scan_fwd_kernel(
    p_u, p_delta, p_A, p_B, p_C, p_skip, p_z, p_bias, p_h0, p_reset, p_y, p_last, p_starts, T, D, N,
    G: tl.constexpr, GB: tl.constexpr, GC: tl.constexpr, SOFTPLUS: tl.constexpr, NEGATIVE: tl.constexpr,
    BT: tl.constexpr, BD: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(1).to(tl.int64)
    o_d, b_in_d, group = _channels(D, G, BD)
    o_row = tl.arange(0, BT)
    o_dn = o_d[:, None] * N + tl.arange(0, BN)[None, :]  # [BD, BN]
    b_in_dn = b_in_d[:, None] & (tl.arange(0, BN) < N)[None, :]
    b_A = tl.load(p_A + o_dn, mask=b_in_dn, other=0).to(tl.float32)
    b_h = tl.zeros((BD, BN), tl.float32)
    if p_h0 is not None:
        b_h = tl.load(p_h0 + b * D * N + o_dn, mask=b_in_dn, other=0).to(tl.float32)
    for chunk in range(tl.cdiv(T, BT)):
        o_t = chunk * BT + o_row
        tl.store(p_starts + (b * tl.cdiv(T, BT) + chunk) * D * N + o_dn, b_h, mask=b_in_dn)
        b_u = _load_rows(p_u, b, o_t, o_d, b_in_d, T, D)
        _, b_step = _step_sizes(p_delta, p_bias, b, o_t, o_d, b_in_d, T, D, SOFTPLUS)
        b_a, _ = _transitions(b_step, b_A, p_reset, b, o_t, T, NEGATIVE)
        b_x = (b_step * b_u)[:, :, None] * _load_map(p_B, b, o_t, o_d, b_in_d, group, T, N, G, GB, BN)
        b_within, b_hs = tl.associative_scan((b_a, b_x), 0, then)
        b_hs += decayed(b_within, b_h[None, :, :])  # [BT, BD, BN]
        b_y = tl.sum(b_hs * _load_map(p_C, b, o_t, o_d, b_in_d, group, T, N, G, GC, BN), 2)  # [BT, BD]
        if p_skip is not None:
            b_y += tl.load(p_skip + o_d, mask=b_in_d, other=0).to(tl.float32)[None, :] * b_u
        if p_z is not None:
            b_y *= silu(_load_rows(p_z, b, o_t, o_d, b_in_d, T, D))
        _store_rows(p_y, b_y, b, o_t, o_d, b_in_d, T, D)
        b_h = tl.sum(tl.where((o_row == BT - 1)[:, None, None], b_hs, 0.0), 0)
    tl.store(p_last + b * D * N + o_dn, b_h, mask=b_in_dn)


@triton.jit
def selective_scan_bwd_kernel(
    p_grad, p_last_grad, p_u, p_delta, p_A, p_B, p_C, p_skip, p_z, p_bias, p_reset, p_starts,
    p_u_grad, p_delta_grad, p_A_grad, p_B_grad, p_C_grad, p_skip_grad, p_z_grad, p_bias_grad, p_h0_grad, T, D, N,
    G: tl.constexpr, GB: tl.constexpr, GC: tl.constexpr, SOFTPLUS: tl.constexpr, NEGATIVE: tl.constexpr,
    BT: tl.constexpr, BD: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """The last chunk first. What is summed over sequences, or over channels, is left in parts for each program."""
    b = tl.program_id(1).to(tl.int64)
    o_d, b_in_d, group = _channels(D, G, BD)
    o_row = tl.arange(0, BT)
    b_first, b_final = (o_row == 0)[:, None, None], (o_row == BT - 1)[:, None, None]
    o_n = tl.arange(0, BN)
    o_dn = o_d[:, None] * N + o_n[None, :]  # [BD, BN]
    b_in_dn = b_in_d[:, None] & (o_n < N)[None, :]
    b_A = tl.load(p_A + o_dn, mask=b_in_dn, other=0).to(tl.float32)
    b_A_grad = tl.zeros((BD, BN), tl.float32)
    b_B_grad = tl.zeros((BD, BN), tl.float32)
    b_C_grad = tl.zeros((BD, BN), tl.float32)
    b_skip_grad = tl.zeros((BD,), tl.float32)
    b_bias_grad = tl.zeros((BD,), tl.float32)
    # what the states after the chunk add to the gradient of its last state
    b_later = tl.zeros((BD, BN), tl.float32)
    if p_last_grad is not None:
        b_later = tl.load(p_last_grad + b * D * N + o_dn, mask=b_in_dn, other=0).to(tl.float32)
    for i in range(tl.cdiv(T, BT)):
        chunk = tl.cdiv(T, BT) - 1 - i
        o_t = chunk * BT + o_row
        # the states before each step: the chunk's first state, then the scan of the steps that come one earlier
        o_earlier = tl.where(o_row > 0, o_t - 1, T)
        p_start = p_starts + (b * tl.cdiv(T, BT) + chunk) * D * N + o_dn
        b_start = tl.load(p_start, mask=b_in_dn, other=0).to(tl.float32)
        _, b_step = _step_sizes(p_delta, p_bias, b, o_earlier, o_d, b_in_d, T, D, SOFTPLUS)
        b_a, _ = _transitions(b_step, b_A, p_reset, b, o_earlier, T, NEGATIVE)
        b_u = _load_rows(p_u, b, o_earlier, o_d, b_in_d, T, D)
        b_x = (b_step * b_u)[:, :, None] * _load_map(p_B, b, o_earlier, o_d, b_in_d, group, T, N, G, GB, BN)
        _, b_before = tl.associative_scan((b_a, tl.where(b_first, b_start[None, :, :], b_x)), 0, then)

        b_u = _load_rows(p_u, b, o_t, o_d, b_in_d, T, D)
        b_raw, b_step = _step_sizes(p_delta, p_bias, b, o_t, o_d, b_in_d, T, D, SOFTPLUS)
        b_a, b_slope = _transitions(b_step, b_A, p_reset, b, o_t, T, NEGATIVE)
        b_B = _load_map(p_B, b, o_t, o_d, b_in_d, group, T, N, G, GB, BN)
        b_C = _load_map(p_C, b, o_t, o_d, b_in_d, group, T, N, G, GC, BN)
        b_h = decayed(b_a, b_before) + (b_step * b_u)[:, :, None] * b_B  # [BT, BD, BN]

        # through the gate and the skip connection
        b_grad = _load_rows(p_grad, b, o_t, o_d, b_in_d, T, D)
        b_u_grad = tl.zeros((BT, BD), tl.float32)
        if p_skip is not None:
            b_skip = tl.load(p_skip + o_d, mask=b_in_d, other=0).to(tl.float32)[None, :]
        if p_z is not None:
            b_z = _load_rows(p_z, b, o_t, o_d, b_in_d, T, D)
            b_y = tl.sum(b_h * b_C, 2)
            if p_skip is not None:
                b_y += b_skip * b_u
            _store_rows(p_z_grad, b_grad * b_y * silu_slope(b_z), b, o_t, o_d, b_in_d, T, D)
            b_grad *= silu(b_z)
        if p_skip is not None:
            b_skip_grad += tl.sum(b_grad * b_u, 0)
            b_u_grad += b_grad * b_skip

        # the gradients of the states: the same scan from the end
        _, b_next_step = _step_sizes(p_delta, p_bias, b, o_t + 1, o_d, b_in_d, T, D, SOFTPLUS)
        b_next, _ = _transitions(b_next_step, b_A, p_reset, b, o_t + 1, T, NEGATIVE)
        b_direct = b_grad[:, :, None] * b_C + tl.where(b_final, b_later[None, :, :], 0.0)
        _, b_g = tl.associative_scan((b_next, b_direct), 0, then, reverse=True)  # [BT, BD, BN]
        b_later = tl.sum(tl.where(b_first, decayed(b_a, b_g), 0.0), 0)

        # through one step
        b_exponent_grad = b_g * decayed(b_slope, b_before)
        b_A_grad += tl.sum(b_exponent_grad * b_step[:, :, None], 0)
        b_x_grad = tl.sum(b_g * b_B, 2)  # [BT, BD]
        b_u_grad += b_x_grad * b_step
        b_step_grad = tl.sum(b_exponent_grad * b_A[None, :, :], 2) + b_x_grad * b_u
        if SOFTPLUS:
            b_step_grad *= tl.sigmoid(b_raw)
        b_bias_grad += tl.sum(tl.where((o_t < T)[:, None], b_step_grad, 0.0), 0)
        _store_rows(p_u_grad, b_u_grad, b, o_t, o_d, b_in_d, T, D)
        _store_rows(p_delta_grad, b_step_grad, b, o_t, o_d, b_in_d, T, D)
        b_B_part = b_g * (b_step * b_u)[:, :, None]
        b_C_part = b_h * b_grad[:, :, None]
        o_part = ((tl.program_id(0).to(tl.int64) * tl.num_programs(1) + b) * T + o_t)[:, None] * N + o_n[None, :]
        b_in_part = (o_t < T)[:, None] & (o_n < N)[None, :]
        if GB == 0:
            b_B_grad += tl.sum(b_B_part, 0)
        else:
            tl.store(p_B_grad + o_part, tl.sum(b_B_part, 1), mask=b_in_part)
        if GC == 0:
            b_C_grad += tl.sum(b_C_part, 0)
        else:
            tl.store(p_C_grad + o_part, tl.sum(b_C_part, 1), mask=b_in_part)
    tl.store(p_A_grad + b * D * N + o_dn, b_A_grad, mask=b_in_dn)
    tl.store(p_h0_grad + b * D * N + o_dn, b_later, mask=b_in_dn)
    tl.store(p_skip_grad + b * D + o_d, b_skip_grad, mask=b_in_d)
    tl.store(p_bias_grad + b * D + o_d, b_bias_grad, mask=b_in_d)
    if GB == 0:
        tl.store(p_B_grad + b * D * N + o_dn, b_B_grad, mask=b_in_dn)
    if GC == 0:
        tl.store(p_C_grad + b * D * N + o_dn, b_C_grad, mask=b_in_dn)
