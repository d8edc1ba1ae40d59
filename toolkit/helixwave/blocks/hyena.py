"""Hyena: gated long convolutions with implicit filters."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from helixwave_kernels import long_conv, short_conv
from torch import Tensor, nn

from helixwave.blocks.mamba import end_of_inputs
from helixwave.errors import InputError
from helixwave.lengths import last_valid, valid_mask

HyenaState = tuple[Tensor, ...]


class Hyena(nn.Module):
    """Long convolutions with a filter from a small network, gated by the input (Hyena).

    For order 2: `y = out_proj(x0 * conv(x1 * v))` with `x0, x1, v` from a projection and a short convolution. Cost
    `O(T log T)`; the state is the last `l_max - 1` inputs of each long convolution. Beyond `l_max` positions the filter
    is zero. Source: Poli et al., "Hyena Hierarchy", 2023, sections 3.1 to 3.3; HyenaDNA's form of it (2023).

    Args:
        l_max: length of the filter. Its positions are scaled by `l_max`, so outputs depend on it.
        order: gates; `order - 1` long convolutions one after another.
        d_short: width of the short convolution.
        d_filter: width of the filter network.
        d_position: features of a position, an odd number: the time and pairs of cosine and sine.
        frequency: initial frequency of the sine activations.
        shift: floor of the exponential window; 0.05 in the published HyenaDNA models.
    """

    causal = True

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
    ):
        super().__init__()
        self.l_max, self.order = l_max, order
        d_inner = (order + 1) * d_model
        self.in_proj = nn.Linear(d_model, d_inner)
        self.short_filter = nn.Conv1d(d_inner, d_inner, d_short, groups=d_inner)
        self.filter_fn = HyenaFilter(
            (order - 1) * d_model, l_max, d_filter=d_filter, d_position=d_position, frequency=frequency, shift=shift
        )
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(
        self, x: Tensor, state: HyenaState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, HyenaState]:  # [B, T, D] -> [B, T, D]
        starts: Sequence[Tensor | None] = state or (None,) * self.order
        short_state, *pasts = starts
        inputs = self.in_proj(x)
        mixed, short_end = short_conv(
            inputs, self.short_filter.weight.squeeze(1), self.short_filter.bias, initial_state=short_state
        )
        if lengths is not None:
            short_end = end_of_inputs(inputs, short_state, self.short_filter.kernel_size[0] - 1, lengths)
        *gates, v = mixed.chunk(self.order + 1, dim=-1)
        past = pasts[0]
        T_past = 0 if past is None else past.shape[1]
        kernels = self.filter_fn(min(x.shape[1] + T_past, self.l_max)).chunk(self.order - 1, dim=0)
        skips = self.filter_fn.bias.chunk(self.order - 1, dim=0)
        ends = []
        for gate, kernel, skip, past in zip(reversed(gates[1:]), kernels, skips, pasts, strict=True):
            v, end = self._convolve(v * gate, kernel, skip, past, lengths)
            ends.append(end)
        return self.out_proj(v * gates[0]), (short_end, *ends)

    def _convolve(
        self, v: Tensor, kernel: Tensor, skip: Tensor, past: Tensor | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """One long convolution after `past`, the inputs before this call; returns also the past of the next call."""
        T = v.shape[1]
        if lengths is not None:
            # exact zeros, because the rounding of a Fourier transform spreads over all positions
            v = v.masked_fill(~valid_mask(lengths, T)[..., None], 0)
        joined = v if past is None else torch.cat([past.to(v), v], dim=1)
        if lengths is not None:
            lengths = lengths + joined.shape[1] - T
        end = last_valid(joined, min(joined.shape[1], self.l_max - 1), lengths)
        y = cast(Tensor, long_conv(joined, kernel, skip))
        return y[:, -T:], end


class HyenaFilter(nn.Module):
    """A filter as a function of the position: sine network times an exponential window (Hyena, section 3.3).

    Called with a length it returns the first values of the filter of every channel, `[D, length]`.
    """

    deltas: Tensor

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
        fastest, slowest = math.log(1e-2) / 0.3, math.log(1e-2) / 1.5
        self.register_buffer("deltas", torch.linspace(slowest, fastest, d_model).abs(), persistent=False)

    def forward(self, length: int) -> Tensor:  # -> [D, length]
        # in float32 even under autocast: a sine of large arguments has no digits to spare
        with torch.autocast(self.bias.device.type, enabled=False):
            step = torch.arange(length, device=self.bias.device, dtype=torch.float32)
            time = step / max(self.l_max - 1, 1)
            window = torch.exp(-time[:, None] * self.deltas) + self.shift
            return (self.implicit_filter(self._features(step, time)) * window).T

    def _features(self, step: Tensor, time: Tensor) -> Tensor:  # -> [length, d_position]
        band = torch.linspace(1e-4, self.n_band - 1, self.n_band, device=step.device)
        angle = band * (2 * math.pi / self.l_max) * step[:, None]
        return torch.cat([time[:, None], angle.cos(), -angle.sin()], dim=-1)


class Sine(nn.Module):
    """`sin(freq * x)` with trainable frequencies."""

    def __init__(self, d_filter: int, frequency: float):
        super().__init__()
        self.freq = nn.Parameter(torch.full((1, d_filter), frequency))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.freq * x)
