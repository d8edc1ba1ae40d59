"""S4D: diagonal state space models; and the scan over independent modes that DSS shares."""

import math
from typing import ClassVar, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from helixwave_kernels import diagonal_ssm
from torch import Tensor, nn

from helixwave.blocks.derived import Derived
from helixwave.errors import InputError
from helixwave.initialisers import hippo_diagonal, log_uniform
from helixwave.lengths import left_aligned, right_aligned


class S4D(nn.Module):
    """Diagonal state space for each channel, then GELU and a GLU that mixes the channels (S4D).

    `h' = A h + u`, `y = 2 Re(C h) + D u` in steps of dt, for one half of the conjugate pairs of states; B is one, as
    only its product with C matters. Cost `O(T)`, state `d_model d_state / 2` complex numbers. Parameters have the
    names and shapes of the published standalone layer.
    Source: Gu, Gupta, Goel and Ré, "On the Parameterization and Initialization of Diagonal State Space Models", 2022,
    sections 3 and 4.

    Args:
        d_state: real size N of the state of a channel: N / 2 complex numbers, or for `"real"` N real ones.
        initialisation: A at the start, n from 0. `"lin"`: -1/2 + i pi n; `"inv"`: -1/2 + i N/pi (N/(2n+1) - 1);
            `"legs"`: eigenvalues of the normal part of HiPPO-LegS, whose B goes into C; `"real"`: -(n+1), and A and C
            stay real (there is no `A_imag`).
        dt_min, dt_max: range of the step sizes at the start, log-uniform.
        discretization: `"zoh"` holds the input for the step, `"bilinear"` is the trapezoidal rule.
    """

    causal = True
    optimisation: ClassVar[dict[str, dict[str, float]]] = {
        f"kernel.{name}": {"lr": 1e-3, "weight_decay": 0.0} for name in ("log_dt", "log_A_real", "A_imag")
    }

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 64,
        initialisation: Literal["lin", "inv", "legs", "real"] = "lin",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        discretization: Literal["zoh", "bilinear"] = "zoh",
    ):
        super().__init__()
        self.D = nn.Parameter(torch.randn(d_model))
        self.kernel = S4DKernel(d_model, d_state, initialisation, dt_min, dt_max, discretization)
        # a convolution of width one by name and shape; applied as the linear map that it is
        self.output_linear = nn.Sequential(nn.Conv1d(d_model, 2 * d_model, 1), nn.GLU(dim=-2))

    def forward(
        self, x: Tensor, state: Tensor | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:  # [B, T, D] -> [B, T, D]
        y, state = self.kernel(x, self.D, state, lengths)
        mix = cast(nn.Conv1d, self.output_linear[0])
        return F.glu(F.linear(F.gelu(y), mix.weight.squeeze(-1), mix.bias)), state


class Modes(NamedTuple):
    """Independent modes of each channel, `h_t = exp(exponent) h_{t-1} + u_t` and `y_t = 2 Re(C h_t)`, summed.

    What a discretisation makes of the input map is in C, so that the input enters as it is.
    """

    exponent: Tensor  # complex [D, N]
    C: Tensor  # complex [D, N]


class Step(NamedTuple):
    """The same for one step at a time."""

    transition: Tensor  # complex [D, N]
    readout: Tensor  # real [D, N, 2], for a state's real and imaginary parts


class ModalKernel(nn.Module):
    """Holds the parameters of the modes; called with inputs `[B, T, D]`, it runs them.

    Returns `y_t + skip u_t` `[B, T, D]`, and the states after each sequence's last input, complex `[B, D, N]`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._derived = Derived()

    def modes(self) -> Modes:
        """From the parameters, in float32."""
        raise NotImplementedError

    def step(self) -> Step:
        exponent, C = self.modes()
        return Step(exponent.exp(), 2 * torch.view_as_real(C.conj().resolve_conj()))

    def forward(
        self, u: Tensor, skip: Tensor, state: Tensor | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        parameters = list(self.parameters())
        if u.shape[1] == 1:  # where there is one input, it is valid
            return _run_step(u, self._derived(self.step, parameters, "step"), skip, state)
        return _run(u, self._derived(self.modes, parameters, "modes"), skip, state, lengths)


def _run_step(u: Tensor, step: Step, skip: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    now = u[:, 0].float()
    before = torch.zeros_like(step.transition) if state is None else step.transition * state
    h = before + now.unsqueeze(-1)
    y = (torch.view_as_real(h) * step.readout).sum((-2, -1)) + skip.float() * now
    return y.to(u.dtype).unsqueeze(1), h


def _run(u: Tensor, modes: Modes, skip: Tensor, state: Tensor | None, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    if lengths is None:
        return _scan(u, modes, skip, state)
    y, end = _scan(right_aligned(u, lengths), modes, skip, None)
    y = left_aligned(y, lengths)
    if state is None:
        return y, end
    # the system is linear: what came before adds its own response to that of the inputs
    response, _ = _scan(torch.zeros_like(u), modes, None, state)
    return y + response, end + torch.exp(lengths[:, None, None] * modes.exponent) * state


def _scan(u: Tensor, modes: Modes, skip: Tensor | None, state: Tensor | None) -> tuple[Tensor, Tensor]:
    ones = torch.ones_like(modes.exponent.real)
    return diagonal_ssm(u, modes.exponent, ones, modes.C, ones[:, 0], skip, discretization="dirac", initial_state=state)


class S4DKernel(ModalKernel):
    """The parameters of S4D and their discretisation."""

    A_imag: nn.Parameter | None

    def __init__(
        self,
        d_model: int,
        d_state: int,
        initialisation: str,
        dt_min: float,
        dt_max: float,
        discretization: str,
    ):
        super().__init__()
        self.discretization = discretization
        A, B = _initial(initialisation, d_state)
        self.log_dt = nn.Parameter(log_uniform(d_model, low=dt_min, high=dt_max))
        self.log_A_real = nn.Parameter((-A.real).log().float().repeat(d_model, 1))
        if A.is_complex():
            self.A_imag = nn.Parameter(A.imag.float().repeat(d_model, 1))
            C = B.to(torch.complex64) * torch.randn(d_model, len(A), dtype=torch.complex64)
            self.C = nn.Parameter(torch.view_as_real(C).contiguous())
        else:
            self.A_imag = None  # a real system: no frequencies to learn
            self.C = nn.Parameter(torch.randn(d_model, len(A)))

    def modes(self) -> Modes:
        A = -self.log_A_real.float().exp()
        if self.A_imag is None:
            A, C = torch.complex(A, torch.zeros_like(A)), self.C.float() / 2  # no pairs to stand for
        else:
            A, C = torch.complex(A, self.A_imag.float()), torch.view_as_complex(self.C.float())
        dt = self.log_dt.float().exp().unsqueeze(-1)
        z = dt * A
        if self.discretization == "zoh":
            return Modes(z, C * complex_expm1(z) / A)
        inverse = (1 - z / 2).reciprocal()
        return Modes(torch.log((1 + z / 2) * inverse), C * dt * inverse)


def _initial(initialisation: str, N: int) -> tuple[Tensor, Tensor]:
    """A and B, in float64 and complex128."""
    if initialisation == "real":
        return -torch.arange(1, N + 1, dtype=torch.float64), torch.ones(N)
    if N < 2 or N % 2:
        raise InputError(f"d_state is {N}, expected an even number from 2: the states come in conjugate pairs")
    if initialisation == "legs":
        # the pairs' other half, because the published layers keep positive imaginary parts
        A, B = hippo_diagonal(N, clip=2.0)
        return A.conj().resolve_conj(), B.conj().resolve_conj()
    n = torch.arange(N // 2, dtype=torch.float64)
    frequencies = {"lin": math.pi * n, "inv": N / math.pi * (N / (2 * n + 1) - 1)}
    if initialisation not in frequencies:
        raise InputError(f"initialisation is {initialisation!r}, expected 'lin', 'inv', 'legs' or 'real'")
    return torch.complex(torch.full_like(n, -0.5), frequencies[initialisation]), torch.ones(N // 2)


def complex_expm1(z: Tensor) -> Tensor:
    """`exp(z) - 1` without cancellation near 0, on every device."""
    half = torch.sin(z.imag / 2)
    grown = z.real.exp()
    return torch.complex(torch.expm1(z.real) - 2 * grown * half * half, grown * z.imag.sin())
