"""The one-dimensional xresnet of the PTB-XL benchmark."""

from typing import Literal

import torch.nn.functional as F
from helixwave.outputs import Predicts
from torch import Tensor, nn

from helixwave_domains.ecg.convolutions import PaddedBatchNorm1d, PaddedConv1d, max_pool, mean_pool, shortened
from helixwave_domains.ecg.heads import ConcatPoolHead
from helixwave_domains.ecg.networks import ECGNetwork

_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_KERNEL, _WIDTH, _EXPANSION = 5, 64, 4
_STEM = (32, 32, _WIDTH)

Padded = tuple[Tensor, Tensor | None]
"""Right-padded signals and how much of each is valid."""


class XResNet1d(ECGNetwork):
    """xresnet1d101 of the PTB-XL benchmark: a residual net of bottlenecks.

    A stem of three convolutions and a maximum over three, four stages of bottlenecks with kernels of 5 and 256 channels
    at their ends, and the benchmark's head. The last norm of each block starts at zero, so that a block starts as its
    shortcut. Batch norm counts valid positions alone, and in evaluation no score depends on padding.

    Source: Strodthoff et al., "Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL", 2020; He et al.,
    "Bag of Tricks for Image Classification with Convolutional Neural Networks", 2018, section 4 (the "x").

    Args:
        classes: names of the outputs.
        predicts: whether these are classes, labels or numbers.
        depth: layers.
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
        depth: Literal[50, 101, 152] = 101,
        channels: int = 12,
        n_lead: int | None = None,
        lead_dropout: float = 0.0,
        dropout: float = 0.5,
    ):
        super().__init__(
            classes=classes, predicts=predicts, channels=channels, n_lead=n_lead, lead_dropout=lead_dropout
        )
        self.embedding = _Stem(channels)
        self.backbone = _Stages(_BLOCKS[depth])
        # each stage but the first halves the length
        self.stride = 2 ** (len(_BLOCKS[depth]) - 1)
        self.head = ConcatPoolHead(_EXPANSION * _WIDTH, len(classes), dropout=dropout)

    def hidden(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Last hidden states `[B, T', C']` and how many are valid: unlike other backbones, this one shortens."""
        hidden, valid = super().hidden(inputs, lengths)
        return hidden, shortened(valid, self.stride)


class _ConvNorm(nn.Module):
    """A convolution without bias and a batch norm."""

    def __init__(self, c_in: int, c_out: int, kernel: int, *, stride: int = 1, starts_at_zero: bool = False):
        super().__init__()
        self.conv = PaddedConv1d(c_in, c_out, kernel, stride=stride, bias=False)
        self.norm = PaddedBatchNorm1d(c_out)
        self.stride = stride
        nn.init.kaiming_normal_(self.conv.weight)
        nn.init.constant_(self.norm.weight, 0.0 if starts_at_zero else 1.0)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Padded:  # [B, C, T] -> [B, C', ceil(T / stride)]
        after = shortened(lengths, self.stride)
        return self.norm(self.conv(x, lengths), after), after


class _Stem(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        sizes = (channels, *_STEM)
        self.layers = nn.ModuleList(
            _ConvNorm(sizes[i], sizes[i + 1], _KERNEL, stride=1 if i else 2) for i in range(len(_STEM))
        )

    def forward(self, inputs: Tensor, lengths: Tensor | None) -> Padded:
        x = inputs.transpose(1, 2)
        for layer in self.layers:
            x, lengths = layer(x, lengths)
            x = F.relu(x)
        return max_pool(x, lengths, 3, stride=2).transpose(1, 2), shortened(lengths, 2)


class _Bottleneck(nn.Module):
    """A narrow convolution between two of width 1, beside a shortcut."""

    def __init__(self, c_in: int, *, stride: int):
        super().__init__()
        c_out = _EXPANSION * _WIDTH
        self.stride = stride
        self.narrow = _ConvNorm(c_in, _WIDTH, 1)
        self.conv = _ConvNorm(_WIDTH, _WIDTH, _KERNEL, stride=stride)
        self.wide = _ConvNorm(_WIDTH, c_out, 1, starts_at_zero=True)
        self.shortcut = _ConvNorm(c_in, c_out, 1) if c_in != c_out else None

    def forward(self, x: Tensor, lengths: Tensor | None) -> Padded:
        y, _ = self.narrow(x, lengths)
        y, after = self.conv(F.relu(y), lengths)
        y, _ = self.wide(F.relu(y), after)
        x = mean_pool(x, lengths, self.stride) if self.stride > 1 else x
        if self.shortcut is not None:
            x, _ = self.shortcut(x, after)
        return F.relu(y + x), after


class _Stages(nn.Module):
    """Stages of bottlenecks; all but the first halve the length."""

    def __init__(self, n_block: tuple[int, ...]):
        super().__init__()
        self.blocks = nn.ModuleList(
            _Bottleneck(_EXPANSION * _WIDTH if i or stage else _STEM[-1], stride=2 if stage and not i else 1)
            for stage, n in enumerate(n_block)
            for i in range(n)
        )

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, None]:
        """`[B, T, C]` -> `[B, ceil(T / 8), C']`, and no state."""
        x = x.transpose(1, 2)
        for block in self.blocks:
            x, lengths = block(x, lengths)
        return x.transpose(1, 2), None
