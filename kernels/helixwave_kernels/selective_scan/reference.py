"""The meaning of `selective_scan`."""

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels.dispatch import Op
from helixwave_kernels.shapes import compute_dtype, expect_shapes


@Op
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    softplus: bool = True,
    negative_eigenvalues: bool = False,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mamba's scan `h_t = exp(d_t A) h_{t-1} + d_t u_t B_t`, `y_t = C_t h_t` (Gu & Dao 2023, eq. 2 and algorithm 2).

    Args:
        u: inputs `[B, T, D]`.
        delta: step sizes `[B, T, D]`; with `softplus` the step is `d = softplus(delta + delta_bias)`, and an entry of
            -inf freezes the state.
        A: eigenvalues, negative, `[D, N]`.
        B: input maps: `[B, T, N]`, `[B, T, G, N]` with one map for each of G groups of channels, or `[D, N]`.
        C: output maps, shaped like any of those of `B`.
        skip: adds `skip * u` to the output, `[D]`.
        z: gates the output by `silu(z)`, `[B, T, D]`.
        delta_bias: `[D]`.
        softplus: False takes `delta` (plus `delta_bias`) as the step itself.
        negative_eigenvalues: the transition is `2 exp(d A) - 1` in (-1, 1) (Grazzi et al. 2024, section 4).
        initial_state: `[B, D, N]`; zeros if None.
        reset: `[B, T]` bool; true at t clears the state before step t.

    Returns:
        outputs `[B, T, D]` in the dtype of `u`, and the last state `[B, D, N]` in float32 or wider.
    """
    dtype = compute_dtype(u)
    steps = step_sizes(delta.to(dtype), delta_bias, softplus)
    A = A.to(dtype)
    h = u.new_zeros(u.shape[0], *A.shape, dtype=dtype) if initial_state is None else initial_state.to(dtype)
    ys = []
    for t, (d_t, u_t, B_t, C_t) in enumerate(zip(*_by_time(steps, u.to(dtype), B.to(dtype), C.to(dtype)), strict=True)):
        if reset is not None:
            h = h.masked_fill(reset[:, t, None, None], 0)
        transition = torch.exp(d_t.unsqueeze(-1) * A)
        if negative_eigenvalues:
            transition = 2 * transition - 1
        h = transition * h + (d_t * u_t).unsqueeze(-1) * B_t
        ys.append((h * C_t).sum(-1))
    return gated(torch.stack(ys, dim=1), u, skip, z).to(u.dtype), h


def step_sizes(delta: Tensor, delta_bias: Tensor | None, softplus: bool) -> Tensor:
    """The discretisation steps `[B, T, D]`; softplus is linear above 20."""
    if delta_bias is not None:
        delta = delta + delta_bias
    return F.softplus(delta, threshold=20) if softplus else delta


def gated(y: Tensor, u: Tensor, skip: Tensor | None, z: Tensor | None) -> Tensor:
    """`(y + skip u) silu(z)` in the dtype of `y`."""
    if skip is not None:
        y = y + skip.to(y.dtype) * u
    return y if z is None else y * F.silu(z.to(y.dtype))


def _by_time(steps: Tensor, u: Tensor, B: Tensor, C: Tensor) -> tuple[tuple[Tensor, ...], ...]:
    _, T, D = u.shape
    maps = (_each_channel(map_, T, D).unbind(1) for map_ in (B, C))
    return steps.unbind(1), u.unbind(1), *maps


def _each_channel(map_: Tensor, T: int, D: int) -> Tensor:  # any of the three shapes -> broadcasts to [B, T, D, N]
    if map_.ndim == 2:
        return map_.expand(1, T, *map_.shape)
    if map_.ndim == 3:
        return map_.unsqueeze(2)
    return map_.repeat_interleave(D // map_.shape[2], dim=2)


@selective_scan.check
def _check(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
    **others: object,
) -> None:
    expect_shapes(
        "selective_scan",
        u=(u, "B T D"),
        delta=(delta, "B T D"),
        A=(A, "D N"),
        B=(B, _map_axes(B)),
        C=(C, _map_axes(C)),
        skip=(skip, "D"),
        z=(z, "B T D"),
        delta_bias=(delta_bias, "D"),
        initial_state=(initial_state, "B D N"),
        reset=(reset, "B T"),
    )
    for name, map_ in (("B", B), ("C", C)):
        if map_.ndim == 4 and u.shape[2] % map_.shape[2]:
            raise ValueError(f"selective_scan: {name} has G={map_.shape[2]} groups, which do not divide D={u.shape[2]}")


def _map_axes(map_: Tensor) -> str:
    return {2: "D N", 4: "B T G N"}.get(map_.ndim, "B T N")
