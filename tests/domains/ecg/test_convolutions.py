"""Padded convolutions, norms and pools equal the plain ones on each signal alone."""

import pytest
import torch
import torch.nn.functional as F
from helixwave.errors import InputError
from helixwave_domains.ecg.convolutions import PaddedBatchNorm1d, PaddedConv1d, max_pool, mean_pool, shortened
from torch import Tensor, nn
from torch.testing import assert_close

LENGTHS = [1, 4, 9, 10]


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(4, 3, 12, generator=torch.Generator().manual_seed(0)), torch.tensor(LENGTHS)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_convolution_is_centred_and_ends_with_the_signal(stride: int) -> None:
    x, lengths = batch()
    conv = PaddedConv1d(3, 2, 5, stride=stride)
    assert conv.bias is not None
    found, after = conv(x, lengths), shortened(lengths, stride)
    assert after is not None
    for i, length in enumerate(LENGTHS):
        surrounded = F.pad(x[i, :, :length], (2, 2))
        for j in range(int(after[i])):
            window = surrounded[:, stride * j : stride * j + 5]
            assert_close(found[i, :, j], (conv.weight * window).sum((1, 2)) + conv.bias)
        assert stride * int(after[i]) >= length > stride * (int(after[i]) - 1)


def test_batch_norm_counts_valid_positions_alone() -> None:
    x, lengths = batch()
    ours, plain = PaddedBatchNorm1d(3), nn.BatchNorm1d(3)
    positions = torch.cat([x[i, :, :length].T for i, length in enumerate(LENGTHS)])
    found, wanted = ours(x, lengths), plain(positions)
    assert_close(torch.cat([found[i, :, :length].T for i, length in enumerate(LENGTHS)]), wanted)
    assert_close(ours.state_dict(), plain.state_dict())


def test_a_single_position_is_normed_with_the_running_statistics() -> None:
    x = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
    for given, lengths in ((x, None), (x[..., None].expand(1, 3, 4), torch.tensor([1]))):
        norm = PaddedBatchNorm1d(3)
        found = norm(given, lengths)
        assert_close(found, norm.eval()(given))


@pytest.mark.parametrize("padded", [True, False])
def test_pools(padded: bool) -> None:
    x, lengths = batch()
    valid = LENGTHS if padded else [12] * 4
    given = lengths if padded else None
    means, highest = mean_pool(x, given, 2), max_pool(x, given, 3, 2)
    for i, length in enumerate(valid):
        for j, start in enumerate(range(0, length, 2)):
            assert_close(means[i, :, j], x[i, :, start : min(start + 2, length)].mean(1))
            assert_close(highest[i, :, j], x[i, :, max(start - 1, 0) : min(start + 2, length)].amax(1))


def test_errors() -> None:
    with pytest.raises(InputError, match="kernel is 4, expected an odd number"):
        PaddedConv1d(1, 1, 4)
    with pytest.raises(InputError, match="stride is 0, expected at least 1"):
        PaddedConv1d(1, 1, 3, stride=0)
