"""Every window on its own scale, and its forecast back on the scale of the series."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

_EPS = 1e-5


class WindowStatistics(NamedTuple):
    """Of each window and channel, `[B, 1, C]`; no gradient passes through them."""

    centre: Tensor
    scale: Tensor


class RevIN(nn.Module):
    """Reversible instance normalisation: `weight * (x - centre) / scale + bias`, and the way back.

    Statistics are those of the known values. A window without any has centre 0 and scale 1.
    Source: Kim et al., "Reversible Instance Normalization for Accurate Time-Series Forecasting against Distribution
    Shift", 2022, section 2.

    Args:
        n_channel: C, of the affine map.
        centre: the mean of the window, or its last known value.
        scale: whether to divide by the root of the variance plus 1e-5; without it, nothing but the level changes.
        affine: whether weight and bias are learned; they start as 1 and 0.
    """

    def __init__(
        self, n_channel: int, *, centre: Literal["mean", "last"] = "mean", scale: bool = True, affine: bool = False
    ):
        super().__init__()
        self.centre, self.scale = centre, scale
        self.weight = nn.Parameter(torch.ones(n_channel)) if affine else None
        self.bias = nn.Parameter(torch.zeros(n_channel)) if affine else None

    def normalise(self, x: Tensor, known: Tensor) -> tuple[Tensor, WindowStatistics]:
        """Normalise windows.

        Args:
            x: `[B, L, C]`, finite everywhere.
            known: where `x` is to be believed `[B, L, C]`.

        Returns:
            `[B, L, C]` with zeros where nothing is known, and what the way back needs.
        """
        statistics = self._statistics(x, known)
        y = (x - statistics.centre) / statistics.scale
        if self.weight is not None and self.bias is not None:
            y = y * self.weight + self.bias
        return y * known, statistics

    def restore(self, y: Tensor, statistics: WindowStatistics) -> Tensor:
        """Normalised values on the scale of their series: `[B, H, C]` -> `[B, H, C]`."""
        if self.weight is not None and self.bias is not None:
            y = (y - self.bias) / (self.weight + _EPS**2)
        return y * statistics.scale + statistics.centre

    def unit(self, statistics: WindowStatistics) -> Tensor:
        """The size of a normalised difference of one on the scale of the series, positive: `[B, 1, C]`."""
        return statistics.scale if self.weight is None else statistics.scale / (self.weight + _EPS**2).abs()

    @torch.no_grad()
    def _statistics(self, x: Tensor, known: Tensor) -> WindowStatistics:
        n_known = known.sum(1, keepdim=True)
        mean = (x * known).sum(1, keepdim=True) / n_known.clamp(min=1)
        scale = torch.ones_like(mean)
        if self.scale:
            variance = ((x - mean) * known).square().sum(1, keepdim=True) / n_known.clamp(min=1)
            scale = torch.where(n_known > 0, (variance + _EPS).sqrt(), scale)
        return WindowStatistics(mean if self.centre == "mean" else _last_known(x, known), scale)


def _last_known(x: Tensor, known: Tensor) -> Tensor:
    """`[B, L, C]` -> `[B, 1, C]`, 0 where nothing is known."""
    places = torch.arange(1, x.shape[1] + 1, device=x.device)[:, None]
    last = (known * places).argmax(1, keepdim=True)
    return (x * known).gather(1, last)
