"""What GPU kernels share; imported by the kernels of an operator only."""

import triton
import triton.language as tl


@triton.jit
def softplus(b_x):
    """`log(1 + exp(x))` with full relative precision where it is small, which `tl.log` would lose."""
    b_e = tl.exp(-tl.abs(b_x))
    # log(1 + e) = 2 artanh(s), s = e / (2 + e) <= 1/3
    b_s = b_e / (2 + b_e)
    b_s2 = b_s * b_s
    b_series = 1 / 11 + b_s2 * (1 / 13 + b_s2 / 15)
    b_series = 1 / 5 + b_s2 * (1 / 7 + b_s2 * (1 / 9 + b_s2 * b_series))
    return tl.maximum(b_x, 0) + 2 * b_s * (1 + b_s2 * (1 / 3 + b_s2 * b_series))


@triton.jit
def tanh(b_x):
    """The hyperbolic tangent, with full relative precision near zero."""
    b_e = tl.exp(-2 * tl.abs(b_x))
    b_far = (1 - b_e) / (1 + b_e)
    b_x2 = b_x * b_x
    b_near = b_x * (1 - b_x2 * (1 / 3 - b_x2 * (2 / 15 - b_x2 * (17 / 315))))
    return tl.where(b_x2 < 0.01, b_near, tl.where(b_x < 0, -b_far, b_far))


@triton.jit
def silu(b_x):
    return b_x * tl.sigmoid(b_x)


@triton.jit
def silu_slope(b_x):
    """The derivative of silu."""
    b_sigmoid = tl.sigmoid(b_x)
    return b_sigmoid * (1 + b_x * (1 - b_sigmoid))


@triton.jit
def then(b_a1, b_x1, b_a2, b_x2):
    """Two steps `h -> a h + x` as one; what a decay of zero forgets has no influence, be it not a number."""
    b_forgets = b_a2 == 0
    return tl.where(b_forgets, 0.0, b_a1 * b_a2), tl.where(b_forgets, b_x2, b_a2 * b_x1 + b_x2)


@triton.jit
def decayed(b_a, b_h):
    """`a h`; what a decay of zero forgets has no influence, be it not a number."""
    return tl.where(b_a == 0, 0.0, b_a * b_h)
