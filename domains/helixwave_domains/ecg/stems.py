"""From a signal to a shorter sequence of wider vectors."""

import math

import torch.nn.functional as F
from helixwave.errors import InputError
from torch import Tensor, nn

from helixwave_domains.ecg.convolutions import PaddedConv1d, shortened


class ConvStem(nn.Module):
    """Strided convolutions, each with a GELU behind it.

    There is no norm. Batch norm would read a record otherwise in training than after it, and by what else is in the
    batch; a norm over the channels of each position would make noise between two waves as large as a wave, whose size
    says something. The norms of the backbone come behind it.

    Args:
        channels: of the signal.
        d_model: of the output.
        widths: channels of all convolutions but the last.
        kernels: of each convolution, odd.
        strides: of each; their product is the number of samples to a position.

    Raises:
        InputError: lists of lengths that do not fit.
    """

    def __init__(self, channels: int, d_model: int, *, widths: list[int], kernels: list[int], strides: list[int]):
        super().__init__()
        if not len(widths) + 1 == len(kernels) == len(strides):
            raise InputError(
                f"model: {len(widths)} widths, {len(kernels)} kernels and {len(strides)} strides; expected a kernel "
                "and a stride for each convolution, a width for each but the last"
            )
        sizes = [channels, *widths, d_model]
        self.convolutions = nn.ModuleList(
            PaddedConv1d(c_in, c_out, kernel, stride=stride)
            for c_in, c_out, kernel, stride in zip(sizes[:-1], sizes[1:], kernels, strides, strict=True)
        )
        self.strides, self.stride = strides, math.prod(strides)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """`[B, T, C]` -> `[B, ceil(T / stride), D]`, and how many positions of each are valid."""
        x = inputs.transpose(1, 2)
        for convolution, stride in zip(self.convolutions, self.strides, strict=True):
            x = F.gelu(convolution(x, lengths))
            lengths = shortened(lengths, stride)
        return x.transpose(1, 2), lengths
