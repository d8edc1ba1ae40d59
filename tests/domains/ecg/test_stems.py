"""The stem's output and the heads behind a backbone."""

import pytest
import torch
import torch.nn.functional as F
from helixwave.errors import InputError
from helixwave_domains.ecg.heads import BeatHead, ConcatPoolHead, Pool, SignalHead, pooled
from helixwave_domains.ecg.stems import ConvStem
from torch import nn
from torch.testing import assert_close


def test_stem_is_convolutions_and_gelus() -> None:
    stem = ConvStem(3, 4, widths=[5], kernels=[7, 3], strides=[2, 3])
    x = torch.randn(2, 25, 3)
    found, lengths = stem(x, torch.tensor([25, 14]))
    wanted = x[:1].transpose(1, 2)
    for conv in stem.convolutions:
        assert isinstance(conv, nn.Conv1d)
        wanted = F.gelu(F.conv1d(wanted, conv.weight, conv.bias, stride=conv.stride, padding=conv.padding))
    assert_close(found[:1], wanted.transpose(1, 2))
    assert lengths is not None
    assert lengths.tolist() == [5, 3]
    assert stem.stride == 6


@pytest.mark.parametrize(("widths", "kernels", "strides"), [([4], [3], [2]), ([], [3, 3], [2]), ([], [3], [])])
def test_stem_refuses_lists_that_do_not_fit(widths: list[int], kernels: list[int], strides: list[int]) -> None:
    with pytest.raises(InputError, match="expected a kernel and a stride for each convolution"):
        ConvStem(1, 4, widths=widths, kernels=kernels, strides=strides)


@pytest.mark.parametrize("pool", ["mean", "max", "mean_max"])
def test_pooled(pool: Pool) -> None:
    hidden, lengths = torch.randn(3, 6, 4), [1, 4, 6]
    found = pooled(hidden, torch.tensor(lengths), pool)
    for i, length in enumerate(lengths):
        valid = hidden[i, :length]
        parts = {"mean": [valid.mean(0)], "max": [valid.amax(0)], "mean_max": [valid.mean(0), valid.amax(0)]}[pool]
        assert_close(found[i], torch.cat(parts))
    assert_close(pooled(hidden, None, pool), pooled(hidden, torch.tensor([6, 6, 6]), pool))


def test_heads_of_each_sample() -> None:
    hidden = torch.randn(2, 4, 5)
    beat, signal = BeatHead(5, 3, stride=3), SignalHead(5, 3, stride=3)
    of_beats, numbers = beat(hidden, None, 11), signal(hidden, None, 11)
    maps = signal.linear.weight.unflatten(0, (3, 3)), signal.linear.bias.unflatten(0, (3, 3))
    assert of_beats.shape == numbers.shape == (2, 11, 3)
    for t in range(11):
        assert_close(of_beats[:, t], beat.linear(hidden[:, t // 3]))
        assert_close(numbers[:, t], F.linear(hidden[:, t // 3], maps[0][t % 3], maps[1][t % 3]))


def test_head_of_the_benchmark_in_training_with_one_recording() -> None:
    """The last batch of an epoch may hold a single one."""
    outputs = ConcatPoolHead(4, 2).train()(torch.randn(1, 6, 4), None, 6)
    assert outputs.isfinite().all()
