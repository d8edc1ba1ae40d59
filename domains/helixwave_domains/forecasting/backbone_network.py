"""Any backbone as a forecaster: patches of a window in, all steps of the horizon out."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave_kernels.shapes import expect_shapes
from torch import Tensor, nn

from helixwave_domains.forecasting.forecast_outputs import Output, Point
from helixwave_domains.forecasting.window_normalisation import RevIN, WindowStatistics


class Reading(NamedTuple):
    """What a network has made of the contexts of a batch."""

    hidden: Tensor  # [B, N, D], or [B * C, N, D] with a sequence for each channel
    statistics: WindowStatistics


class BackboneNetwork(nn.Module):
    """Embedded patches, the backbone, and one linear map from all that it says to all steps of the horizon.

    A missing value is a zero after normalisation, and a mask beside the values tells the network so. Exogenous
    variables of the context are further channels of the patches; those of the horizon are mapped linearly to the
    numbers of their own step. Source: Nie et al., "A Time Series is Worth 64 Words", 2023, section 3.1, for any
    backbone.

    Args:
        backbone: `[B, T, D] -> [B, T, D]`.
        context: steps read, L.
        horizon: steps forecast, H.
        n_channel: C.
        normalisation: of each window.
        n_exogenous: K, variables known for the context and the horizon, standardised.
        patch: steps of a patch; 1 embeds each step.
        stride: steps from one patch to the next; None: `patch`, without overlap.
        mixes_channels: whether patches hold all channels; if not, each channel is a sequence by itself, all with the
            same weights.
        output: what is said of each step.

    Raises:
        InputError: sizes that do not fit together.
    """

    def __init__(
        self,
        backbone: Backbone,
        context: int,
        horizon: int,
        n_channel: int,
        *,
        normalisation: RevIN,
        n_exogenous: int = 0,
        patch: int = 16,
        stride: int | None = None,
        mixes_channels: bool = False,
        output: Output | None = None,
    ):
        super().__init__()
        self.stride = patch if stride is None else stride
        if patch < 1:
            raise InputError(f"backbone network: patch is {patch}, expected at least 1")
        if not 1 <= self.stride <= patch:
            raise InputError(f"backbone network: stride is {stride}, expected from 1 to patch={patch}")
        self.context, self.horizon, self.n_channel, self.patch = context, horizon, n_channel, patch
        self.mixes_channels, self.output = mixes_channels, output or Point()
        self.n_patch = max(-(-(context - patch) // self.stride), 0) + 1
        self.normalisation, self.backbone = normalisation, backbone
        group = n_channel if mixes_channels else 1
        self.embedding = nn.Linear((2 * group + n_exogenous) * patch, backbone.d_model)
        n_number = self.output.n_number
        self.head = nn.Linear(self.n_patch * backbone.d_model, horizon * group * n_number)
        self.exogenous_head = nn.Linear(n_exogenous, n_channel * n_number, bias=False) if n_exogenous else None

    def forward(self, x: Tensor, exogenous: Tensor | None = None) -> Tensor:
        """Forecast each window.

        Args:
            x: `[B, L, C]`, NaN where missing.
            exogenous: `[B, L + H, K]`; a missing value counts as 0.

        Returns:
            `[B, H, C]`, or `[B, H, C, P]` for a distribution.
        """
        sizes = {"L": self.context, "H": self.horizon, "C": self.n_channel}
        expect_shapes("backbone network", **sizes, x=(x, "B L C"), exogenous=(exogenous, "B L+H K"))
        return self.forecast(self.read(x, exogenous), exogenous)

    def read(self, x: Tensor, exogenous: Tensor | None) -> Reading:
        """What the backbone makes of contexts."""
        known = ~x.isnan()
        y, statistics = self.normalisation.normalise(x.masked_fill(~known, 0.0), known)
        channels = torch.stack([y, known.to(y.dtype)], dim=-1)  # [B, L, C, 2]
        past = y.new_empty(*y.shape[:2], 0) if exogenous is None else exogenous[:, : self.context].nan_to_num(0.0)
        if self.mixes_channels:
            steps = torch.cat([channels.flatten(2), past], dim=-1)
        else:
            past = past[:, :, None].expand(-1, -1, self.n_channel, -1)
            steps = torch.cat([channels, past], dim=-1).transpose(1, 2).flatten(0, 1)
        hidden, _ = self.backbone(self.embedding(self._patches(steps)))
        return Reading(hidden, statistics)

    def forecast(self, reading: Reading, exogenous: Tensor | None) -> Tensor:
        """All steps of the horizon from what was read."""
        numbers = self.per_step(self.head(reading.hidden.flatten(1)), self.horizon)
        if self.exogenous_head is not None and exogenous is not None:
            ahead = self.exogenous_head(exogenous[:, self.context :].nan_to_num(0.0))
            numbers = numbers + ahead.unflatten(-1, (self.n_channel, -1))
        return self.say(numbers, reading.statistics)

    def per_step(self, numbers: Tensor, n_step: int) -> Tensor:
        """Numbers of each sequence, those of a step together, by channel: `[B, n_step, C, P]`."""
        if self.mixes_channels:
            return numbers.reshape(-1, n_step, self.n_channel, self.output.n_number)
        return numbers.reshape(-1, self.n_channel, n_step, self.output.n_number).transpose(1, 2)

    def say(self, numbers: Tensor, statistics: WindowStatistics) -> Tensor:
        """Forecasts on the scale of the series from numbers `[B, T, C, P]`."""
        normalisation = self.normalisation
        return self.output(numbers, lambda y: normalisation.restore(y, statistics), normalisation.unit(statistics))

    def _patches(self, steps: Tensor) -> Tensor:
        """`[B, L, F]` -> `[B, N, F * patch]`, the last patch at the end, the first filled up with zeros."""
        length = (self.n_patch - 1) * self.stride + self.patch
        padded = F.pad(steps, (0, 0, length - self.context, 0))
        return padded.unfold(1, self.patch, self.stride).flatten(2)
