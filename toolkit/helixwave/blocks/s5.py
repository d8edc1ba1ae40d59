"""S5: one state space for all channels together."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helixwave.blocks.derived import Derived
from helixwave.blocks.lru import Recurrence, recurrence_scan
from helixwave.blocks.s4d import complex_expm1
from helixwave.errors import InputError
from helixwave.initialisers import log_uniform, nplr


class S5(nn.Module):
    """One diagonal state space that reads and writes all channels, then a gate (S5).

    `h' = Lambda h + B u` in steps of a size for each state, `y = 2 Re(C h) + D u`, for one half of the conjugate pairs
    of states. The block is the state space and the activation behind it, what the published layer has between norm
    and residual. Cost `O(T)`, state `d_state / 2` complex numbers.
    Source: Smith, Warrington and Linderman, "Simplified State Space Layers for Sequence Modeling", 2023, section 3.

    Args:
        d_state: real size of the state; half as many complex numbers.
        n_block: Lambda starts as the eigenvalues of that many HiPPO-LegS matrices of size `d_state / n_block`.
        c_init: `"hippo"`: C is drawn in the basis of HiPPO's polynomials, by the published `trunc_standard_normal`;
            `"complex_normal"`: in that of the eigenvectors, with variance 1.
        discretization: `"zoh"` holds the input for the step, `"bilinear"` is the trapezoidal rule.
        clip_eigenvalues: hold real parts at -1e-4 and below, so that no state grows without end; the published code
            has this off by default and recommends it for sequences without end.
        activation: behind the state space. `"gelu"`; `"half_glu1"`: `g sigmoid(out2(g))` with `g = gelu(y)`;
            `"half_glu2"`: `y sigmoid(out2(g))`; `"full_glu"`: `out1(g) sigmoid(out2(g))`.
        dt_min, dt_max: range of the step sizes at the start, log-uniform.
        step_rescale: factor of the step sizes, for inputs at another sampling rate than that of the training.
    """

    causal = True
    optimisation: ClassVar[dict[str, dict[str, float]]] = {
        name: {"lr": 1e-3, "weight_decay": 0.0} for name in ("Lambda_re", "Lambda_im", "log_step", "B")
    }

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 64,
        n_block: int = 8,
        c_init: Literal["hippo", "complex_normal"] = "hippo",
        discretization: Literal["zoh", "bilinear"] = "zoh",
        clip_eigenvalues: bool = True,
        activation: Literal["gelu", "half_glu1", "half_glu2", "full_glu"] = "half_glu1",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        step_rescale: float = 1.0,
    ):
        super().__init__()
        if n_block < 1 or d_state < 1 or d_state % (2 * n_block):
            raise InputError(f"d_state is {d_state}, expected a multiple of 2 n_block = {2 * n_block}")
        self.discretization, self.clip_eigenvalues = discretization, clip_eigenvalues
        self.activation, self.step_rescale = activation, step_rescale
        eigenvalues, _, _, basis = nplr("legs", d_state // n_block)
        Lambda, V = eigenvalues.repeat(n_block), torch.block_diag(*[basis] * n_block).to(torch.complex64)
        self.Lambda_re = nn.Parameter(Lambda.real.float())
        self.Lambda_im = nn.Parameter(Lambda.imag.float())
        self.B = _pairs(V.mH @ _lecun_normal(d_state, d_model).to(V.dtype))
        self.C = _pairs(_output_map(c_init, d_model, V))
        self.D = nn.Parameter(torch.randn(d_model))
        self.log_step = nn.Parameter(log_uniform(d_state // 2, 1, low=dt_min, high=dt_max))
        self.out1 = nn.Linear(d_model, d_model) if activation == "full_glu" else None
        self.out2 = nn.Linear(d_model, d_model) if activation != "gelu" else None
        self._recurrence = Derived()

    def forward(
        self, x: Tensor, state: Tensor | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:  # [B, T, D] -> [B, T, D]
        parts = [self.Lambda_re, self.Lambda_im, self.log_step, self.B, self.C]
        step = self._recurrence(self.recurrence, parts, self.step_rescale)
        y, state = recurrence_scan(x, step, self.D, state, lengths)
        return self._activated(y), state

    def recurrence(self) -> Recurrence:
        """What a step does, from the parameters."""
        real = self.Lambda_re.float()
        real = real.clamp(max=-1e-4) if self.clip_eigenvalues else real
        Lambda = torch.complex(real, self.Lambda_im.float())
        dt = self.step_rescale * self.log_step.float().squeeze(-1).exp()
        z = dt * Lambda
        if self.discretization == "zoh":
            decay, scale = z.exp(), complex_expm1(z) / Lambda
        else:
            inverse = (1 - z / 2).reciprocal()
            decay, scale = (1 + z / 2) * inverse, dt * inverse
        B = scale.unsqueeze(-1) * torch.view_as_complex(self.B.float())
        return Recurrence.of_pairs(decay, torch.view_as_real(B), 2 * self.C.float())

    def _activated(self, y: Tensor) -> Tensor:
        g = F.gelu(y, approximate="tanh")
        if self.out2 is None:
            return g
        value = y if self.activation == "half_glu2" else g
        value = value if self.out1 is None else self.out1(value)
        return value * torch.sigmoid(self.out2(g))


def _output_map(c_init: str, d_model: int, V: Tensor) -> Tensor:
    P, N = V.shape
    if c_init == "complex_normal":
        return torch.randn(d_model, N, dtype=V.dtype)
    if c_init != "hippo":
        raise InputError(f"c_init is {c_init!r}, expected 'hippo' or 'complex_normal'")
    return torch.complex(_lecun_normal(P, d_model).T, _lecun_normal(P, d_model).T) @ V


def _lecun_normal(fan_in: int, fan_out: int) -> Tensor:
    """Variance `1 / fan_in`, from a normal distribution that is cut at two standard deviations."""
    # 0.8796 is the standard deviation of a standard normal variable cut at 2
    return nn.init.trunc_normal_(torch.empty(fan_in, fan_out), a=-2, b=2) / (0.87962566 * fan_in**0.5)


def _pairs(values: Tensor) -> nn.Parameter:
    return nn.Parameter(torch.view_as_real(values.resolve_conj()).contiguous())
