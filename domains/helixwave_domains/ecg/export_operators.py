"""The operators of our blocks in plain torch, for programs that know no others: loops become ONNX's `Scan`.

Each takes and returns what its custom operator does; what only a backward pass reads is returned empty.
"""

from collections.abc import Callable
from typing import Any

import helixwave.blocks.dense_state_space as dense_state_space
import torch
import torch.nn.functional as F
from helixwave.blocks.derived import Derived
from helixwave_kernels import mlstm, recurrent
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

Steps = Callable[..., tuple[Any, Any]]


def plain_operators() -> dict[Any, Callable[..., Any]]:
    """What stands for each of our custom operators, by operator."""
    assert dense_state_space  # registers its operators
    ours = torch.ops.helixwave
    return {
        ours.dense_recurrence.default: _dense_recurrence,
        ours.fft_convolve.default: _convolve,
        ours.linear_scan_chunked.default: _linear_scan,
        ours.mlstm_chunked.default: _mlstm,
        ours.recurrent_chunked.default: _recurrent,
        ours.selective_scan_chunked.default: _selective_scan,
        ours.short_conv_chunked.default: _short_conv,
    }


def remember_derived(model: nn.Module) -> None:
    """Let what follows from parameters alone be computed at the next call and be a constant from then on."""
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, Derived):
                setattr(module, name, _Remembered())


class _Remembered:
    def __init__(self) -> None:
        self.values: dict[Any, Any] = {}

    def __call__(self, compute: Callable[[], Any], parameters: Any, key: Any = None) -> Any:
        if key not in self.values:
            self.values[key] = compute()
        return self.values[key]


def _short_conv(inputs: Tensor, weight: Tensor, document: Tensor | None) -> Tensor:
    _expect_none(document)
    T = inputs.shape[1] - len(weight) + 1
    terms = [inputs[:, w : w + T] * weight[w] for w in range(len(weight))]
    return torch.stack(terms).sum(0)


def _convolve(x: Tensor, kernel: Tensor, start: int, length: int) -> Tensor:
    padded = F.pad(x.mT, (kernel.shape[1] - 1, max(start + length - x.shape[1], 0)))
    return F.conv1d(padded, kernel.flip(1).unsqueeze(1), groups=len(kernel)).mT[:, start : start + length].contiguous()


def _linear_scan(x: Tensor, decay: Tensor, h0: Tensor, reset: Tensor | None) -> Tensor:
    _expect_none(reset)

    def step(h: Tensor, now: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h = now[1] * h + now[0]
        return h, _apart(h)

    _, h = scan(step, h0, (x.transpose(0, 1), decay.expand_as(x).transpose(0, 1)))
    return h.transpose(0, 1).contiguous()


def _dense_recurrence(injected: Tensor, A: Tensor, start: Tensor) -> Tensor:
    def step(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h = x + h @ A.mT
        return h, _apart(h)

    _, states = scan(step, start, injected.permute(2, 0, 1, 3))
    return torch.cat([start.unsqueeze(0), states])


def _selective_scan(
    x: Tensor, steps: Tensor, A: Tensor, B: Tensor, C: Tensor, h0: Tensor, reset: Tensor | None, negative: bool
) -> tuple[Tensor, Tensor, Tensor]:
    _expect_none(reset)

    def step(h: Tensor, now: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        x_t, steps_t, B_t, C_t = now
        kept = torch.exp(steps_t.unsqueeze(-2) * A)
        h = (2 * kept - 1 if negative else kept) * h + x_t.unsqueeze(-2) * B_t
        return h, (h * C_t).sum(-2)

    T = x.shape[0]
    h, y = scan(step, h0, (x, steps, *(map_.expand(T, *map_.shape[1:]) for map_ in (B, C))))
    return y, h, h.new_empty(0)


def _mlstm(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, C0: Tensor, n0: Tensor, m0: Tensor, reset: Tensor | None,
    input_gate: str, normalize: bool, scale: float, eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    _expect_none(reset)

    def step(state: tuple[Tensor, ...], now: tuple[Tensor, ...]) -> tuple[Any, Tensor]:
        y, state = mlstm.impls["reference"](
            *(x.unsqueeze(1) for x in now),
            input_gate=input_gate,
            normalize=normalize,
            scale=scale,
            eps=eps,
            initial_state=state,
        )
        return state, y.squeeze(1)

    (C, n, m), y = scan(step, (C0, n0, m0), tuple(x.transpose(0, 1) for x in (q, k, v, i, f)))
    return y.transpose(0, 1).contiguous(), C, n, m, y.new_empty(0), y.new_empty(0)


def _recurrent(
    cell: str, x: Tensor, R: Tensor, bias: Tensor, start: Tensor, reset: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    _expect_none(reset)

    def step(state: tuple[Tensor, ...], x_t: Tensor) -> tuple[Any, Tensor]:
        y, state = recurrent.impls["reference"](cell, x_t.unsqueeze(1), R, bias, initial_state=state)
        return state, _apart(y.squeeze(1))

    state, y = scan(step, tuple(map(_apart, start.unbind(0))), x.transpose(0, 1))
    return y.transpose(0, 1).contiguous(), torch.stack(state), y.new_empty(0)


def _apart(tensor: Tensor) -> Tensor:
    """Memory of its own, which each state and output of a scan needs; exporters take a clone for superfluous."""
    return tensor * 1


def _expect_none(reset: Tensor | None) -> None:
    assert reset is None, "windows are not joined, no state is reset inside one"
