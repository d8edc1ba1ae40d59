"""xresnet1d of the PTB-XL benchmark: its size, its start and its shapes."""

import pytest
import torch
from helixwave_domains.ecg.xresnet import XResNet1d


def count(depth: int, channels: int, n_class: int) -> int:
    """Parameters from the benchmark's formulas: convolutions without bias, two numbers for each channel of a norm."""

    def conv_norm(c_in: int, c_out: int, kernel: int) -> int:
        return c_in * c_out * kernel + 2 * c_out

    n = conv_norm(channels, 32, 5) + conv_norm(32, 32, 5) + conv_norm(32, 64, 5)
    c_in = 64
    for _ in range({50: 3 + 4 + 6 + 3, 101: 3 + 4 + 23 + 3}[depth]):
        n += conv_norm(c_in, 64, 1) + conv_norm(64, 64, 5) + conv_norm(64, 256, 1)
        n += conv_norm(c_in, 256, 1) if c_in != 256 else 0
        c_in = 256
    return n + 2 * 512 + (512 * 128 + 128) + 2 * 128 + (128 * n_class + n_class)


@pytest.mark.parametrize(("depth", "channels", "n_class"), [(50, 1, 2), (101, 12, 71)])
def test_parameters(depth: int, channels: int, n_class: int) -> None:
    model = XResNet1d(classes=[str(i) for i in range(n_class)], channels=channels, depth=depth)  # type: ignore[arg-type]
    assert sum(p.numel() for p in model.parameters()) == count(depth, channels, n_class)


def test_a_block_starts_as_its_shortcut_and_the_length_is_divided_by_32() -> None:
    model = XResNet1d(classes=["a", "b"], channels=2, depth=50).eval()
    x, _ = model.embedding(torch.randn(1, 250, 2), None)
    hidden, _ = model.backbone(x)
    assert x.shape == (1, 63, 64)
    assert hidden.shape == (1, 8, 256)
    blocks = model.backbone.blocks
    assert all((block.wide.norm.weight == 0).all() for block in blocks)  # type: ignore[union-attr]
    given = torch.rand(1, 256, 9)
    assert torch.equal(blocks[1](given, None)[0], given)  # type: ignore[operator, index]
