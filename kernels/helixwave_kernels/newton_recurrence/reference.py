"""The meaning of `newton_recurrence`."""

import torch
from torch import Tensor

from helixwave_kernels.dispatch import Op
from helixwave_kernels.shapes import compute_dtype, expect_shapes

# by cell: its gates in the order of `x` and `diagonal`, and the parts of its state, whose first is the output
GATES = {"gru": ("z", "r", "h"), "lstm": ("f", "c", "o")}
STATE = {"gru": ("h",), "lstm": ("h", "c")}


@Op
def newton_recurrence(
    cell: str,
    x: Tensor,
    diagonal: Tensor,
    peephole: Tensor | None = None,
    *,
    tolerance: float | None = None,
    max_iterations: int = 50,
    initial_state: tuple[Tensor, ...] | None = None,
    reset: Tensor | None = None,
    return_iterations: bool = False,
) -> tuple[Tensor, tuple[Tensor, ...]] | tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """Recurrent cells without a product of matrices over time, so that Newton's method can solve for all steps at once.

    `gru` and `lstm` of ParaRNN (Danieli et al. 2025), channel by channel; the latter has one gate for input and forget:

        gru:   z = sigmoid(a_z h_{t-1} + x_z)                r = sigmoid(a_r h_{t-1} + x_r)
               h_t = (1 - z) h_{t-1} + z tanh(a_h r h_{t-1} + x_h)
        lstm:  f = sigmoid(a_f h_{t-1} + p_f c_{t-1} + x_f)  c_t = f c_{t-1} + (1 - f) tanh(a_c h_{t-1} + x_c)
               o = sigmoid(a_o h_{t-1} + p_o c_t + x_o)      h_t = o tanh(c_t)

    Implementations that iterate return what stepping through time returns, or raise a RuntimeError.

    Args:
        cell: `gru` or `lstm`.
        x: what the inputs add to the gates, biases included, `[B, T, J, D]`: J = 3 gates z, r, h or f, c, o.
        diagonal: recurrent weights a `[J, D]`.
        peephole: p_f and p_o of `lstm` `[2, D]`; zeros if None.
        tolerance: how large the last update of a state may be, as a part of the largest state (at least 1). The error
            is about its square. None takes 1e-5 in float32, 1e-10 in float64.
        max_iterations: after so many without convergence a RuntimeError is raised.
        initial_state: `(h,)`, or `(h, c)` for `lstm`, each `[B, D]`; zeros if None.
        reset: `[B, T]` bool; true at t clears the state before step t.
        return_iterations: also return how many iterations were needed.

    Returns:
        outputs h `[B, T, D]` in the dtype of `x`, the last state, a tuple in float32 or wider, and if asked for the
        number of iterations, an int64 scalar: 0 where the implementation steps through time, as this one.
    """
    dtype = compute_dtype(x)
    state = start_state(cell, x, initial_state)
    diagonal = diagonal.to(dtype)
    peephole = x.new_zeros(2, x.shape[3], dtype=dtype) if peephole is None else peephole.to(dtype)
    ys = []
    for t, x_t in enumerate(x.to(dtype).unbind(1)):
        if reset is not None:
            state = tuple(part.masked_fill(reset[:, t, None], 0) for part in state)
        state = _gru(x_t, diagonal, *state) if cell == "gru" else _lstm(x_t, diagonal, peephole, *state)
        ys.append(state[0])
    y = torch.stack(ys, dim=1).to(x.dtype)
    return (y, state, torch.zeros((), dtype=torch.int64, device=x.device)) if return_iterations else (y, state)


def _gru(x: Tensor, diagonal: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    a_z, a_r, a_h = diagonal
    z, r = torch.sigmoid(a_z * h + x[:, 0]), torch.sigmoid(a_r * h + x[:, 1])
    return ((1 - z) * h + z * torch.tanh(a_h * r * h + x[:, 2]),)


def _lstm(x: Tensor, diagonal: Tensor, peephole: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    a_f, a_c, a_o = diagonal
    p_f, p_o = peephole
    f = torch.sigmoid(a_f * h + p_f * c + x[:, 0])
    c = f * c + (1 - f) * torch.tanh(a_c * h + x[:, 1])
    return torch.sigmoid(a_o * h + p_o * c + x[:, 2]) * torch.tanh(c), c


def start_state(cell: str, x: Tensor, initial_state: tuple[Tensor, ...] | Tensor | None) -> tuple[Tensor, ...]:
    """The state before the first step, each part `[B, D]`."""
    dtype = compute_dtype(x)
    if initial_state is None:
        return tuple(x.new_zeros(x.shape[0], x.shape[3], dtype=dtype) for _ in STATE[cell])
    return tuple(part.to(dtype) for part in parts(initial_state))


def parts(state: tuple[Tensor, ...] | Tensor | None) -> tuple[Tensor, ...]:
    """The tensors of a state; a single one may come without its tuple."""
    if state is None:
        return ()
    return (state,) if isinstance(state, Tensor) else tuple(state)


@newton_recurrence.check
def _check(
    cell: str,
    x: Tensor,
    diagonal: Tensor,
    peephole: Tensor | None = None,
    *,
    tolerance: float | None = None,
    max_iterations: int = 50,
    initial_state: tuple[Tensor, ...] | None = None,
    reset: Tensor | None = None,
    **others: object,
) -> None:
    if cell not in GATES:
        raise ValueError(f"newton_recurrence: cell is {cell!r}, expected one of {', '.join(GATES)}")
    if peephole is not None and cell != "lstm":
        raise ValueError(f"newton_recurrence: peephole is for lstm, not for {cell}")
    if max_iterations < 1 or (tolerance is not None and not tolerance > 0):
        given = f"max_iterations is {max_iterations} and tolerance {tolerance}"
        raise ValueError(f"newton_recurrence: {given}, expected positive numbers")
    names, state = STATE[cell], parts(initial_state)
    if initial_state is not None and len(state) != len(names):
        raise ValueError(
            f"newton_recurrence: initial_state has {len(state)} parts, expected {len(names)} for {cell}: "
            f"{', '.join(names)}"
        )
    expect_shapes(
        "newton_recurrence",
        J=len(GATES[cell]),
        x=(x, "B T J D"),
        diagonal=(diagonal, "J D"),
        peephole=(peephole, "2 D"),
        **{f"initial_state {name}": (part, "B D") for name, part in zip(names, state, strict=False)},
        reset=(reset, "B T"),
    )
