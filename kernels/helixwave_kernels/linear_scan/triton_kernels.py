"""The GPU kernels of `linear_scan`; imported when one is first launched."""

import triton
import triton.language as tl

from helixwave_kernels.triton_kernels import decayed, then


@triton.jit
def _decay(p_decay, p_reset, b, o_t, o_d, T, D):
    """Decays, `[BT, BD]`: zero where the state is cleared, one outside the sequence."""
    b_in_t = (o_t >= 0) & (o_t < T)
    p_rows = p_decay + (b * T + o_t)[:, None] * D + o_d[None, :]
    b_decay = tl.load(p_rows, mask=b_in_t[:, None] & (o_d < D)[None, :], other=0).to(tl.float32)
    b_decay = tl.where(b_in_t[:, None], b_decay, 1.0)
    if p_reset is not None:
        b_kept = (tl.load(p_reset + b * T + o_t, mask=b_in_t, other=0) == 0)[:, None]
        b_decay = tl.where(b_kept, b_decay, 0.0)
    return b_decay


@triton.jit
def linear_scan_fwd_kernel(
    p_x, p_decay, p_reset, p_h0, p_h, p_last, T, D, BT: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(1).to(tl.int64)
    o_d = tl.program_id(0) * BD + tl.arange(0, BD)
    b_in_d = o_d < D
    b_h = tl.zeros((BD,), tl.float32)
    if p_h0 is not None:
        b_h = tl.load(p_h0 + b * D + o_d, mask=b_in_d, other=0).to(tl.float32)
    for start in range(0, T, BT):
        o_t = start + tl.arange(0, BT)
        b_mask = (o_t < T)[:, None] & b_in_d[None, :]
        o_rows = (b * T + o_t)[:, None] * D + o_d[None, :]
        b_x = tl.load(p_x + o_rows, mask=b_mask, other=0).to(tl.float32)
        b_within, b_hs = tl.associative_scan((_decay(p_decay, p_reset, b, o_t, o_d, T, D), b_x), 0, then)
        b_hs += decayed(b_within, b_h[None, :])  # [BT, BD]
        tl.store(p_h + o_rows, b_hs.to(p_h.dtype.element_ty), mask=b_mask)
        b_h = tl.sum(tl.where((tl.arange(0, BT) == BT - 1)[:, None], b_hs, 0.0), 0)
    tl.store(p_last + b * D + o_d, b_h, mask=b_in_d)


@triton.jit
def linear_scan_bwd_kernel(
    p_grad, p_last_grad, p_decay, p_reset, p_h0, p_h, p_x_grad, p_decay_grad, p_h0_grad, T, D,
    BT: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """The scan from the end, `g_t = grad_t + decay_{t+1} g_{t+1}`; the gradient of decay_t is `g_t h_{t-1}`."""
    b = tl.program_id(1).to(tl.int64)
    o_d = tl.program_id(0) * BD + tl.arange(0, BD)
    b_in_d = o_d < D
    o_row = tl.arange(0, BT)
    # what the states after the chunk add to the gradient of its last state
    b_later = tl.zeros((BD,), tl.float32)
    if p_last_grad is not None:
        b_later = tl.load(p_last_grad + b * D + o_d, mask=b_in_d, other=0).to(tl.float32)
    for i in range(tl.cdiv(T, BT)):
        o_t = (tl.cdiv(T, BT) - 1 - i) * BT + o_row
        b_mask = (o_t < T)[:, None] & b_in_d[None, :]
        o_rows = (b * T + o_t)[:, None] * D + o_d[None, :]
        b_grad = tl.load(p_grad + o_rows, mask=b_mask, other=0).to(tl.float32)
        b_grad += tl.where((o_row == BT - 1)[:, None], b_later[None, :], 0.0)
        b_next = _decay(p_decay, p_reset, b, o_t + 1, o_d, T, D)
        _, b_g = tl.associative_scan((b_next, b_grad), 0, then, reverse=True)
        tl.store(p_x_grad + o_rows, b_g.to(p_x_grad.dtype.element_ty), mask=b_mask)
        b_previous = tl.load(p_h + o_rows - D, mask=b_mask & (o_t > 0)[:, None], other=0).to(tl.float32)
        if p_h0 is not None:
            b_h0 = tl.load(p_h0 + b * D + o_d, mask=b_in_d, other=0).to(tl.float32)
            b_previous += tl.where((o_t == 0)[:, None], b_h0[None, :], 0.0)
        if p_reset is not None:
            b_kept = (tl.load(p_reset + b * T + o_t, mask=o_t < T, other=0) == 0)[:, None]
            b_previous = tl.where(b_kept, b_previous, 0.0)
        tl.store(p_decay_grad + o_rows, (b_g * b_previous).to(p_decay_grad.dtype.element_ty), mask=b_mask)
        b_decay = _decay(p_decay, p_reset, b, o_t, o_d, T, D)
        b_later = tl.sum(tl.where((o_row == 0)[:, None], decayed(b_decay, b_g), 0.0), 0)
    if p_h0 is not None:
        tl.store(p_h0_grad + b * D + o_d, b_later, mask=b_in_d)


@triton.jit
def _load_pairs(p, o, b_mask):
    """Real and imaginary parts, which lie side by side."""
    return tl.load(p + 2 * o, mask=b_mask, other=0), tl.load(p + 2 * o + 1, mask=b_mask, other=0)


@triton.jit
def _store_pairs(p, o, b_re, b_im, b_mask):
    tl.store(p + 2 * o, b_re, mask=b_mask)
    tl.store(p + 2 * o + 1, b_im, mask=b_mask)


@triton.jit
def _complex_decay(p_decay, p_reset, b, o_t, o_d, T, D):
    """Decays, zero where the state is cleared, one outside the sequence."""
    b_in_t = (o_t >= 0) & (o_t < T)
    b_mask = b_in_t[:, None] & (o_d < D)[None, :]
    b_re, b_im = _load_pairs(p_decay, (b * T + o_t)[:, None] * D + o_d[None, :], b_mask)
    b_re = tl.where(b_in_t[:, None], b_re, 1.0)
    if p_reset is not None:
        b_kept = (tl.load(p_reset + b * T + o_t, mask=b_in_t, other=0) == 0)[:, None]
        b_re = tl.where(b_kept, b_re, 0.0)
        b_im = tl.where(b_kept, b_im, 0.0)
    return b_re, b_im


@triton.jit
def _complex_then(b_a1, b_b1, b_x1, b_y1, b_a2, b_b2, b_x2, b_y2):
    """Two steps `h -> (a + ib) h + (x + iy)` as one."""
    b_forgets = (b_a2 == 0) & (b_b2 == 0)
    b_x = tl.where(b_forgets, b_x2, b_a2 * b_x1 - b_b2 * b_y1 + b_x2)
    b_y = tl.where(b_forgets, b_y2, b_a2 * b_y1 + b_b2 * b_x1 + b_y2)
    b_a = tl.where(b_forgets, 0.0, b_a2 * b_a1 - b_b2 * b_b1)
    b_b = tl.where(b_forgets, 0.0, b_a2 * b_b1 + b_b2 * b_a1)
    return b_a, b_b, b_x, b_y


@triton.jit
def _complex_decayed(b_a, b_b, b_x, b_y):
    b_forgets = (b_a == 0) & (b_b == 0)
    return tl.where(b_forgets, 0.0, b_a * b_x - b_b * b_y), tl.where(b_forgets, 0.0, b_a * b_y + b_b * b_x)


@triton.jit
def linear_scan_complex_fwd_kernel(
    p_x, p_decay, p_reset, p_h0, p_h, p_last, T, D, BT: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(1).to(tl.int64)
    o_d = tl.program_id(0) * BD + tl.arange(0, BD)
    b_in_d = o_d < D
    b_h, b_k = tl.zeros((BD,), tl.float32), tl.zeros((BD,), tl.float32)  # the state is h + ik
    if p_h0 is not None:
        b_h, b_k = _load_pairs(p_h0, b * D + o_d, b_in_d)
    b_last = (tl.arange(0, BT) == BT - 1)[:, None]
    for start in range(0, T, BT):
        o_t = start + tl.arange(0, BT)
        b_mask = (o_t < T)[:, None] & b_in_d[None, :]
        o_rows = (b * T + o_t)[:, None] * D + o_d[None, :]
        b_x, b_y = _load_pairs(p_x, o_rows, b_mask)
        b_re, b_im = _complex_decay(p_decay, p_reset, b, o_t, o_d, T, D)
        b_re, b_im, b_x, b_y = tl.associative_scan((b_re, b_im, b_x, b_y), 0, _complex_then)
        b_re, b_im = _complex_decayed(b_re, b_im, b_h[None, :], b_k[None, :])
        b_x += b_re
        b_y += b_im
        _store_pairs(p_h, o_rows, b_x, b_y, b_mask)
        b_h = tl.sum(tl.where(b_last, b_x, 0.0), 0)
        b_k = tl.sum(tl.where(b_last, b_y, 0.0), 0)
    _store_pairs(p_last, b * D + o_d, b_h, b_k, b_in_d)


@triton.jit
def linear_scan_complex_bwd_kernel(
    p_grad, p_last_grad, p_decay, p_reset, p_h0, p_h, p_x_grad, p_decay_grad, p_h0_grad, T, D,
    BT: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """The same with conjugates: `g_t = grad_t + conj(decay_{t+1}) g_{t+1}`; that of decay_t is `g_t conj(h_{t-1})`."""
    b = tl.program_id(1).to(tl.int64)
    o_d = tl.program_id(0) * BD + tl.arange(0, BD)
    b_in_d = o_d < D
    o_row = tl.arange(0, BT)
    b_first, b_last = (o_row == 0)[:, None], (o_row == BT - 1)[:, None]
    b_x, b_y = tl.zeros((BD,), tl.float32), tl.zeros((BD,), tl.float32)
    if p_last_grad is not None:
        b_x, b_y = _load_pairs(p_last_grad, b * D + o_d, b_in_d)
    for i in range(tl.cdiv(T, BT)):
        o_t = (tl.cdiv(T, BT) - 1 - i) * BT + o_row
        b_mask = (o_t < T)[:, None] & b_in_d[None, :]
        o_rows = (b * T + o_t)[:, None] * D + o_d[None, :]
        b_g, b_k = _load_pairs(p_grad, o_rows, b_mask)
        b_g += tl.where(b_last, b_x[None, :], 0.0)
        b_k += tl.where(b_last, b_y[None, :], 0.0)
        b_re, b_im = _complex_decay(p_decay, p_reset, b, o_t + 1, o_d, T, D)
        _, _, b_g, b_k = tl.associative_scan((b_re, -b_im, b_g, b_k), 0, _complex_then, reverse=True)
        _store_pairs(p_x_grad, o_rows, b_g, b_k, b_mask)
        b_h, b_j = _load_pairs(p_h, o_rows - D, b_mask & (o_t > 0)[:, None])
        if p_h0 is not None:
            b_re, b_im = _load_pairs(p_h0, b * D + o_d, b_in_d)
            b_h += tl.where((o_t == 0)[:, None], b_re[None, :], 0.0)
            b_j += tl.where((o_t == 0)[:, None], b_im[None, :], 0.0)
        if p_reset is not None:
            b_kept = (tl.load(p_reset + b * T + o_t, mask=o_t < T, other=0) == 0)[:, None]
            b_h = tl.where(b_kept, b_h, 0.0)
            b_j = tl.where(b_kept, b_j, 0.0)
        _store_pairs(p_decay_grad, o_rows, b_g * b_h + b_k * b_j, b_k * b_h - b_g * b_j, b_mask)
        b_re, b_im = _complex_decay(p_decay, p_reset, b, o_t, o_d, T, D)
        b_re, b_im = _complex_decayed(b_re, -b_im, b_g, b_k)
        b_x = tl.sum(tl.where(b_first, b_re, 0.0), 0)
        b_y = tl.sum(tl.where(b_first, b_im, 0.0), 0)
    if p_h0 is not None:
        _store_pairs(p_h0_grad, b * D + o_d, b_x, b_y, b_in_d)
