"""A causal model that forecasts at each position of a series."""

from typing import Any, ClassVar

import torch
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from torch import Tensor, nn


class SeriesForecaster(nn.Module):
    """NLinear at each position of a series, and what the backbone learns to add to it.

    From the values before a position the one there is subtracted, a linear map, one for all channels, makes the next
    values of them, and it is added again: of NLinear, Zeng et al., "Are Transformers Effective for Time Series
    Forecasting?", 2023, section 4. The backbone's part begins at zero.

    Args:
        backbone: causal, `[B, T, D] -> [B, T, D]`.
        classes: names of the outputs, the channels of a step after those of the step before.
        channels: of the series.
        dropout: before the head.
        window: values that the linear map reads; what lies before the beginning counts as no difference.

    Raises:
        InputError: a window of no values, or a backbone that looks ahead.
    """

    config: dict[str, Any]
    pretrained_as: ClassVar[dict[str, Any]] = {"name": "signal_model"}

    def __init__(
        self, *, backbone: Backbone, classes: list[str], channels: int = 1, dropout: float = 0.0, window: int = 24
    ):
        if window < 1:
            raise InputError(f"model: window is {window}, expected at least 1")
        backbone.expect_causal()
        super().__init__()
        self.classes, self.channels = classes, channels
        self.embedding = nn.Linear(channels, backbone.d_model)
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = _Head(backbone.d_model, window, len(classes) // channels, channels)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Forecasts of right-padded series: `[B, T, C]` -> `[B, T, horizon * C]`."""
        hidden, _ = self.backbone(self.embedding(inputs), lengths=lengths)
        return self.head(self.dropout(hidden), inputs)

    @property
    def reads(self) -> dict[str, Any]:
        """How inputs are read: arguments for another model that is to begin with the embedding and the backbone."""
        return {"channels": self.channels}


class _Head(nn.Module):
    def __init__(self, d_model: int, window: int, horizon: int, channels: int):
        super().__init__()
        self.window = window
        self.linear = nn.Linear(window, horizon)
        self.added = nn.Linear(d_model, horizon * channels)
        for part in (self.linear, self.added):
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)

    def forward(self, hidden: Tensor, inputs: Tensor) -> Tensor:
        here = inputs[..., None]
        forecast = here + self.linear(self._before(inputs) - here)
        return forecast.transpose(2, 3).flatten(2) + self.added(hidden)

    def _before(self, inputs: Tensor) -> Tensor:
        """The values up to each position, `[B, T, C]` -> `[B, T, C, window]`; before the beginning the one there."""
        T = inputs.shape[1]
        here = torch.arange(T, device=inputs.device)[:, None]
        places = here - torch.arange(self.window - 1, -1, -1, device=inputs.device)
        return inputs[:, torch.where(places < 0, here, places)].transpose(2, 3)
