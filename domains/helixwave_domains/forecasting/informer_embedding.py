"""What an Informer reads of each step: its values, its place and its time.

Source: Zhou et al., "Informer", 2021, appendix B, with the details of the published code.
"""

import math
from typing import Literal

import torch
from helixwave.errors import InputError
from torch import Tensor, nn

TimeEmbedding = Literal["features", "fixed", "learned"]

# rows of the tables of months, days, weekdays, hours and quarters of an hour; months and days count from one
_TABLES = (13, 32, 7, 24, 4)


class StepEmbedding(nn.Module):
    """A circular convolution of width 3 over the values, plus sinusoids of the place, plus what the marks say.

    Args:
        length: steps of a window.
        n_channel: of the values.
        d_model: of the result.
        n_mark: columns of the marks; 0: none are read.
        time_embedding: a linear map of the marks, sinusoids of the fields of the calendar, or learned tables of them.
        bias: whether the convolution and the linear map have one.
        dropout: on the sum.
    """

    def __init__(
        self,
        length: int,
        n_channel: int,
        d_model: int,
        *,
        n_mark: int,
        time_embedding: TimeEmbedding,
        bias: bool,
        dropout: float,
    ):
        super().__init__()
        self.values = nn.Conv1d(n_channel, d_model, 3, padding=1, padding_mode="circular", bias=bias)
        nn.init.kaiming_normal_(self.values.weight, mode="fan_in", nonlinearity="leaky_relu")
        self.places: Tensor
        self.register_buffer("places", sinusoids(length, d_model), persistent=False)
        self.times = _times(time_embedding, n_mark, d_model, bias) if n_mark else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, marks: Tensor | None) -> Tensor:  # [B, T, C], [B, T, M] -> [B, T, D]
        y = self.values(x.transpose(1, 2)).transpose(1, 2) + self.places
        return self.dropout(y if self.times is None else y + self.times(marks))


class FixedTimes(nn.Module):
    """The sum of the sinusoids of all fields."""

    def __init__(self, d_model: int):
        super().__init__()
        self.table: Tensor
        self.register_buffer("table", sinusoids(max(_TABLES), d_model), persistent=False)

    def forward(self, fields: Tensor) -> Tensor:  # [B, T, M] -> [B, T, D]
        return self.table[fields.long()].sum(2)


class LearnedTimes(nn.Module):
    """The sum of the learned vectors of all fields."""

    def __init__(self, n_mark: int, d_model: int):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, d_model) for size in _TABLES[:n_mark])

    def forward(self, fields: Tensor) -> Tensor:  # [B, T, M] -> [B, T, D]
        columns = fields.long().unbind(-1)
        return torch.stack([table(column) for table, column in zip(self.tables, columns, strict=True)]).sum(0)


def sinusoids(length: int, d_model: int) -> Tensor:
    """Sines and cosines in turn, of wavelengths from 2 pi to 10,000 times that: `[length, d_model]`.

    Source: Vaswani et al., "Attention Is All You Need", 2017, section 3.5.
    """
    rates = torch.exp(-math.log(10000.0) / d_model * torch.arange(0, d_model, 2))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :d_model]


def _times(kind: TimeEmbedding, n_mark: int, d_model: int, bias: bool) -> nn.Module:
    if kind == "features":
        return nn.Linear(n_mark, d_model, bias=bias)
    if n_mark not in (4, 5):
        raise InputError(
            f"Informer: time_embedding={kind!r} reads 4 or 5 fields of the calendar, not {n_mark} columns. Make them "
            "with time_fields, or pass time_embedding='features'"
        )
    return FixedTimes(d_model) if kind == "fixed" else LearnedTimes(n_mark, d_model)
