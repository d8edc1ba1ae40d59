"""Hyena: gated long convolutions with implicit filters."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helixwave.blocks.causal_conv import CausalConv
from helixwave.blocks.derived import Derived
from helixwave.blocks.hyena_channels import HyenaState, Spectra, gated_convolutions, period
from helixwave.blocks.windows import windowed_conv
from helixwave.errors import InputError

# the largest filter whose transform is kept for the next sequences of the same length: 64 MB of it
_REMEMBERED = 2**23
# positions at a time where no gradient is asked for, in whole sequences: what is handed on stays in the cache
_POSITIONS = 1024


class Hyena(nn.Module):
    """Long convolutions with a filter from a small network, gated by the input (Hyena).

    For order 2: `y = out_proj(x0 * conv(x1 * v))` with `x0, x1, v` from a projection and a short convolution; each
    order more adds a gate and a convolution inside. Cost `O(T log T)`, for one token `O(l_max)`; the state is the last
    `l_max - 1` inputs of each long convolution, of full size from the first step on. Beyond `l_max` positions the
    filter is zero. Source: Poli et al., "Hyena Hierarchy", 2023, sections 3.1 to 3.3; HyenaDNA's form of it (2023),
    whose parameters have the same names (in orders above 2 its filters follow one another, convolution by convolution).

    Args:
        l_max: length of the filter. Its positions are scaled by `l_max`, so outputs depend on it.
        order: gates; `order - 1` long convolutions one after another.
        d_short: width of the short convolution.
        d_filter: width of the filter network.
        d_position: features of a position, an odd number: the time and pairs of cosine and sine.
        frequency: initial frequency of the sine activations.
        shift: floor of the exponential window; 0.05 in the published HyenaDNA models, 0.0 in Hyena's own.
        stateful: False: the state is None and cannot be handed over. For whole sequences: padded ones are quicker where
            no gradient is asked for, and a filter may be so long that windows would not fit (a million positions of
            256 channels are 1 GB for each sequence and convolution).
    """

    causal = True
    # as published: the filter network has no weight decay, and the learning rate of all else
    optimisation: ClassVar[dict[str, dict[str, float]]] = {
        f"filter_fn.implicit_filter.{name}": {"weight_decay": 0.0}
        for name in ("0.weight", "0.bias", "1.freq", "2.weight", "2.bias", "4.weight", "4.bias", "6.weight")
    }

    def __init__(
        self,
        d_model: int,
        *,
        l_max: int = 1024,
        order: int = 2,
        d_short: int = 3,
        d_filter: int = 64,
        d_position: int = 5,
        frequency: float = 10.0,
        shift: float = 0.05,
        stateful: bool = True,
    ):
        super().__init__()
        if order < 2:
            raise InputError(
                f"order is {order}, expected at least 2: a gate before and one after each long convolution"
            )
        if l_max < 1:
            raise InputError(f"l_max is {l_max}, expected at least 1")
        self.l_max, self.order, self.stateful = l_max, order, stateful
        self.n_window = l_max - 1 if stateful else 0
        d_inner = (order + 1) * d_model
        self.in_proj = nn.Linear(d_model, d_inner)
        self.short_filter = CausalConv(d_inner, d_short)
        self.filter_fn = HyenaFilter(
            (order - 1) * d_model, l_max, d_filter=d_filter, d_position=d_position, frequency=frequency, shift=shift
        )
        self.out_proj = nn.Linear(d_model, d_model)
        self._remembered = Derived()

    def forward(
        self, x: Tensor, state: HyenaState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, HyenaState | None]:  # [B, T, D] -> [B, T, D]
        if state is not None and not self.stateful:
            raise InputError("hyena: a state was handed to a block that keeps none. Build it with stateful=True")
        # one token at a time goes the way of windows, and so does a state after each sequence's own last position
        if (
            x.numel()
            and _is_inference(x)
            and (state is None or x.shape[1] > 1)
            and not (self.stateful and lengths is not None)
        ):
            return self._by_channels(x, state, lengths)
        starts: Sequence[Tensor | None] = state or (None,) * self.order
        short_state, *windows = starts
        mixed, short_end = self.short_filter(self.in_proj(x), short_state, lengths)
        *gates, v = mixed.chunk(self.order + 1, dim=-1)
        kernels = self._kernels(x.shape[1], state).chunk(self.order - 1, dim=0)
        skips = self.filter_fn.bias.chunk(self.order - 1, dim=0)
        ends = []
        for gate, kernel, skip, window in zip(reversed(gates[1:]), kernels, skips, windows, strict=True):
            # all but the window of `keeping_inputs` have that size
            past = None if window is None else F.pad(window, (0, kernel.shape[-1] - 1 - self.n_window))
            v, end = windowed_conv(v * gate, kernel, skip, past, lengths, n_window=self.n_window)
            ends.append(end)
        return self.out_proj(v * gates[0]), ((short_end, *ends) if self.stateful else None)

    def _kernels(self, T: int, state: HyenaState | None) -> Tensor:  # -> [(order - 1) D, L]
        if state is None:
            # not remembered: quick beside the convolution of a whole sequence, and as large as its activations
            return self.filter_fn(min(T, self.l_max))
        # in the order of the windows: a product of two layouts takes ten times as long
        parameters, length = [*self.filter_fn.implicit_filter.parameters()], min(self.n_window + T, self.l_max)
        return self._remembered(lambda: self.filter_fn(length).contiguous(), parameters, key=length)

    def _by_channels(
        self, x: Tensor, state: HyenaState | None, lengths: Tensor | None
    ) -> tuple[Tensor, HyenaState | None]:
        T, past = x.shape[1], 0 if state is None else self.n_window
        length = min(past + T, self.l_max)
        n = period(past, T, length)
        skips = self.filter_fn.bias.unflatten(0, (self.order - 1, -1))
        spectra = self._spectra(length, n)
        together = max(1, _POSITIONS // T)
        ys, ends = [], []
        for start in range(0, len(x), together):
            some = slice(start, start + together)
            y, end = gated_convolutions(
                x[some],
                self.in_proj,
                self.short_filter,
                spectra,
                skips,
                None if lengths is None else lengths[some],
                None if state is None else tuple(part[some] for part in state),
                n=n,
                n_window=self.n_window,
            )
            ys.append(self.out_proj(y))
            ends.append(end)
        joined = tuple(torch.cat(parts) for parts in zip(*ends, strict=True)) if self.stateful else None
        return torch.cat(ys), joined

    def _spectra(self, length: int, n: int) -> Spectra:
        """Transforms of the filters; unless they are large, remembered for more sequences of the same length."""

        def transformed(kernels: Tensor) -> Tensor:
            return torch.fft.rfft(kernels.contiguous(), n=n)

        if length * len(self.filter_fn.bias) <= _REMEMBERED:
            parameters = [*self.filter_fn.implicit_filter.parameters()]
            whole = self._remembered(lambda: transformed(self.filter_fn(length)), parameters, key=(length, n))
            return lambda part: whole[part]
        kernels = self.filter_fn(length)
        return lambda part: transformed(kernels[part])


@contextmanager
def keeping_inputs(module: nn.Module, n: int) -> Iterator[None]:
    """Let every Hyena in a module hand over a state that is exact after up to n positions.

    Its windows are then of n inputs, or of `l_max - 1` if these are fewer.
    """
    blocks = [block for block in module.modules() if isinstance(block, Hyena)]
    before = [(block.stateful, block.n_window) for block in blocks]
    try:
        for block in blocks:
            block.stateful, block.n_window = True, min(n, block.l_max - 1)
        yield
    finally:
        for block, (stateful, n_window) in zip(blocks, before, strict=True):
            block.stateful, block.n_window = stateful, n_window


def _is_inference(x: Tensor) -> bool:
    """On a CPU, in float32, and with neither a gradient to keep nor a graph to write down."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not (torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"))
    )


