"""Convolutions and a bidirectional Mamba with a class token in the middle."""

import math
from typing import ClassVar

import torch
from helixwave.backbone import Backbone
from helixwave.blocks.bimamba import BiMamba
from helixwave.errors import InputError
from helixwave.outputs import Predicts
from torch import Tensor, nn

from helixwave_domains.ecg.networks import ECGNetwork
from helixwave_domains.ecg.stems import ConvStem


class ECGMamba(ECGNetwork):
    """Our reconstruction of 1DCNN-ECG-Mamba: strided convolutions, then Vision Mamba blocks, read at a class token.

    The paper gives the outline: a one-dimensional convolutional net, the bidirectional blocks of Vision Mamba, a head
    for several labels. Sizes, stem and the number of positions are ours, the rest is Vision Mamba's: root mean square
    norms before blocks that read both ways between shared projections, a class token in the middle of the sequence,
    positions that are learnt, `out_proj` divided by the root of the number of blocks at the start.

    Source: "1DCNN-ECG-Mamba", arXiv 2510.13046, 2025; Zhu et al., "Vision Mamba", 2024, section 3 and its code.

    Args:
        classes: names of the outputs.
        predicts: whether these are classes, labels or numbers.
        d_model: channels.
        n_layer: blocks.
        d_state, d_conv, expand: of each, see the block `bimamba`.
        max_length: samples of the longest input that there are positions for. A shorter one has the first of them.
        drop_path: in training, the share of examples for which the last block is skipped, less for those before.
        channels: of the inputs.
        n_lead: how many of them, from the first, are leads that may be missing; null: all.
        lead_dropout: in training, the probability with which a lead is missing, see `LeadDropout`.
        widths, kernels, strides: of the stem's convolutions, see `ConvStem`.
        dropout: before the head.
    """

    reading = (*ECGNetwork.reading, "widths", "kernels", "strides", "max_length")

    def __init__(
        self,
        *,
        classes: list[str],
        predicts: Predicts = "class",
        d_model: int = 128,
        n_layer: int = 4,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        max_length: int = 5000,
        drop_path: float = 0.1,
        channels: int = 12,
        n_lead: int | None = None,
        lead_dropout: float = 0.0,
        widths: list[int] | None = None,
        kernels: list[int] | None = None,
        strides: list[int] | None = None,
        dropout: float = 0.0,
    ):
        super().__init__(
            classes=classes, predicts=predicts, channels=channels, n_lead=n_lead, lead_dropout=lead_dropout
        )
        self.widths = [64, 128] if widths is None else widths
        self.kernels, self.strides, self.max_length = kernels or [15, 7, 5], strides or [2, 2, 2], max_length
        stem = ConvStem(channels, d_model, widths=self.widths, kernels=self.kernels, strides=self.strides)
        block = {"name": "bimamba", "combine": "mean", "d_state": d_state, "d_conv": d_conv, "expand": expand}
        self.embedding = _WithClassToken(stem, d_model, max_length)
        self.backbone = Backbone(d_model, n_layer=n_layer, blocks=[block], drop_path=drop_path)
        self.head = _ClassTokenHead(d_model, len(classes), dropout)
        with torch.no_grad():
            for mixer in self.backbone.blocks:
                assert isinstance(mixer, BiMamba)
                mixer.mamba_fwd.out_proj.weight.div_(math.sqrt(n_layer))


class _WithClassToken(nn.Module):
    """A stem's positions with a learnt token in the middle of the valid ones and a learnt vector added to each."""

    optimisation: ClassVar[dict[str, dict[str, float]]] = {"positions": {"weight_decay": 0.0}}

    def __init__(self, stem: ConvStem, d_model: int, max_length: int):
        super().__init__()
        if max_length < 1:
            raise InputError(f"model: max_length is {max_length}, expected at least 1 sample")
        self.stem, self.max_length = stem, max_length
        self.token = nn.Parameter(torch.empty(d_model))
        self.positions = nn.Parameter(torch.empty(-(-max_length // stem.stride) + 1, d_model))
        for parameter in (self.token, self.positions):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, inputs: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if inputs.shape[1] > self.max_length:
            raise InputError(
                f"this model has positions for {self.max_length} samples, an input has {inputs.shape[1]}. Give shorter "
                "windows, or train with model.max_length"
            )
        x, lengths = self.stem(inputs, lengths)
        valid = None if lengths is None else lengths + 1
        middle = _middle(x.shape[0], x.shape[1] + 1, valid, x.device)[:, None, None]
        place = torch.arange(x.shape[1] + 1, device=x.device)[:, None]
        before, behind = torch.cat([x, x[:, -1:]], dim=1), torch.cat([x[:, :1], x], dim=1)
        x = torch.where(place < middle, before, torch.where(place == middle, self.token.to(x.dtype), behind))
        return x + self.positions[: x.shape[1]], valid


class _ClassTokenHead(nn.Module):
    def __init__(self, d_model: int, n_class: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(d_model, n_class)

    def forward(self, hidden: Tensor, lengths: Tensor | None, T: int) -> Tensor:
        """`[B, T', D]` -> `[B, n_class]`."""
        return self.linear(self.dropout(self.pooled(hidden, lengths)))

    def pooled(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """The class token."""
        (B, T), device = hidden.shape[:2], hidden.device
        return hidden[torch.arange(B, device=device), _middle(B, T, lengths, device)]


def _middle(B: int, T: int, lengths: Tensor | None, device: torch.device) -> Tensor:
    """Where the class token stands `[B]`: in the middle of the valid positions, itself included."""
    lengths = torch.full((B,), T, device=device) if lengths is None else lengths
    return (lengths - 1) // 2
