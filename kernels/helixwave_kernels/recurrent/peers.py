"""What others offer for `recurrent`, for measurements."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# its backward pass is quadratic in T
LONGEST = {"xlstm vanilla": 2048}


def peers() -> dict[str, Callable[..., Any]]:
    """Others' implementations of the default variant, those that are installed."""
    return {"xlstm vanilla": xlstm_vanilla} if importlib.util.find_spec("xlstm") else {}


def unlike() -> dict[str, Callable[..., Any]]:
    """What has another meaning and about the same size: timed beside, not compared in value."""
    return {"nn.LSTM, same width": torch_lstm}


def xlstm_vanilla(cell: str, x: Tensor, R: Tensor, bias: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The sLSTM loop of the `xlstm` package, its only backend without a GPU."""
    vanilla = importlib.import_module("xlstm.blocks.slstm.src.vanilla")
    B, _, J, H, P = x.shape
    states, last, _ = vanilla.slstm_forward(
        x.transpose(0, 1).flatten(2),
        x.new_zeros(4, B, H * P),
        R.permute(1, 0, 3, 2).reshape(H, J * P, P),
        bias.flatten(),
        vanilla.slstm_pointwise_function_registry[cell],
    )
    return states[0, 1:].unflatten(2, (H, P)).transpose(0, 1), tuple(last.unflatten(2, (H, P)).unbind(0))


def torch_lstm(cell: str, x: Tensor, R: Tensor, bias: Tensor) -> Tensor:
    """`torch.nn.LSTM` of the same width: its inputs are not multiplied out and its recurrence is one full matrix."""
    D = x.shape[3] * x.shape[4]
    # weights that do not change from call to call
    weight_ih, weight_hh = (torch.full((4 * D, D), 1 / D, dtype=x.dtype, requires_grad=x.requires_grad) for _ in "ih")
    biases = [torch.zeros(4 * D, dtype=x.dtype, requires_grad=x.requires_grad) for _ in "ih"]
    start = (x.new_zeros(1, len(x), D), x.new_zeros(1, len(x), D))
    y, _, _ = torch.lstm(x[:, :, 0].flatten(2), start, [weight_ih, weight_hh, *biases], True, 1, 0.0, True, False, True)
    return y
