"""Any backbone as a classifier of whole series, of any lengths and with gaps."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from helixwave.backbone import Backbone
from helixwave.lengths import valid_mask
from numpy.typing import NDArray
from torch import Tensor, nn

from helixwave_domains.forecasting.windows import Numbers, Series


class SeriesBatch(NamedTuple):
    """Series side by side, NaN where a value is missing or behind the end."""

    values: Tensor  # [B, T, C]
    lengths: Tensor  # [B]
    labels: Tensor  # [B]

    def to(self, device: torch.device) -> "SeriesBatch":
        """The same series on `device`."""
        return SeriesBatch(*(part.to(device) for part in self))


class LabelledSeries:
    """Series `[T_i, C]` by number, with the number of the class of each."""

    shortage = "there is no series"

    def __init__(self, series: Sequence[Series], labels: NDArray[np.int64]):
        self.series = [torch.from_numpy(each.astype(np.float32)) for each in series]
        self.labels = torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.series)

    def batch(self, numbers: Numbers) -> SeriesBatch:
        """The series of these numbers `[B]`."""
        chosen = [self.series[i] for i in numbers]
        values = nn.utils.rnn.pad_sequence(chosen, batch_first=True, padding_value=torch.nan)
        return SeriesBatch(values, torch.tensor([len(each) for each in chosen]), self.labels[torch.from_numpy(numbers)])


class SeriesClassifier(nn.Module):
    """Scores of classes from the mean of what a backbone makes of all patches of a series.

    A missing value is a zero, and a mask beside the values tells the network so. Scores depend neither on padding nor
    on the other series of a batch.

    Args:
        backbone: `[B, T, D] -> [B, T, D]`.
        n_channel: C.
        n_class: classes.
        patch: steps of a patch; 1 embeds each step.
        dropout: before the head.
    """

    def __init__(self, backbone: Backbone, n_channel: int, n_class: int, *, patch: int = 1, dropout: float = 0.0):
        super().__init__()
        self.patch = patch
        self.embedding = nn.Linear(2 * n_channel * patch, backbone.d_model)
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.d_model, n_class)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Logits `[B, n_class]` of series `[B, T, C]`, NaN where missing and behind the `lengths` `[B]`."""
        known = ~x.isnan()
        steps = torch.cat([x.masked_fill(~known, 0.0), known.to(x.dtype)], dim=-1)
        steps = F.pad(steps, (0, 0, 0, -x.shape[1] % self.patch))
        n_patch = (lengths + self.patch - 1) // self.patch
        patches = self.embedding(steps.unflatten(1, (-1, self.patch)).flatten(2))
        hidden, _ = self.backbone(patches, lengths=n_patch)
        valid = valid_mask(n_patch, hidden.shape[1])[..., None]
        mean = hidden.masked_fill(~valid, 0.0).sum(1) / n_patch[:, None]
        return self.head(self.dropout(mean))


def classification(network: nn.Module, batch: SeriesBatch) -> Tensor:
    """The cross entropy of the labels, to fit with."""
    return F.cross_entropy(logits(network, batch), batch.labels)


def logits(network: nn.Module, batch: SeriesBatch) -> Tensor:
    """What a network says of a batch, `[B, n_class]`."""
    scores: Tensor = network(batch.values, batch.lengths)
    return scores
