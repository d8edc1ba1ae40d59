"""The GPU kernels of `recurrent`; imported when one is first launched.

With the weights R, a program owns one head of one sequence and goes through all steps with R in its registers. Without
R (a head too wide for that), a launch does one step of a block of units, between two matrix products of torch.
"""

import triton
import triton.language as tl

from helixwave_kernels.triton_kernels import softplus, tanh


@triton.jit
def _units(P, BP: tl.constexpr):
    """This program's sequence, head, units `[BP]`, and which of them there are."""
    o_p = tl.program_id(2) * BP + tl.arange(0, BP)
    return tl.program_id(1).to(tl.int64), tl.program_id(0).to(tl.int64), o_p, o_p < P


@triton.jit
def _gates(p, b, t, head, o_p, b_mask, T, H, P, J: tl.constexpr):
    """The gates of one step, four times `[BP]`; the last of J again for those that the cell has not."""
    p_step = p + ((b * T + t) * J * H + head) * P + o_p
    b_0 = tl.load(p_step, mask=b_mask, other=0)
    b_1 = tl.load(p_step + min(1, J - 1) * H * P, mask=b_mask, other=0)
    b_2 = tl.load(p_step + min(2, J - 1) * H * P, mask=b_mask, other=0)
    b_3 = tl.load(p_step + min(3, J - 1) * H * P, mask=b_mask, other=0)
    return b_0, b_1, b_2, b_3


@triton.jit
def _store_gates(p, b_0, b_1, b_2, b_3, b, t, head, o_p, b_mask, T, H, P, J: tl.constexpr):
    p_step = p + ((b * T + t) * J * H + head) * P + o_p
    tl.store(p_step, b_0, mask=b_mask)
    if J > 1:
        tl.store(p_step + H * P, b_1, mask=b_mask)
        tl.store(p_step + 2 * H * P, b_2, mask=b_mask)
    if J > 3:
        tl.store(p_step + 3 * H * P, b_3, mask=b_mask)


@triton.jit
def _weights(p_R, j, head, o_p, b_mask, H, P):
    """R of one gate, `[BP, BP]`: from the last state (rows) to the gate (columns)."""
    p_rows = p_R + ((j * H + head) * P + o_p)[:, None] * P + o_p[None, :]
    return tl.load(p_rows, mask=b_mask[:, None] & b_mask[None, :], other=0)


@triton.jit
def _state_before(p_start, p_all, b, t, head, o_p, T, H, P):
    """A part of the state before step t: of the start, or of what was kept of the step before."""
    b_start = tl.load(p_start + (b * H + head) * P + o_p, mask=o_p < tl.where(t == 0, P, 0), other=0)
    p_step = p_all + ((b * T + t - 1) * H + head) * P + o_p
    return b_start + tl.load(p_step, mask=o_p < tl.where(t > 0, P, 0), other=0)


@triton.jit
def _states_before(
    p_start, p_y, p_memory, p_reset, b, t, head, o_p, B, T, H, P, CELL: tl.constexpr
):  # fmt: skip
    """h, c, n and m before step t, `[BP]`; cleared where the step begins anew. What the cell has not is h."""
    b_h = _state_before(p_start, p_y, b, t, head, o_p, T, H, P)
    b_c, b_n, b_m = b_h, b_h, b_h
    part = (b * 0 + B) * H * P
    if CELL == "slstm" or CELL == "lstm":
        b_c = _state_before(p_start + part, p_memory, b, t, head, o_p, T, H, P)
    if CELL == "slstm":
        b_n = _state_before(p_start + 2 * part, p_memory + T * part, b, t, head, o_p, T, H, P)
        b_m = _state_before(p_start + 3 * part, p_memory + 2 * T * part, b, t, head, o_p, T, H, P)
    return _cleared(p_reset, b, t, T, b_h, b_c, b_n, b_m)


@triton.jit
def _cleared(p_reset, b, t, T, b_h, b_c, b_n, b_m):
    """The empty state where the step begins anew."""
    if p_reset is not None:
        cut = tl.load(p_reset + b * T + t, mask=t < T, other=0) != 0
        b_h = tl.where(cut, 0.0, b_h)
        b_c = tl.where(cut, 0.0, b_c)
        b_n = tl.where(cut, 0.0, b_n)
        b_m = tl.where(cut, float("-inf"), b_m)
    return b_h, b_c, b_n, b_m


