"""ConvS5: a state space at each place of a picture, which reads and writes through convolutions."""

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from helixwave.blocks.derived import Derived
from helixwave.blocks.s4d import complex_expm1
from helixwave.errors import InputError
from helixwave.initialisers import log_uniform, nplr
from helixwave.lengths import at_end
from helixwave_kernels import linear_scan
from torch import Tensor, nn

from helixwave_domains.video.frame_predictor import GROUPS, FramePredictor, expect_width, per_frame

Route = Literal["scan", "fft", "sequential"]
Output = Literal["standard", "half_glu", "resnet"]


class ConvS5(FramePredictor):
    """Predicts the next frame with layers of `ConvSSM` between an encoder and a decoder.

    Training reads all frames at once; a rollout keeps one state a layer, of constant size. Source: Smith et al.,
    "Convolutional State Space Models for Long-Range Spatiotemporal Modeling", 2023, section 3.

    Args:
        classes: names of the channels of a frame.
        d_model: channels of the layers.
        n_layer: how many.
        patch: side of a patch, pixels.
        reach: how far content can move from one frame to the next, pixels down and across.
        d_state, n_block, kernel, output, dt_min, dt_max, route: see `ConvSSM`.
    """

    def __init__(
        self,
        *,
        classes: list[str],
        d_model: int = 64,
        n_layer: int = 3,
        patch: int = 8,
        reach: int = 4,
        d_state: int = 32,
        n_block: int = 1,
        kernel: int = 3,
        output: Output = "standard",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        route: Route = "scan",
    ):
        layers: list[nn.Module] = [
            ConvSSM(
                d_model,
                d_state=d_state,
                n_block=n_block,
                kernel=kernel,
                output=output,
                dt_min=dt_min,
                dt_max=dt_max,
                route=route,
            )
            for _ in range(n_layer)
        ]
        super().__init__(layers, classes=classes, d_model=d_model, patch=patch, reach=reach)


