"""The meaning of `diagonal_ssm`."""

import math
from typing import Literal

import torch
from torch import Tensor

from helixwave_kernels.dispatch import Op
from helixwave_kernels.shapes import compute_dtype, expect_shapes

Discretization = Literal["zoh", "bilinear", "dirac"]


@Op
def diagonal_ssm(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    skip: Tensor | None = None,
    *,
    discretization: Discretization = "zoh",
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """A diagonal state space for each channel, `h' = A h + B u`, `y = 2 Re(C h) + skip u` (S4D, Gu et al. 2022, eq. 3).

    The states are one half of conjugate pairs, hence twice the real part. Real A, B or C are taken as complex.

    Args:
        u: inputs `[B, T, D]`.
        A: eigenvalues `[D, N]`, with negative real part where the past shall fade.
        B: input maps `[D, N]`.
        C: output maps `[D, N]`.
        dt: step sizes, positive, `[D]`.
        skip: adds `skip * u` to the output, `[D]`.
        discretization: `"zoh"` holds the input for the step; `"bilinear"` is the trapezoidal rule; `"dirac"` adds B u
            to the state at once, without a factor of dt (S4D's table 1; Gu et al. 2021, section 2).
        initial_state: `[B, D, N]`, complex; zeros if None.
        reset: `[B, T]` bool; true at t clears the state before step t.

    Returns:
        outputs `[B, T, D]` in the dtype of `u`, and the last state `[B, D, N]`, complex in float32 or wider.
    """
    dtype = state_dtype(u, A, B, C, dt)
    transition, input_map = discretized(A.to(dtype), B.to(dtype), dt.to(dtype), discretization)
    h = u.new_zeros(u.shape[0], *A.shape, dtype=dtype) if initial_state is None else initial_state.to(dtype)
    inputs = u.to(real_dtype(dtype))
    ys = []
    for t, u_t in enumerate(inputs.unbind(1)):
        if reset is not None:
            h = h.masked_fill(reset[:, t, None, None], 0)
        h = transition * h + input_map * u_t.unsqueeze(-1)
        ys.append(2 * (C.to(dtype) * h).sum(-1).real)
    return with_skip(torch.stack(ys, dim=1), inputs, skip).to(u.dtype), h


def state_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype of the state: complex, in float32 or wider where one of the tensors is."""
    return torch.promote_types(compute_dtype(*tensors), torch.complex64)


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of a state's real and imaginary parts."""
    return torch.float64 if dtype == torch.complex128 else torch.float32


def discretized(A: Tensor, B: Tensor, dt: Tensor, discretization: str) -> tuple[Tensor, Tensor]:
    """`(Abar, Bbar)` of `h_t = Abar h_{t-1} + Bbar u_t`, each `[D, N]`."""
    dt = dt.unsqueeze(-1)
    z = dt * A
    if discretization == "bilinear":
        inverse = (1 - z / 2).reciprocal()
        return (1 + z / 2) * inverse, dt * inverse * B
    transition = torch.exp(z)
    return transition, B if discretization == "dirac" else dt * _mean_of_exponential(z, transition) * B


def with_skip(y: Tensor, u: Tensor, skip: Tensor | None) -> Tensor:
    """`y + skip u`."""
    return y if skip is None else y + skip.to(y.dtype) * u


def _mean_of_exponential(z: Tensor, exponential: Tensor) -> Tensor:
    """`(exp(z) - 1) / z`, the mean of exp from 0 to z; by its series near 0, where the difference would cancel."""
    n_term = 9 if z.dtype == torch.complex64 else 15
    near = z.real.square() + z.imag.square() < 0.25
    small = z.masked_fill(~near, 0)
    series = torch.zeros_like(z)
    for k in reversed(range(n_term)):
        series = series * small + 1 / math.factorial(k + 1)
    return torch.where(near, series, (exponential - 1) / z.masked_fill(near, 1))


@diagonal_ssm.check
def _check(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    skip: Tensor | None = None,
    *,
    discretization: str = "zoh",
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> None:
    expect_shapes(
        "diagonal_ssm",
        u=(u, "B T D"),
        A=(A, "D N"),
        B=(B, "D N"),
        C=(C, "D N"),
        dt=(dt, "D"),
        skip=(skip, "D"),
        initial_state=(initial_state, "B D N"),
        reset=(reset, "B T"),
    )
    if u.is_complex() or dt.is_complex():
        raise ValueError("diagonal_ssm: u and dt are real; A, B, C and the state are complex")
    if discretization not in ("zoh", "bilinear", "dirac"):
        raise ValueError(f"diagonal_ssm: discretization is {discretization!r}, expected 'zoh', 'bilinear' or 'dirac'")
