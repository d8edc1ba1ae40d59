"""The one-dimensional inception net of the PTB-XL benchmark."""

import torch
import torch.nn.functional as F
from helixwave.outputs import Predicts
from torch import Tensor, nn

from helixwave_domains.ecg.convolutions import PaddedBatchNorm1d, PaddedConv1d, max_pool
from helixwave_domains.ecg.heads import ConcatPoolHead
from helixwave_domains.ecg.networks import ECGNetwork

_KERNELS, _WIDTH = (39, 19, 9), 32
_OUT = _WIDTH * (len(_KERNELS) + 1)
_EACH = 3  # blocks to a shortcut


class Inception1d(ECGNetwork):
    """inception1d of the PTB-XL benchmark: convolutions of three widths and a pool side by side.

    Each block maps to 32 channels, convolves them with kernels of 39, 19 and 9 samples, puts a maximum over three
    samples beside, and norms the 128 channels; a shortcut spans three blocks; then the benchmark's head. The length
    stays that of the signal. Batch norm counts valid positions alone, and in evaluation no score depends on padding.

    Source: Strodthoff et al., "Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL", 2020; Ismail
    Fawaz et al., "InceptionTime", 2019, section 3.

    Args:
        classes: names of the outputs.
        predicts: whether these are classes, labels or numbers.
        n_layer: blocks.
        channels: of the inputs.
        n_lead: how many of them, from the first, are leads that may be missing; null: all.
        lead_dropout: in training, the probability with which a lead is missing, see `LeadDropout`.
        dropout: before the last linear layer, half of it before the one in front.
    """

    def __init__(
        self,
        *,
        classes: list[str],
        predicts: Predicts = "class",
        n_layer: int = 6,
        channels: int = 12,
        n_lead: int | None = None,
        lead_dropout: float = 0.0,
        dropout: float = 0.5,
    ):
        super().__init__(
            classes=classes, predicts=predicts, channels=channels, n_lead=n_lead, lead_dropout=lead_dropout
        )
        self.embedding = _Signal()
        self.backbone = _Blocks(channels, n_layer)
        self.head = ConcatPoolHead(_OUT, len(classes), dropout=dropout)


class _Signal(nn.Module):
    """The signal as it is: the first shortcut begins there."""

    def forward(self, inputs: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return inputs, lengths


class _Block(nn.Module):
    def __init__(self, c_in: int):
        super().__init__()
        self.bottleneck = PaddedConv1d(c_in, _WIDTH, 1, bias=False)
        self.convolutions = nn.ModuleList(PaddedConv1d(_WIDTH, _WIDTH, kernel, bias=False) for kernel in _KERNELS)
        self.behind_pool = PaddedConv1d(c_in, _WIDTH, 1, bias=False)
        self.norm = PaddedBatchNorm1d(_OUT)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:  # [B, C, T] -> [B, C', T]
        narrow = self.bottleneck(x, lengths)
        parts = [convolution(narrow, lengths) for convolution in self.convolutions]
        parts.append(self.behind_pool(max_pool(x, lengths, 3), lengths))
        return F.relu(self.norm(torch.cat(parts, dim=1), lengths))


class _Shortcut(nn.Module):
    def __init__(self, c_in: int):
        super().__init__()
        self.conv = PaddedConv1d(c_in, _OUT, 1, bias=False)
        self.norm = PaddedBatchNorm1d(_OUT)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        return self.norm(self.conv(x, lengths), lengths)


class _Blocks(nn.Module):
    def __init__(self, channels: int, n_layer: int):
        super().__init__()
        self.blocks = nn.ModuleList(_Block(_OUT if i else channels) for i in range(n_layer))
        self.shortcuts = nn.ModuleList(_Shortcut(_OUT if i else channels) for i in range(n_layer // _EACH))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, None]:
        """`[B, T, C]` -> `[B, T, C']`, and no state."""
        x = before = x.transpose(1, 2)
        for i, block in enumerate(self.blocks):
            x = block(x, lengths)
            if i % _EACH == _EACH - 1:
                x = before = F.relu(x + self.shortcuts[i // _EACH](before, lengths))
        return x.transpose(1, 2), None