@triton.jit
def _exponential_gates(b_i, b_f, b_before, b_m):
    """The stabilised gates i' and f' of an sLSTM; with nothing seen yet, -inf - (-inf) has to give -inf."""
    b_finite = tl.maximum(b_m, -3.4028234663852886e38)
    return tl.exp(b_i - b_finite), tl.exp(b_before - softplus(-b_f) - b_finite)


@triton.jit
def _step(CELL: tl.constexpr, b_x0, b_x1, b_x2, b_x3, b_r0, b_r1, b_r2, b_r3, b_h, b_c, b_n, b_m):
    """The next state; b_x are the inputs of the gates, b_r what the last state and the bias add."""
    if CELL == "slstm":
        b_before = b_m
        b_m = tl.maximum(b_x0 + b_r0, b_before - softplus(-(b_x1 + b_r1)))
        b_i, b_f = _exponential_gates(b_x0 + b_r0, b_x1 + b_r1, b_before, b_m)
        b_c = b_f * b_c + b_i * tanh(b_x2 + b_r2)
        b_n = b_f * b_n + b_i
        b_h = tl.sigmoid(b_x3 + b_r3) * (b_c / tl.where(b_n == 0, 1.0, b_n))
    elif CELL == "lstm":
        b_c = tl.sigmoid(b_x1 + b_r1) * b_c + tl.sigmoid(b_x0 + b_r0) * tanh(b_x2 + b_r2)
        b_h = tl.sigmoid(b_x3 + b_r3) * tanh(b_c)
    elif CELL == "gru":
        b_z = tl.sigmoid(b_x1 + b_r1)
        b_h = (1 - b_z) * tanh(b_x2 + tl.sigmoid(b_x0 + b_r0) * b_r2) + b_z * b_h
    else:
        b_h = tanh(b_x0 + b_r0)
    return b_h, b_c, b_n, b_m