class HyenaFilter(nn.Module):
    """A filter as a function of the position: sine network times an exponential window (Hyena, section 3.3).

    Called with a length it returns the first values of the filter of every channel, `[D, length]`.
    """

    def __init__(self, d_model: int, l_max: int, *, d_filter: int, d_position: int, frequency: float, shift: float):
        super().__init__()
        if d_position % 2 == 0 or d_position < 3:
            raise InputError(
                f"d_position is {d_position}, expected an odd number from 3: time and pairs of cosine and sine"
            )
        self.l_max, self.n_band, self.shift = l_max, (d_position - 1) // 2, shift
        sine = Sine(d_filter, frequency)  # one set of frequencies, used three times
        self.implicit_filter = nn.Sequential(
            nn.Linear(d_position, d_filter),
            sine,
            nn.Linear(d_filter, d_filter),
            sine,
            nn.Linear(d_filter, d_filter),
            sine,
            nn.Linear(d_filter, d_model, bias=False),
        )
        self.bias = nn.Parameter(torch.randn(d_model))

    def forward(self, length: int) -> Tensor:  # -> [D, length]
        # in float32 even under autocast: a sine of large arguments has no digits to spare
        with torch.autocast(self.bias.device.type, enabled=False):
            features = self.positions(length)
            window = torch.exp(-features[:, :1] * self.deltas) + self.shift
            return (self._network(features) * window).T

    @property
    def deltas(self) -> Tensor:
        """How quickly the window falls in each channel `[D]`: to 1 % over 1.5 to 0.3 of the length."""
        fastest, slowest = -math.log(1e-2) / 0.3, -math.log(1e-2) / 1.5
        return torch.linspace(slowest, fastest, len(self.bias), device=self.bias.device)

    def positions(self, length: int) -> Tensor:
        """What the network is given: time and waves at the first positions `[length, d_position]`, in float32."""
        step = torch.arange(length, device=self.bias.device, dtype=torch.float32)
        time = step / max(self.l_max - 1, 1)
        band = torch.linspace(1e-4, self.n_band - 1, self.n_band, device=step.device)
        angle = band * (2 * math.pi / self.l_max) * step[:, None]
        return torch.cat([time[:, None], angle.cos(), -angle.sin()], dim=-1)

    def _network(self, features: Tensor) -> Tensor:
        if self.bias.dtype == features.dtype:
            return self.implicit_filter(features)
        weights = {name: parameter.to(features.dtype) for name, parameter in self.implicit_filter.named_parameters()}
        return torch.func.functional_call(self.implicit_filter, weights, (features,))


class Sine(nn.Module):
    """`sin(freq * x)` with trainable frequencies."""

    def __init__(self, d_filter: int, frequency: float):
        super().__init__()
        self.freq = nn.Parameter(torch.full((1, d_filter), frequency))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.freq * x)
