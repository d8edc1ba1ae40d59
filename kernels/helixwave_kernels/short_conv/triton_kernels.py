"""The GPU kernels of `short_conv`; imported when one is first launched."""

import triton
import triton.language as tl

from helixwave_kernels.triton_kernels import silu, silu_slope


@triton.jit
def _inputs(p_x, p_before, b, o_s, o_d, b_mask, T, D, W: tl.constexpr):
    """Inputs at the times `o_s`, `[BT, BD]`, from -(W-1) on; zeros outside and where the mask is false."""
    b_mask = b_mask & (o_d < D)[None, :]
    p_rows = p_x + (b * T + o_s)[:, None] * D + o_d[None, :]
    b_x = tl.load(p_rows, mask=b_mask & ((o_s >= 0) & (o_s < T))[:, None], other=0).to(tl.float32)
    if p_before is not None:
        p_rows = p_before + (b * (W - 1) + W - 1 + o_s)[:, None] * D + o_d[None, :]
        b_x += tl.load(p_rows, mask=b_mask & ((o_s < 0) & (o_s > -W))[:, None], other=0).to(tl.float32)
    return b_x


@triton.jit
def _first_visible(p_first, b, o_t, T, W: tl.constexpr):
    """The earliest input that each output may see, `[BT, 1]`; nothing is visible to an output outside the sequence."""
    if p_first is None:
        b_first = o_t * 0 - W
    else:
        b_first = tl.load(p_first + b * T + o_t, mask=(o_t >= 0) & (o_t < T), other=0).to(tl.int64)
    return tl.where((o_t >= 0) & (o_t < T), b_first, T)[:, None]


@triton.jit
def _weight(p_weight, w, o_d, D, W: tl.constexpr):
    return tl.load(p_weight + o_d * W + w, mask=o_d < D, other=0).to(tl.float32)[None, :]  # [1, BD]


@triton.jit
def _convolved(p_x, p_weight, p_bias, p_before, p_first, b, o_t, o_d, T, D, W: tl.constexpr):
    """Outputs at the times `o_t` before the activation, `[BT, BD]`."""
    b_first = _first_visible(p_first, b, o_t, T, W)
    b_y = tl.zeros((o_t.shape[0], o_d.shape[0]), tl.float32)
    for w in tl.static_range(W):
        o_s = o_t - (W - 1) + w
        b_x = _inputs(p_x, p_before, b, o_s, o_d, o_s[:, None] >= b_first, T, D, W)
        b_y += _weight(p_weight, w, o_d, D, W) * b_x
    if p_bias is not None:
        b_y += tl.load(p_bias + o_d, mask=o_d < D, other=0).to(tl.float32)[None, :]
    return b_y


@triton.jit
def short_conv_fwd_kernel(
    p_x, p_weight, p_bias, p_before, p_first, p_y, T, D,
    W: tl.constexpr, SILU: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(2).to(tl.int64)
    o_t = tl.program_id(0).to(tl.int64) * BT + tl.arange(0, BT)
    o_d = tl.program_id(1) * BD + tl.arange(0, BD)
    b_y = _convolved(p_x, p_weight, p_bias, p_before, p_first, b, o_t, o_d, T, D, W)
    if SILU:
        b_y = silu(b_y)
    p_rows = p_y + (b * T + o_t)[:, None] * D + o_d[None, :]
    tl.store(p_rows, b_y.to(p_y.dtype.element_ty), mask=(o_t < T)[:, None] & (o_d < D)[None, :])


@triton.jit
def short_conv_bwd_kernel(
    p_grad, p_x, p_weight, p_bias, p_before, p_first, p_x_grad, p_before_grad, p_weight_grad, p_bias_grad, T, D,
    W: tl.constexpr, SILU: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Input gradients at BT times from -(W-1) on, and the part that the outputs at these times add to the weight's."""
    b = tl.program_id(2).to(tl.int64)
    block = tl.program_id(0).to(tl.int64)
    o_s = block * BT - (W - 1) + tl.arange(0, BT)
    o_d = tl.program_id(1) * BD + tl.arange(0, BD)
    b_in_d = (o_d < D)[None, :]
    part = b * tl.num_programs(0) + block
    b_x = _inputs(p_x, p_before, b, o_s, o_d, b_in_d, T, D, W)
    b_x_grad = tl.zeros((BT, BD), tl.float32)
    for w in tl.static_range(W):
        # the output that meets these inputs at tap w
        o_t = o_s + (W - 1) - w
        b_seen = o_s[:, None] >= _first_visible(p_first, b, o_t, T, W)
        p_rows = p_grad + (b * T + o_t)[:, None] * D + o_d[None, :]
        b_grad = tl.load(p_rows, mask=((o_t >= 0) & (o_t < T))[:, None] & b_in_d, other=0).to(tl.float32)
        if SILU:
            b_grad *= silu_slope(_convolved(p_x, p_weight, p_bias, p_before, p_first, b, o_t, o_d, T, D, W))
        if p_bias is not None and w == W - 1:
            tl.store(p_bias_grad + part * D + o_d, tl.sum(b_grad, 0), mask=o_d < D)
        b_grad = tl.where(b_seen, b_grad, 0)
        b_x_grad += _weight(p_weight, w, o_d, D, W) * b_grad
        tl.store(p_weight_grad + (part * W + w) * D + o_d, tl.sum(tl.where(b_seen, b_x, 0) * b_grad, 0), mask=o_d < D)
    p_rows = p_x_grad + (b * T + o_s)[:, None] * D + o_d[None, :]
    tl.store(p_rows, b_x_grad.to(p_x_grad.dtype.element_ty), mask=((o_s >= 0) & (o_s < T))[:, None] & b_in_d)
    if p_before is not None:
        p_rows = p_before_grad + (b * (W - 1) + W - 1 + o_s)[:, None] * D + o_d[None, :]
        tl.store(p_rows, b_x_grad, mask=(o_s < 0)[:, None] & b_in_d)