@triton.jit(do_not_specialize=["begin", "end"])
def recurrent_fwd_kernel(
    p_x, p_R, p_bias, p_recurrence, p_start, p_reset, p_y, p_memory, begin, end, B, T, H, P,
    CELL: tl.constexpr, J: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """Steps `begin` to `end`; without R a single one, whose `recurrence` `[B, J, H, P]` is R's product and the bias."""
    b, head, o_p, b_mask = _units(P, BP)
    part = (b * 0 + B) * T * H * P
    b_h, b_c, b_n, b_m = _states_before(
        p_start, p_y, p_memory, None, b, begin, head, o_p, B, T, H, P, CELL
    )  # fmt: skip
    if p_R is None:
        b_r0, b_r1, b_r2, b_r3 = _gates(p_recurrence, b, 0, head, o_p, b_mask, 1, H, P, J)
    else:
        b_R0 = _weights(p_R, 0, head, o_p, b_mask, H, P)
        b_R1 = _weights(p_R, min(1, J - 1), head, o_p, b_mask, H, P)
        b_R2 = _weights(p_R, min(2, J - 1), head, o_p, b_mask, H, P)
        b_R3 = _weights(p_R, min(3, J - 1), head, o_p, b_mask, H, P)
        b_b0, b_b1, b_b2, b_b3 = _gates(p_bias, 0, 0, head, o_p, b_mask, 1, H, P, J)
    # a step ahead, so that no step waits for memory
    b_x0, b_x1, b_x2, b_x3 = _gates(p_x, b, begin, head, o_p, b_mask, T, H, P, J)
    for i in range(end - begin):
        t = begin + i
        b_y0, b_y1, b_y2, b_y3 = _gates(p_x, b, t + 1, head, o_p, o_p < tl.where(t + 1 < end, P, 0), T, H, P, J)
        b_h, b_c, b_n, b_m = _cleared(p_reset, b, t, T, b_h, b_c, b_n, b_m)
        if p_R is not None:
            b_r0 = tl.sum(b_h[:, None] * b_R0, 0) + b_b0
            b_r1 = tl.sum(b_h[:, None] * b_R1, 0) + b_b1
            b_r2 = tl.sum(b_h[:, None] * b_R2, 0) + b_b2
            b_r3 = tl.sum(b_h[:, None] * b_R3, 0) + b_b3
        b_h, b_c, b_n, b_m = _step(
            CELL, b_x0, b_x1, b_x2, b_x3, b_r0, b_r1, b_r2, b_r3, b_h, b_c, b_n, b_m
        )  # fmt: skip
        o_step = ((b * T + t) * H + head) * P + o_p
        tl.store(p_y + o_step, b_h, mask=b_mask)
        if CELL == "slstm" or CELL == "lstm":
            tl.store(p_memory + o_step, b_c, mask=b_mask)
        if CELL == "slstm":
            tl.store(p_memory + part + o_step, b_n, mask=b_mask)
            tl.store(p_memory + 2 * part + o_step, b_m, mask=b_mask)
        b_x0, b_x1, b_x2, b_x3 = b_y0, b_y1, b_y2, b_y3


@triton.jit
def _step_back(
    CELL: tl.constexpr, b_x0, b_x1, b_x2, b_x3, b_r0, b_r1, b_r2, b_r3, b_h, b_c, b_n, b_m,
    b_next_c, b_next_n, b_next_m, b_dh, b_dc, b_dn,
):  # fmt: skip
    """The gradients of the four gates, of what the recurrence adds to the third, and of h (but through R), c and n.

    b_h to b_m are the state before the step, b_next the one after it, b_dh to b_dn the gradients of that.
    """
    b_zero = b_dh * 0
    if CELL == "slstm":
        b_i, b_f = _exponential_gates(b_x0 + b_r0, b_x1 + b_r1, b_m, b_next_m)
        b_z, b_o = tanh(b_x2 + b_r2), tl.sigmoid(b_x3 + b_r3)
        b_scale = tl.where(b_next_n == 0, 0.0, 1 / tl.where(b_next_n == 0, 1.0, b_next_n))
        b_ratio = b_next_c * b_scale
        b_dc += b_dh * b_o * b_scale
        b_dn -= b_dh * b_o * b_scale * b_ratio
        b_d0 = (b_dc * b_z + b_dn) * b_i
        b_d1 = (b_dc * b_c + b_dn * b_n) * b_f * tl.sigmoid(-(b_x1 + b_r1))
        b_d2 = b_dc * b_i * (1 - b_z * b_z)
        b_d3 = b_dh * b_ratio * b_o * (1 - b_o)
        b_n_gate, b_dh, b_dc, b_dn = b_d2, b_zero, b_dc * b_f, b_dn * b_f
    elif CELL == "lstm":
        b_i, b_f = tl.sigmoid(b_x0 + b_r0), tl.sigmoid(b_x1 + b_r1)
        b_z, b_o = tanh(b_x2 + b_r2), tl.sigmoid(b_x3 + b_r3)
        b_output = tanh(b_next_c)
        b_dc += b_dh * b_o * (1 - b_output * b_output)
        b_d0 = b_dc * b_z * b_i * (1 - b_i)
        b_d1 = b_dc * b_c * b_f * (1 - b_f)
        b_d2 = b_dc * b_i * (1 - b_z * b_z)
        b_d3 = b_dh * b_output * b_o * (1 - b_o)
        b_n_gate, b_dh, b_dc = b_d2, b_zero, b_dc * b_f
    elif CELL == "gru":
        b_r, b_z = tl.sigmoid(b_x0 + b_r0), tl.sigmoid(b_x1 + b_r1)
        b_new = tanh(b_x2 + b_r * b_r2)
        b_d2 = b_dh * (1 - b_z) * (1 - b_new * b_new)
        b_d0 = b_d2 * b_r2 * b_r * (1 - b_r)
        b_d1 = b_dh * (b_h - b_new) * b_z * (1 - b_z)
        b_n_gate, b_d3, b_dh = b_d2 * b_r, b_zero, b_dh * b_z
    else:
        b_new = tanh(b_x0 + b_r0)
        b_d0 = b_dh * (1 - b_new * b_new)
        b_d1, b_d2, b_d3, b_n_gate, b_dh = b_zero, b_zero, b_zero, b_zero, b_zero
    return b_d0, b_d1, b_d2, b_d3, b_n_gate, b_dh, b_dc, b_dn


@triton.jit(do_not_specialize=["begin", "end"])
def recurrent_bwd_kernel(
    p_grad, p_x, p_R, p_recurrence, p_start, p_reset, p_y, p_memory, p_carry, p_x_grad, p_recurrence_grad,
    begin, end, B, T, H, P, CELL: tl.constexpr, J: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """Steps `end` down to `begin`. `carry` `[3, B, H, P]` holds the gradients of h, c and n on the way in and out.

    Without R a single step, and the gradient of h lacks what comes through R. On the way out, the carry is not cleared
    where step `begin` starts anew: this is left to the step before.
    """
    b, head, o_p, b_mask = _units(P, BP)
    part = (b * 0 + B) * T * H * P
    p_dh = p_carry + (b * H + head) * P + o_p
    p_dc, p_dn = p_dh + (b * 0 + B) * H * P, p_dh + 2 * (b * 0 + B) * H * P
    b_dh = tl.load(p_dh, mask=b_mask, other=0)
    b_dc, b_dn = b_dh, b_dh
    if CELL == "slstm" or CELL == "lstm":
        b_dc = tl.load(p_dc, mask=b_mask, other=0)
    if CELL == "slstm":
        b_dn = tl.load(p_dn, mask=b_mask, other=0)
    if p_R is not None:
        b_R0 = _weights(p_R, 0, head, o_p, b_mask, H, P)
        b_R1 = _weights(p_R, min(1, J - 1), head, o_p, b_mask, H, P)
        b_R2 = _weights(p_R, min(2, J - 1), head, o_p, b_mask, H, P)
        b_R3 = _weights(p_R, min(3, J - 1), head, o_p, b_mask, H, P)
    for i in range(end - begin):
        t = end - 1 - i
        b_dh, b_dc, b_dn, _ = _cleared(p_reset, b, t + 1, T, b_dh, b_dc, b_dn, b_dn)
        o_step = ((b * T + t) * H + head) * P + o_p
        b_dh += tl.load(p_grad + o_step, mask=b_mask, other=0)
        b_h, b_c, b_n, b_m = _states_before(
            p_start, p_y, p_memory, p_reset, b, t, head, o_p, B, T, H, P, CELL
        )  # fmt: skip
        b_next_c, b_next_n, b_next_m = b_h, b_h, b_h
        if CELL == "slstm" or CELL == "lstm":
            b_next_c = tl.load(p_memory + o_step, mask=b_mask, other=0)
        if CELL == "slstm":
            b_next_n = tl.load(p_memory + part + o_step, mask=b_mask, other=0)
            b_next_m = tl.load(p_memory + 2 * part + o_step, mask=b_mask, other=0)
        b_x0, b_x1, b_x2, b_x3 = _gates(p_x, b, t, head, o_p, b_mask, T, H, P, J)
        b_r0, b_r1, b_r2, b_r3 = _gates(p_recurrence, b, t, head, o_p, b_mask, T, H, P, J)
        b_d0, b_d1, b_d2, b_d3, b_n_gate, b_dh, b_dc, b_dn = _step_back(
            CELL, b_x0, b_x1, b_x2, b_x3, b_r0, b_r1, b_r2, b_r3, b_h, b_c, b_n, b_m,
            b_next_c, b_next_n, b_next_m, b_dh, b_dc, b_dn,
        )  # fmt: skip
        _store_gates(p_x_grad, b_d0, b_d1, b_d2, b_d3, b, t, head, o_p, b_mask, T, H, P, J)
        if CELL == "gru":
            # the recurrence of the third gate stands inside a product
            _store_gates(p_recurrence_grad, b_d0, b_d1, b_n_gate, b_d3, b, t, head, o_p, b_mask, T, H, P, J)
        if p_R is not None:
            b_dh += tl.sum(b_d0[None, :] * b_R0, 1)
            if J > 1:
                b_dh += tl.sum(b_d1[None, :] * b_R1 + b_n_gate[None, :] * b_R2, 1)
            if J > 3:
                b_dh += tl.sum(b_d3[None, :] * b_R3, 1)
    tl.store(p_dh, b_dh, mask=b_mask)
    if CELL == "slstm" or CELL == "lstm":
        tl.store(p_dc, b_dc, mask=b_mask)
    if CELL == "slstm":
        tl.store(p_dn, b_dn, mask=b_mask)