class ConvSSM(nn.Module):
    """`x_t = Abar x_{t-1} + Bbar * u_t`, `y_t = 2 Re(C * x_t)` with `*` a convolution over the picture, and a skip.

    A is diagonal and the same at each place, so that all places of all channels are independent recurrences in time:
    one half of the conjugate pairs of states is kept, hence twice the real part. Smith et al., 2023, section 3; the
    start is HiPPO-LegS without its low rank, discretised by a zero-order hold.

    Args:
        d_state: real size of the state at each place; half as many complex numbers.
        n_block: A starts as the eigenvalues of that many HiPPO matrices of size `d_state / n_block`.
        kernel: side of the convolutions, odd; D has one of 1.
        output: behind the state space, before the skip. `"standard"`: `silu(n)` with `n = norm(y + D u)`;
            `"half_glu"`: `gelu(n) sigmoid(W gelu(n))`; `"resnet"`: a residual block of two convolutions on y.
        dt_min, dt_max: range of the step sizes at the start, log-uniform.
        route: how states are computed: by the scan operator, by a Fourier transform over time, or step by step.

    Raises:
        InputError: channels or a state that do not come in groups, or an even kernel.
    """

    optimisation: ClassVar[dict[str, dict[str, float]]] = {
        name: {"lr": 1e-3, "weight_decay": 0.0} for name in ("Lambda_re", "Lambda_im", "log_step", "B")
    }

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 32,
        n_block: int = 1,
        kernel: int = 3,
        output: Output = "standard",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        route: Route = "scan",
    ):
        super().__init__()
        expect_width(d_model)
        if n_block < 1 or d_state < 1 or d_state % (2 * n_block):
            raise InputError(f"model: d_state is {d_state}, expected a multiple of 2 n_block = {2 * n_block}")
        if kernel < 1 or kernel % 2 == 0:
            raise InputError(f"model: kernel is {kernel}, expected an odd number")
        self.kernel, self.route = kernel, route
        eigenvalues, _, _, basis = nplr("legs", d_state // n_block)
        Lambda, V = eigenvalues.repeat(n_block), torch.block_diag(*[basis] * n_block).to(torch.complex64)
        self.Lambda_re = nn.Parameter(Lambda.real.float())
        self.Lambda_im = nn.Parameter(Lambda.imag.float())
        self.log_step = nn.Parameter(log_uniform(d_state // 2, low=dt_min, high=dt_max))
        # real and imaginary parts last, [P, D, k, k, 2] and [D, P, k, k, 2]
        self.B = _pairs(torch.tensordot(V.mH, _he_normal(d_state, d_model, kernel).to(V.dtype), 1))
        C = torch.complex(*(_he_normal(d_model, d_state, kernel) for _ in range(2)))
        self.C = _pairs(torch.einsum("dnhw,np->dphw", C, V))
        self.direct = None if output == "resnet" else nn.Conv2d(d_model, d_model, 1, bias=False)
        self.output = {
            "standard": lambda: _activated_norm(d_model),
            "half_glu": lambda: nn.Sequential(nn.GroupNorm(GROUPS, d_model), HalfGLU(d_model)),
            "resnet": lambda: ResidualBlock(d_model, kernel),
        }[output]()
        self._weights = Derived()

    def forward(self, u: Tensor, state: Tensor | None = None, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Right-padded inputs `[B, T, D, H, W]` to outputs like them and the state after the last frame of each,
        complex `[B, H, W, P]`.
        """
        log_decay, into, out_of = self._weights(
            self.weights, [self.Lambda_re, self.Lambda_im, self.log_step, self.B, self.C]
        )
        driven = per_frame(lambda u: F.conv2d(u, into.to(u.dtype), padding="same"), u)
        # channels last, where a real and an imaginary part are neighbours
        driven = torch.view_as_complex(driven.permute(0, 1, 3, 4, 2).float().contiguous().unflatten(-1, (-1, 2)))
        states = convolved_states(driven, log_decay, state, self.route)
        pairs = torch.view_as_real(states).flatten(-2).permute(0, 1, 4, 2, 3).to(u.dtype)
        y = per_frame(lambda x: F.conv2d(x, out_of.to(x.dtype), padding="same"), pairs)
        if self.direct is not None:
            y = y + per_frame(self.direct, u)
        return u + per_frame(self.output, y), at_end(states, lengths)

    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """From the parameters: the logarithm of Abar `[P]`, and real filters into pairs of states and out of them."""
        Lambda = torch.complex(self.Lambda_re.float().clamp(max=-1e-4), self.Lambda_im.float())
        log_decay = self.log_step.float().exp() * Lambda
        Bbar = (complex_expm1(log_decay) / Lambda)[:, None, None, None] * torch.view_as_complex(self.B.float())
        into = torch.view_as_real(Bbar).movedim(-1, 1).flatten(0, 1)  # [2P, D, k, k]
        # twice the real part of a product of complex numbers, as a product of real ones
        signed = self.C.float() * self.C.new_tensor([2.0, -2.0])
        return log_decay, into, signed.movedim(-1, 2).flatten(1, 2)  # [D, 2P, k, k]


def convolved_states(driven: Tensor, log_decay: Tensor, state: Tensor | None = None, route: Route = "scan") -> Tensor:
    """All states of `x_t = exp(log_decay) x_{t-1} + driven_t`.

    Args:
        driven: complex `[B, T, H, W, P]`.
        log_decay: complex `[P]`.
        state: before the first step, complex `[B, H, W, P]`; zeros if None.
        route: all routes have the same meaning.
    """
    if route not in ROUTES:
        raise InputError(f"model: route is {route!r}, expected one of {', '.join(map(repr, ROUTES))}")
    if state is not None:
        first = driven[:, :1] + (log_decay.exp() * state).unsqueeze(1)
        driven = torch.cat([first, driven[:, 1:]], dim=1)
    return driven if driven.shape[1] == 1 else ROUTES[route](driven, log_decay)


def _sequential(driven: Tensor, log_decay: Tensor) -> Tensor:
    decay, x, states = log_decay.exp(), torch.zeros_like(driven[:, 0]), []
    for driven_t in driven.unbind(1):
        x = decay * x + driven_t
        states.append(x)
    return torch.stack(states, dim=1)


def _scanned(driven: Tensor, log_decay: Tensor) -> Tensor:
    """Places and states are channels of one scan."""
    decay = log_decay.exp().expand_as(driven)
    states, _ = linear_scan(driven.flatten(2), decay.flatten(2))
    return states.view_as(driven)


def _transformed(driven: Tensor, log_decay: Tensor) -> Tensor:
    """A causal convolution in time with the powers of Abar, of twice the length so that nothing wraps round."""
    T = driven.shape[1]
    powers = torch.exp(log_decay * torch.arange(T, device=driven.device)[:, None])
    spectrum = torch.fft.fft(driven, n=2 * T, dim=1) * torch.fft.fft(powers, n=2 * T, dim=0)[:, None, None]
    return torch.fft.ifft(spectrum, dim=1)[:, :T]


ROUTES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "scan": _scanned,
    "fft": _transformed,
    "sequential": _sequential,
}


class HalfGLU(nn.Module):
    """`g sigmoid(W g)` with `g = gelu(n)`, so that channels are multiplied: `[N, D, H, W] -> [N, D, H, W]`."""

    def __init__(self, d_model: int):
        super().__init__()
        self.gate = nn.Conv2d(d_model, d_model, 1)

    def forward(self, n: Tensor) -> Tensor:
        g = F.gelu(n, approximate="tanh")
        return g * torch.sigmoid(self.gate(g))


class ResidualBlock(nn.Module):
    """Norm, activation and convolution, twice, beside a skip: `[N, D, H, W] -> [N, D, H, W]`."""

    def __init__(self, d_model: int, kernel: int):
        super().__init__()
        self.branch = nn.Sequential(
            *_activated_norm(d_model),
            nn.Conv2d(d_model, d_model, kernel, padding="same"),
            *_activated_norm(d_model),
            nn.Conv2d(d_model, d_model, kernel, padding="same"),
        )

    def forward(self, y: Tensor) -> Tensor:
        return F.silu(y + self.branch(y))


def _activated_norm(d_model: int) -> nn.Sequential:
    return nn.Sequential(nn.GroupNorm(GROUPS, d_model), nn.SiLU())


def _he_normal(c_out: int, c_in: int, kernel: int) -> Tensor:
    return nn.init.kaiming_normal_(torch.empty(c_out, c_in, kernel, kernel))


def _pairs(values: Tensor) -> nn.Parameter:
    return nn.Parameter(torch.view_as_real(values.resolve_conj()).contiguous())
