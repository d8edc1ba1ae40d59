"""inception1d of the PTB-XL benchmark: its size and its shapes."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helixwave_domains.ecg.inception import Inception1d
from torch.testing import assert_close


def count(channels: int, n_class: int) -> int:
    """Parameters from the benchmark's formulas: convolutions without bias, two numbers for each channel of a norm."""
    n = 0
    for block in range(6):
        c_in = channels if block == 0 else 128
        n += c_in * 32 + 32 * 32 * (39 + 19 + 9) + c_in * 32 + 2 * 128
    for c_in in (channels, 128):
        n += c_in * 128 + 2 * 128
    return n + 2 * 256 + (256 * 128 + 128) + 2 * 128 + (128 * n_class + n_class)


@pytest.mark.parametrize(("channels", "n_class"), [(1, 2), (12, 71)])
def test_parameters(channels: int, n_class: int) -> None:
    model = Inception1d(classes=[str(i) for i in range(n_class)], channels=channels)
    assert sum(p.numel() for p in model.parameters()) == count(channels, n_class)


def test_blocks_and_shortcuts() -> None:
    """Three blocks and the shortcut over them, written out."""
    model: Any = Inception1d(classes=["a", "b"], channels=2, n_layer=3).eval()
    signal = torch.randn(1, 30, 2)
    x = signal.transpose(1, 2)
    for block in model.backbone.blocks:
        narrow = F.conv1d(x, block.bottleneck.weight)
        parts = [F.conv1d(narrow, conv.weight, padding="same") for conv in block.convolutions]
        parts.append(F.conv1d(F.max_pool1d(x, 3, 1, 1), block.behind_pool.weight))
        x = F.relu(block.norm(torch.cat(parts, dim=1)))
    shortcut = model.backbone.shortcuts[0]
    x = F.relu(x + shortcut.norm(F.conv1d(signal.transpose(1, 2), shortcut.conv.weight)))
    assert_close(model.hidden(signal)[0], x.transpose(1, 2))
