"""From the hidden states of a recording to scores: of all of it, or of each sample."""

from typing import Literal

import torch
import torch.nn.functional as F
from helixwave.lengths import valid_mask
from torch import Tensor, nn

from helixwave_domains.ecg.convolutions import PaddedBatchNorm1d

Pool = Literal["mean", "max", "mean_max"]


def pooled(hidden: Tensor, lengths: Tensor | None, pool: Pool) -> Tensor:
    """Mean, maximum or both side by side of the valid positions: `[B, T, D]` -> `[B, D]` or `[B, 2 D]`."""
    shown, highest = hidden, hidden
    if lengths is not None:
        padded = ~valid_mask(lengths, hidden.shape[1])[..., None]
        shown, highest = hidden.masked_fill(padded, 0), hidden.masked_fill(padded, -torch.inf)
    count = hidden.shape[1] if lengths is None else lengths[:, None]
    kinds = {"mean": [shown.sum(1) / count], "max": [highest.amax(1)]}
    kinds["mean_max"] = kinds["mean"] + kinds["max"]
    return torch.cat(kinds[pool], dim=-1)


class RecordHead(nn.Module):
    """Scores of a whole recording, from its pooled hidden states."""

    def __init__(self, d_model: int, n_class: int, *, pool: Pool = "mean", dropout: float = 0.0):
        super().__init__()
        self.pool: Pool = pool
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(d_model * (2 if pool == "mean_max" else 1), n_class)

    def forward(self, hidden: Tensor, lengths: Tensor | None, T: int) -> Tensor:
        """`[B, T', D]` -> `[B, n_class]`."""
        return self.linear(self.dropout(self.pooled(hidden, lengths)))

    def pooled(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """What the recording is to the head."""
        return pooled(hidden, lengths, self.pool)


class BeatHead(nn.Module):
    """Scores at each sample, the same for the samples of one position: targets are there where a beat is.

    Args:
        stride: samples to a position.
    """

    def __init__(self, d_model: int, n_class: int, *, stride: int, dropout: float = 0.0):
        super().__init__()
        self.stride = stride
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(d_model, n_class)

    def forward(self, hidden: Tensor, lengths: Tensor | None, T: int) -> Tensor:
        """`[B, T', D]` -> `[B, T, n_class]`."""
        return self.linear(self.dropout(hidden)).repeat_interleave(self.stride, dim=1)[:, :T]

    def pooled(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """The mean over the recording."""
        return pooled(hidden, lengths, "mean")


class SignalHead(nn.Module):
    """Numbers at each sample: every position has a map of its own for each of its samples.

    Args:
        stride: samples to a position.
    """

    def __init__(self, d_model: int, n_class: int, *, stride: int, dropout: float = 0.0):
        super().__init__()
        self.n_class = n_class
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(d_model, stride * n_class)

    def forward(self, hidden: Tensor, lengths: Tensor | None, T: int) -> Tensor:
        """`[B, T', D]` -> `[B, T, n_class]`."""
        return self.linear(self.dropout(hidden)).unflatten(-1, (-1, self.n_class)).flatten(1, 2)[:, :T]

    def pooled(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """The mean over the recording."""
        return pooled(hidden, lengths, "mean")


class ConcatPoolHead(nn.Module):
    """The head of the PTB-XL benchmark: mean and maximum, then two linear layers behind batch norms and dropouts.

    Source: Strodthoff et al., "Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL", 2020, and its
    code.
    """

    def __init__(self, d_model: int, n_class: int, *, d_hidden: int = 128, dropout: float = 0.5):
        super().__init__()
        self.norms = nn.ModuleList([PaddedBatchNorm1d(2 * d_model), PaddedBatchNorm1d(d_hidden)])
        self.dropouts = nn.ModuleList([nn.Dropout(dropout / 2), nn.Dropout(dropout)])
        self.hidden = nn.Linear(2 * d_model, d_hidden)
        self.linear = nn.Linear(d_hidden, n_class)

    def forward(self, hidden: Tensor, lengths: Tensor | None, T: int) -> Tensor:
        """`[B, T', D]` -> `[B, n_class]`."""
        x = self.dropouts[0](self.norms[0](self.pooled(hidden, lengths)))
        return self.linear(self.dropouts[1](self.norms[1](F.relu(self.hidden(x)))))

    def pooled(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """Mean and maximum over the recording."""
        return pooled(hidden, lengths, "mean_max")
