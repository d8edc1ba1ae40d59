"""LRU: a linear recurrent unit; and the scan between two complex maps that S5 shares."""

import math
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from helixwave_kernels import linear_scan
from torch import Tensor, nn

from helixwave.blocks.derived import Derived
from helixwave.errors import InputError
from helixwave.lengths import valid_mask


class LRU(nn.Module):
    """Linear recurrence with a diagonal of complex decays, then GELU and a GLU (LRU).

    `h_t = lambda h_{t-1} + gamma (B u_t)`, `y_t = Re(C h_t) + D u_t`, with `lambda = exp(-exp(nu) + i exp(theta))`
    always stable and gamma at first such that white noise keeps its variance; the block returns
    `out1(gelu(y)) sigmoid(out2(gelu(y)))`, what the published layer has between norm and residual. Cost `O(T)`, state
    `d_state` complex numbers.
    Source: Orvieto et al., "Resurrecting Recurrent Neural Networks for Long Sequences", 2023, section 3.

    Args:
        d_state: complex numbers in the state.
        r_min, r_max: range of the decays' absolute values at the start, uniform in the ring between them.
        max_phase: range of their phases at the start, from 0; below it slow oscillations only.
    """

    causal = True
    # the published code also gives these a lower rate, as a part of the others'
    optimisation: ClassVar[dict[str, dict[str, float]]] = {
        name: {"weight_decay": 0.0} for name in ("nu_log", "theta_log", "gamma_log", "B_re", "B_im")
    }

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 64,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 6.28,
    ):
        super().__init__()
        if not 0 <= r_min < r_max <= 1:
            raise InputError(f"r_min, r_max are {r_min}, {r_max}, expected 0 <= r_min < r_max <= 1")
        # neither end exactly, where a logarithm would be infinite
        u, v = torch.rand(2, d_state, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
        square = u * (r_max**2 - r_min**2) + r_min**2
        self.nu_log = nn.Parameter((-0.5 * square.log()).log().float())
        self.theta_log = nn.Parameter((max_phase * v).log().float())
        self.gamma_log = nn.Parameter(((1 - square).log() / 2).float())
        self.B_re = nn.Parameter(torch.randn(d_state, d_model) / math.sqrt(2 * d_model))
        self.B_im = nn.Parameter(torch.randn(d_state, d_model) / math.sqrt(2 * d_model))
        self.C_re = nn.Parameter(torch.randn(d_model, d_state) / math.sqrt(d_state))
        self.C_im = nn.Parameter(torch.randn(d_model, d_state) / math.sqrt(d_state))
        self.D = nn.Parameter(torch.randn(d_model))
        self.out1 = nn.Linear(d_model, d_model)
        self.out2 = nn.Linear(d_model, d_model)
        self._recurrence = Derived()

    def forward(
        self, x: Tensor, state: Tensor | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:  # [B, T, D] -> [B, T, D]
        parts = [self.nu_log, self.theta_log, self.gamma_log, self.B_re, self.B_im, self.C_re, self.C_im]
        y, state = recurrence_scan(x, self._recurrence(self.recurrence, parts), self.D, state, lengths)
        y = F.gelu(y, approximate="tanh")
        return self.out1(y) * torch.sigmoid(self.out2(y)), state

    def recurrence(self) -> "Recurrence":
        """What a step does, from the parameters."""
        decay = torch.exp(torch.complex(-self.nu_log.float().exp(), self.theta_log.float().exp()))
        B = torch.stack([self.B_re, self.B_im], dim=-1).float() * self.gamma_log.float().exp()[:, None, None]
        return Recurrence.of_pairs(decay, B, torch.stack([self.C_re, self.C_im], dim=-1).float())


class Recurrence(NamedTuple):
    """`h_t = decay h_{t-1} + B u_t`, `y_t = Re(C h_t)`; the maps as real matrices on neighbouring real and imaginary
    parts, so that no complex copy of the inputs is made."""

    decay: Tensor  # complex [N]
    into: Tensor  # [2N, D]
    out_of: Tensor  # [D, 2N]

    @staticmethod
    def of_pairs(decay: Tensor, B: Tensor, C: Tensor) -> "Recurrence":
        """From B `[N, D, 2]` and C `[D, N, 2]`, real and imaginary parts last."""
        return Recurrence(decay, B.transpose(1, 2).flatten(0, 1), (C * C.new_tensor([1, -1])).flatten(1))


def recurrence_scan(
    u: Tensor, step: Recurrence, skip: Tensor, state: Tensor | None = None, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Outputs `y_t + skip u_t` `[B, T, D]`, and the state after each sequence's last input, complex `[B, N]`."""
    inputs = torch.view_as_complex(F.linear(u, step.into.to(u.dtype)).float().unflatten(-1, (-1, 2)))
    decay = step.decay.expand_as(inputs)
    if lengths is not None:
        padding = ~valid_mask(lengths, u.shape[1])[..., None]
        inputs, decay = inputs.masked_fill(padding, 0), decay.masked_fill(padding, 1)
    h, state = linear_scan(inputs, decay, initial_state=state)
    return F.linear(torch.view_as_real(h).flatten(-2).to(u.dtype), step.out_of.to(u.dtype)) + skip * u, state
