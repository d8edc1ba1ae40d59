"""The meaning of `recurrent`."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels.dispatch import Op
from helixwave_kernels.shapes import compute_dtype, expect_shapes


class Cell(NamedTuple):
    """What a cell has: its gates in the order of `x`, and its state, whose first part is its output h."""

    gates: tuple[str, ...]
    state: tuple[str, ...]


CELLS = {
    "slstm": Cell(("i", "f", "z", "o"), ("h", "c", "n", "m")),
    "lstm": Cell(("i", "f", "z", "o"), ("h", "c")),
    "gru": Cell(("r", "z", "n"), ("h",)),
    "elman": Cell(("h",), ("h",)),
}


@Op
def recurrent(
    cell: str,
    x: Tensor,
    R: Tensor,
    bias: Tensor | None = None,
    *,
    initial_state: tuple[Tensor, ...] | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A nonlinear recurrent cell with H independent heads: `raw_t = x_t + h_{t-1} R + bias`, head by head.

    `slstm` (Beck et al. 2024, eqs. 8 to 17; i is exponential, f a sigmoid, m keeps the exponentials in range):

        m_t = max(i, log sigmoid(f) + m_{t-1})      i' = exp(i - m_t)     f' = exp(log sigmoid(f) + m_{t-1} - m_t)
        c_t = f' c_{t-1} + i' tanh(z)       n_t = f' n_{t-1} + i'       h_t = sigmoid(o) c_t / n_t

    A state means `c e^m` and `n e^m`: gradients are exact for whatever reads it so (this operator does), and m itself
    passes none on. The empty state is h = c = n = 0, m = -inf; h is 0 until something was seen. `i = -inf` hides a
    step, and with `f = inf` c, n and m stand still. The others are those of torch: `lstm` (gates i, f, g, o; c as
    above with sigmoid(i) and sigmoid(f), h = sigmoid(o) tanh(c)), `gru` (gates r, z, n; its bias of n stands inside
    the product with r, as torch's `bias_hh`) and `elman` (h = tanh(raw)).

    Args:
        cell: `slstm`, `lstm`, `gru` or `elman`.
        x: what the inputs add to the gates `[B, T, J, H, P]`: J gates in the order i, f, z, o; or r, z, n; or one.
        R: recurrent weights `[J, H, P, P]`, from the last state (third axis) to the gate (fourth).
        bias: `[J, H, P]`.
        initial_state: `(h, c, n, m)`, `(h, c)` or `(h,)`, each `[B, H, P]`; the empty state if None.
        reset: `[B, T]` bool; true at t clears the state before step t.

    Returns:
        outputs h `[B, T, H, P]` in the dtype of `x`, and the last state, a tuple in float32 or wider.
    """
    dtype = compute_dtype(x)
    R = R.to(dtype)
    state = start_state(cell, x, initial_state)
    ys = []
    for t, x_t in enumerate(x.to(dtype).unbind(1)):
        if reset is not None:
            state = cleared(cell, state, reset[:, t, None, None])
        recurrence = torch.einsum("bhp,jhpq->bjhq", state[0], R)
        if bias is not None:
            recurrence = recurrence + bias.to(dtype)
        state = _STEPS[cell](x_t, recurrence, *state)
        ys.append(state[0])
    return torch.stack(ys, dim=1).to(x.dtype), state


def start_state(cell: str, x: Tensor, initial_state: tuple[Tensor, ...] | Tensor | None) -> tuple[Tensor, ...]:
    """The state before the first step, each part `[B, H, P]`."""
    B, _, _, H, P = x.shape
    dtype = compute_dtype(x)
    if initial_state is None:
        return tuple(x.new_full((B, H, P), empty(name), dtype=dtype) for name in CELLS[cell].state)
    return tuple(part.to(dtype) for part in _parts(initial_state))


def cleared(cell: str, state: tuple[Tensor, ...], reset: Tensor) -> tuple[Tensor, ...]:
    """The empty state where `reset` is true."""
    parts = zip(CELLS[cell].state, state, strict=True)
    return tuple(part.masked_fill(reset, empty(name)) for name, part in parts)


def empty(name: str) -> float:
    """What a part of the state is before anything was seen."""
    return -torch.inf if name == "m" else 0.0


def _slstm(x: Tensor, recurrence: Tensor, h: Tensor, c: Tensor, n: Tensor, m: Tensor) -> tuple[Tensor, ...]:
    i, f, z, o = (x + recurrence).unbind(1)
    log_f = F.logsigmoid(f) + m
    # any m gives the same h, so that no gradient goes through it
    m = torch.maximum(i, log_f).detach()
    # with nothing seen yet, -inf - (-inf) has to give -inf
    finite_m = m.clamp(min=torch.finfo(m.dtype).min)
    i, f = torch.exp(i - finite_m), torch.exp(log_f - finite_m)
    c = f * c + i * torch.tanh(z)
    n = f * n + i
    h = torch.sigmoid(o) * (c / n.masked_fill(n == 0, 1))
    return h, c, n, m


def _lstm(x: Tensor, recurrence: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    i, f, z, o = (x + recurrence).unbind(1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(z)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru(x: Tensor, recurrence: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    r, z = torch.sigmoid(x[:, :2] + recurrence[:, :2]).unbind(1)
    n = torch.tanh(x[:, 2] + r * recurrence[:, 2])
    return ((1 - z) * n + z * h,)


def _elman(x: Tensor, recurrence: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    return (torch.tanh(x + recurrence).squeeze(1),)


_STEPS: dict[str, Callable[..., tuple[Tensor, ...]]] = {"slstm": _slstm, "lstm": _lstm, "gru": _gru, "elman": _elman}


@recurrent.check
def _check(
    cell: str,
    x: Tensor,
    R: Tensor,
    bias: Tensor | None = None,
    *,
    initial_state: tuple[Tensor, ...] | None = None,
    reset: Tensor | None = None,
    **others: object,
) -> None:
    if cell not in CELLS:
        raise ValueError(f"recurrent: cell is {cell!r}, expected one of {', '.join(CELLS)}")
    names = CELLS[cell].state
    parts = () if initial_state is None else _parts(initial_state)
    if initial_state is not None and len(parts) != len(names):
        raise ValueError(
            f"recurrent: initial_state has {len(parts)} parts, expected {len(names)} for {cell}: {', '.join(names)}"
        )
    expect_shapes(
        "recurrent",
        J=len(CELLS[cell].gates),
        x=(x, "B T J H P"),
        R=(R, "J H P P"),
        bias=(bias, "J H P"),
        **{f"initial_state {name}": (part, "B H P") for name, part in zip(names, parts, strict=False)},
        reset=(reset, "B T"),
    )


def _parts(state: tuple[Tensor, ...] | Tensor) -> tuple[Tensor, ...]:
    return (state,) if isinstance(state, Tensor) else tuple(state)
