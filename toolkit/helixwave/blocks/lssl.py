"""LSSL: linear state space layers, the dense ancestor of S4."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helixwave.blocks.dense_state_space import (
    DenseMaps,
    DensePowers,
    chunk_length,
    dense_maps,
    dense_powers,
    dense_state_space,
)
from helixwave.blocks.derived import Derived
from helixwave.errors import InputError
from helixwave.initialisers import Measure, hippo, log_uniform

Learn = Literal["fixed", "shared", "feature"]


class LSSL(nn.Module):
    """State space for each channel with HiPPO's dense matrix (LSSL, linear state space layer).

    `h' = A h + B u`, `y = C h + D u`, discretised by the bilinear rule; then GELU and a linear map. Cost `O(T)`, state
    `[d_model, d_state]`. Where A is learned it is a dense matrix, not the published product of tridiagonal inverses: a
    simplification with the same start. Source: Gu et al., "Combining Recurrent, Convolutional, and Continuous-time
    Models with Linear State-Space Layers", 2021, sections 3 and 5.

    Args:
        d_state: size of the state per channel.
        measure: what the state remembers at the start, see `helixwave.initialisers.hippo`.
        learn: A and B are `"fixed"`, learned and `"shared"` by all channels, or learned for each `"feature"`.
        learn_dt: the step sizes are learned too.
        channels: outputs of each state space, all of them inputs of the linear map.
        dt_min, dt_max: range of the step size at the start, log-uniform.
    """

    causal = True
    optimisation: dict[str, dict[str, float]]

    A: Tensor
    B: Tensor
    log_dt: Tensor

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 64,
        measure: Measure = "legs",
        learn: Learn = "fixed",
        learn_dt: bool = False,
        channels: int = 1,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
    ):
        super().__init__()
        if learn not in ("fixed", "shared", "feature"):
            raise InputError(f"learn is {learn!r}, expected 'fixed', 'shared' or 'feature'")
        copies = d_model if learn == "feature" else 1
        A, B = hippo(measure, d_state)
        self._register("A", A.float().repeat(copies, 1, 1), is_learned=learn != "fixed")
        self._register("B", B.float().repeat(copies, 1), is_learned=learn != "fixed")
        self._register("log_dt", log_uniform(d_model, low=dt_min, high=dt_max), is_learned=learn_dt)
        self.C = nn.Parameter(torch.randn(d_model, channels, d_state))
        self.D = nn.Parameter(torch.randn(d_model, channels))
        self.output_linear = nn.Linear(channels * d_model, d_model)
        rates = {"A": 1e-4, "B": 1e-4, "log_dt": 1e-3}
        learned = dict(self.named_parameters(recurse=False))
        self.optimisation = {name: {"lr": lr} for name, lr in rates.items() if name in learned}
        self._powers, self._maps = Derived(), Derived()

    def _register(self, name: str, value: Tensor, *, is_learned: bool) -> None:
        if is_learned:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    def forward(
        self, x: Tensor, state: Tensor | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:  # [B, T, D] -> [B, T, D]
        y, end = dense_state_space(x, self.maps(x.shape[1]), state, lengths)
        y = F.gelu(y.transpose(2, 3).flatten(2).to(x.dtype))
        return self.output_linear(y), end

    def maps(self, T: int) -> DenseMaps:
        """The discretised system for sequences of length T, remembered while its parameters stay as they are."""
        chunk = chunk_length(T)
        parameters = [self.A, self.B, self.log_dt, self.C, self.D]
        with torch.autocast(self.C.device.type, enabled=False):
            maps: DenseMaps = self._maps(lambda: self._compute_maps(chunk), parameters, key=chunk)
        return maps

    def _compute_maps(self, chunk: int) -> DenseMaps:
        # a memory of its own: what is fixed is computed once, also in training
        fixed = [self.A, self.B, self.log_dt]
        powers = self._powers(lambda: self._compute_powers(chunk), fixed, key=chunk)
        return dense_maps(powers, self.C.transpose(0, 1), self.D.T)

    def _compute_powers(self, chunk: int) -> DensePowers:
        dt = self.log_dt.double().exp()[:, None, None]
        identity = torch.eye(self.A.shape[-1], dtype=dt.dtype, device=dt.device)
        half_step = dt / 2 * self.A.double()
        both = torch.cat([identity + half_step, dt * self.B.double().unsqueeze(-1)], dim=-1)
        A, B = torch.linalg.solve(identity - half_step, both).split([len(identity), 1], dim=-1)
        return dense_powers(A, B.squeeze(-1), chunk, torch.promote_types(self.C.dtype, torch.float32))
