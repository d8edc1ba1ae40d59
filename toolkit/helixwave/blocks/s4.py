"""S4: structured state spaces."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helixwave.blocks.dense_state_space import DenseMaps, chunk_length, dense_maps, dense_powers, dense_state_space
from helixwave.blocks.derived import Derived
from helixwave.errors import InputError
from helixwave.initialisers import Measure, log_uniform, nplr


class S4(nn.Module):
    """State space for each channel with HiPPO's memory: a diagonal matrix plus one of low rank (S4).

    `h' = A h + B u`, `y = 2 Re(C h) + D u` with `A = diag(w) - P P^*`, discretised by the bilinear rule; then GELU, a
    linear map and a gate (GLU). Cost `O(T)`, state `[d_model, d_state]`: real and imaginary parts of one half of the
    conjugate pairs. Parameters have the published names. C is the output map itself: a published checkpoint holds
    `C (I - Abar^L)` for its `l_kernel` L, which has to be undone once before it is loaded.
    Source: Gu et al., "Efficiently Modeling Long Sequences with Structured State Spaces", 2021, sections 2 and 3.

    Args:
        d_state: size of the state per channel, even.
        measure: what the state remembers at the start, see `helixwave.initialisers.hippo`.
        channels: outputs of each state space, all of them inputs of the linear map.
        n_ssm: different A and B, a divisor of d_model; all channels have a step size and a C of their own.
        dt_min, dt_max: range of the step size at the start, log-uniform.
        clip: the largest imaginary part of B at the start, None: no limit. LegS starts in large outputs without.
    """

    causal = True
    optimisation: ClassVar[dict[str, dict[str, float]]] = {
        name: {"lr": 1e-3, "weight_decay": 0.0} for name in ("inv_dt", "A_real", "A_imag", "B", "P")
    }

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 64,
        measure: Measure = "legs",
        channels: int = 1,
        n_ssm: int = 1,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        clip: float | None = 2.0,
    ):
        super().__init__()
        if d_model % n_ssm:
            raise InputError(f"n_ssm is {n_ssm}, expected a divisor of d_model {d_model}")
        w, P, B, _ = nplr(measure, d_state, clip=clip)
        C = torch.randn(channels, d_model, d_state // 2, dtype=torch.complex64)
        self.inv_dt = nn.Parameter(log_uniform(d_model, 1, low=dt_min, high=dt_max))  # the logarithm of dt
        # the real part is 0 for a window's measure, its logarithm needs a floor
        self.A_real = nn.Parameter((-w.real).clamp(min=1e-4).log().float().repeat(n_ssm, 1))
        self.A_imag = nn.Parameter((-w.imag).float().repeat(n_ssm, 1))
        self.B = nn.Parameter(torch.view_as_real(B).float().repeat(1, n_ssm, 1, 1))
        self.P = nn.Parameter(torch.view_as_real(P).float().unsqueeze(1).repeat(1, n_ssm, 1, 1))
        self.C = nn.Parameter(torch.view_as_real(C).clone())
        self.D = nn.Parameter(torch.randn(channels, d_model))
        self.output_linear = nn.Linear(channels * d_model, 2 * d_model)
        self._derived = Derived()

    def forward(
        self, x: Tensor, state: Tensor | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:  # [B, T, D] -> [B, T, D]
        y, end = dense_state_space(x, self.maps(x.shape[1]), state, lengths)
        y = F.gelu(y.flatten(2).to(x.dtype))
        return F.glu(self.output_linear(y), dim=-1), end

    def maps(self, T: int) -> DenseMaps:
        """The discretised system for sequences of length T, remembered while its parameters stay as they are."""
        chunk = chunk_length(T)
        parameters = [self.inv_dt, self.A_real, self.A_imag, self.B, self.P, self.C, self.D]
        with torch.autocast(self.C.device.type, enabled=False):
            maps: DenseMaps = self._derived(lambda: self._compute_maps(chunk), parameters, key=chunk)
        return maps

    def system(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """w `[D, N/2]`, P `[R, D, N/2]`, B `[D, N/2]`, C `[M, D, N/2]` in complex128 and dt `[D]` in float64."""
        copies = len(self.inv_dt) // len(self.A_real)
        w = torch.complex(-self.A_real.double().exp(), -self.A_imag.double())
        B, P, C = (torch.view_as_complex(value.double()) for value in (self.B, self.P, self.C))
        dt = self.inv_dt.double().exp().squeeze(-1)
        return w.repeat(copies, 1), P.repeat(1, copies, 1), B[0].repeat(copies, 1), C, dt

    def _compute_maps(self, chunk: int) -> DenseMaps:
        w, P, B, C, dt = self.system()
        A, B = _discretised(w, P, B, dt.unsqueeze(-1))
        dtype = torch.promote_types(self.C.dtype, torch.float32)
        return dense_maps(dense_powers(A, B, chunk, dtype), _real(2 * C.conj()), self.D)


def _discretised(w: Tensor, P: Tensor, B: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """`Abar = 2 V - I` `[D, N, N]` and `Bbar = dt V B` `[D, N]` with `V = (I - dt/2 A)^-1`, in real coordinates.

    There `A = W - 2 p p^T`, with multiplication by w as W and p as the coordinates of P. Woodbury's formula needs an
    inverse of the size of the rank only.
    """
    r = (1 - dt / 2 * w).reciprocal()
    right, left = _real(r * P).permute(1, 2, 0), _real(r.conj() * P).transpose(0, 1)  # [D, N, R], [D, R, N]
    identity = torch.eye(len(P), dtype=dt.dtype, device=dt.device)
    coupling = torch.linalg.solve(identity / dt.unsqueeze(-1) + _real(P).transpose(0, 1) @ right, left)
    re, im = torch.diag_embed(2 * r.real - 1), torch.diag_embed(2 * r.imag)
    diagonal = torch.cat([torch.cat([re, -im], dim=-1), torch.cat([im, re], dim=-1)], dim=-2)
    coupled = right @ (coupling @ _real(B).unsqueeze(-1))
    return torch.baddbmm(diagonal, right, coupling, alpha=-2), dt * (_real(r * B) - coupled.squeeze(-1))


def _real(half: Tensor) -> Tensor:
    """Real coordinates of a vector of conjugate pairs, from its first halves: `[..., N/2]` -> `[..., N]`."""
    return torch.cat([half.real, half.imag], dim=-1)
