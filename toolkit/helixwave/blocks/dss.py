"""DSS: diagonal state spaces whose kernels are sums of exponentials, or of their softmax over time."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helixwave.blocks.s4d import ModalKernel, Modes, complex_expm1
from helixwave.errors import InputError
from helixwave.initialisers import hippo_diagonal, log_uniform


class DSS(nn.Module):
    """Diagonal state space for each channel, then GELU and a linear map that mixes the channels (DSS).

    `h_t = exp(dt Lambda) h_{t-1} + u_t`, `y = Re(W' h) + D u`, `out = W_out gelu(y)`, with eigenvalues Lambda that all
    channels share and `W' = W (exp(dt Lambda) - 1) / Lambda`, or that divided by `exp(l_max dt Lambda) - 1`. Cost
    `O(T)`, state `d_model d_state` complex numbers.
    Source: Gupta, Gu and Berant, "Diagonal State Spaces are as Effective as Structured State Spaces", 2022,
    proposition 1 and section 3.

    Args:
        d_state: eigenvalues, which stand for themselves and not for conjugate pairs.
        version: `"exp"`: real parts are `-exp(Lambda_log_neg_re)`; `"softmax"`: the kernel of a mode is a softmax over
            the lags 0 to `l_max - 1`. The published one also lets real parts grow positive, for kernels that rise with
            the lag; such a state would overflow in a long sequence, so they are held at 0 and below.
        l_max: length over which the softmax of a mode sums to one; of no meaning for `"exp"`. In longer sequences the
            same exponentials go on, uncut. The published layer divides by the length at hand, which no stream can know.
        dt_min, dt_max: range of the step sizes at the start, log-uniform.
        separate_dt: one step size for the real and one for the imaginary parts; they start equal.
    """

    causal = True

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 64,
        version: Literal["exp", "softmax"] = "exp",
        l_max: int = 1024,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        separate_dt: bool = True,
    ):
        super().__init__()
        if version not in ("exp", "softmax"):
            raise InputError(f"version is {version!r}, expected 'exp' or 'softmax'")
        if l_max < 1:
            raise InputError(f"l_max is {l_max}, expected at least 1")
        log_dt = log_uniform(d_model, low=dt_min, high=dt_max)
        log_dt = log_dt.unsqueeze(-1).repeat(1, 2) if separate_dt else log_dt
        kernel = ExponentialKernel(log_dt, d_state) if version == "exp" else SoftmaxKernel(log_dt, d_state, l_max)
        self.D = nn.Parameter(torch.randn(d_model))
        self.kernel = kernel
        self.output_linear = nn.Linear(d_model, d_model)

    def forward(
        self, x: Tensor, state: Tensor | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:  # [B, T, D] -> [B, T, D]
        y, state = self.kernel(x, self.D, state, lengths)
        return self.output_linear(F.gelu(y)), state


class ExponentialKernel(ModalKernel):
    """The kernel of DSS-exp, `Re sum_n W_n (exp(z_n) - 1) / Lambda_n exp(z_n l)` with `z = dt Lambda`."""

    optimisation: ClassVar[dict[str, dict[str, float]]] = {
        name: {"lr": 1e-3, "weight_decay": 0.0} for name in ("log_dt", "Lambda_log_neg_re", "Lambda_im", "W")
    }

    def __init__(self, log_dt: Tensor, d_state: int):
        super().__init__()
        Lambda = _skew_hippo(d_state)
        self.log_dt = nn.Parameter(log_dt)
        self.Lambda_log_neg_re = nn.Parameter((-Lambda.real).log())
        self.Lambda_im = nn.Parameter(Lambda.imag.clone())
        self.W = nn.Parameter(torch.randn(len(log_dt), d_state, 2))

    def modes(self) -> Modes:
        Lambda = torch.complex(-self.Lambda_log_neg_re.float().exp(), self.Lambda_im.float())
        z = _scaled(Lambda, self.log_dt)
        reciprocal = Lambda.conj() / _square(Lambda).clamp(min=1e-7)
        # half, because the scan doubles: its modes stand for conjugate pairs
        return Modes(z, torch.view_as_complex(self.W.float()) * complex_expm1(z) * (reciprocal / 2))


class SoftmaxKernel(ModalKernel):
    """The kernel of DSS-softmax, `Re sum_n W_n / Lambda_n softmax_l(z_n l)` with `z = dt Lambda` and l below l_max.

    The sum of `exp(z l)` over these l is `(exp(z l_max) - 1) / (exp(z) - 1)`.
    """

    optimisation: ClassVar[dict[str, dict[str, float]]] = {
        name: {"lr": 1e-3, "weight_decay": 0.0} for name in ("log_dt", "Lambda", "W")
    }

    def __init__(self, log_dt: Tensor, d_state: int, l_max: int):
        super().__init__()
        self.l_max = l_max
        self.log_dt = nn.Parameter(log_dt)
        self.Lambda = nn.Parameter(torch.view_as_real(_skew_hippo(d_state)).clone())
        self.W = nn.Parameter(torch.randn(len(log_dt), d_state, 2))

    def modes(self) -> Modes:
        real, imag = self.Lambda.float().unbind(-1)
        Lambda = torch.complex(real.clamp(max=0), imag)
        z = _scaled(Lambda, self.log_dt)
        divisor = complex_expm1(z * self.l_max) * Lambda
        # the published guard against a sum of zero
        reciprocal = divisor.conj() / (_square(divisor) + 1e-7)
        return Modes(z, torch.view_as_complex(self.W.float()) * complex_expm1(z) * (reciprocal / 2))


def _skew_hippo(d_state: int) -> Tensor:
    """The pairs' halves with positive imaginary part, largest first, for a HiPPO-LegS of twice the size."""
    return hippo_diagonal(2 * d_state)[0].conj().resolve_conj().to(torch.complex64)


def _scaled(Lambda: Tensor, log_dt: Tensor) -> Tensor:
    """`dt Lambda`, `[D, N]`, with a step size for both parts or one for each."""
    dt = log_dt.float().exp()
    if dt.ndim == 1:
        return dt.unsqueeze(-1) * Lambda
    return torch.complex(dt[:, :1] * Lambda.real, dt[:, 1:] * Lambda.imag)


def _square(z: Tensor) -> Tensor:
    return z.real.square() + z.imag.square()
