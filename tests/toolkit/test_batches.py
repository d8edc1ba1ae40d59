from itertools import pairwise

import numpy as np
import pytest
import torch
from helixwave.data import make_loader
from helixwave.data.batches import IGNORED
from helixwave.recipe import Batches
from hypothesis import given, settings
from hypothesis import strategies as st

FORMS = [Batches(size=4), Batches(tokens=40), Batches(size=100), Batches(tokens=1)]
LENGTHS = [7, 3, 12, 3, 9, 1, 12, 45, 5, 2, 8, 3, 30]


class Numbers:
    """Example `i` is its number, repeated; in training with a random one at its end."""

    padding = -7

    def __init__(self, lengths, *, per_position=True):
        self.lengths, self.per_position = lengths, per_position

    def __len__(self):
        return len(self.lengths)

    def length(self, index):
        return self.lengths[index]

    def example(self, index, rng):
        inputs = np.full(self.lengths[index], index)
        if rng is not None:
            inputs[-1] = rng.integers(1000, 2000)
        return {"inputs": inputs, "target": inputs % 5 if self.per_position else index}


def draw(split, batches, *, seed=0, epoch=None):
    return list(make_loader(split, batches, seed=seed, epoch=epoch))


def numbers(batches):
    return [batch["target"].tolist() for batch in batches]


def flat(batches):
    return [number for batch in numbers(batches) for number in batch]


def same(first, second):
    return len(first) == len(second) and all(
        torch.as_tensor(a[key]).equal(torch.as_tensor(b[key])) for a, b in zip(first, second, strict=True) for key in a
    )


@pytest.mark.parametrize("batches", FORMS, ids=str)
def test_batches_follow_from_seed_and_epoch(batches):
    split = Numbers(LENGTHS)
    first = draw(split, batches, seed=1, epoch=2)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    assert same(first, draw(split, batches, seed=1, epoch=2))
    assert not same(first, draw(split, batches, seed=1, epoch=3))
    assert not same(first, draw(split, batches, seed=2, epoch=2))


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=25),
    size=st.integers(1, 8),
    tokens=st.none() | st.integers(1, 70),
    epoch=st.none() | st.integers(0, 9),
)
def test_each_example_comes_once(lengths, size, tokens, epoch):
    drawn = draw(Numbers(lengths, per_position=False), Batches(size=size, tokens=tokens), epoch=epoch)
    assert sorted(flat(drawn)) == list(range(len(lengths)))
    for batch in drawn:
        assert batch["lengths"].tolist() == [lengths[i] for i in batch["target"]]
        if tokens is None:
            assert len(batch["lengths"]) <= size
        else:
            assert batch["inputs"].numel() <= tokens or len(batch["lengths"]) == 1


@pytest.mark.parametrize("tokens", [9, 24, 40])
def test_batches_of_tokens_are_full(tokens):
    """The next in length would not have fitted in."""
    drawn = draw(Numbers([*LENGTHS, 3, 3, 8, 8]), Batches(tokens=tokens))
    assert any(batch["inputs"].numel() == tokens for batch in drawn)
    for batch, following in pairwise(drawn):
        assert (len(batch["lengths"]) + 1) * following["lengths"].min() > tokens


@pytest.mark.parametrize("epoch", [None, 4])
def test_padding_is_on_the_right_and_not_scored(epoch):
    split = Numbers(LENGTHS)
    for batch in draw(split, Batches(size=5), epoch=epoch):
        T = int(batch["lengths"].max())
        assert batch["inputs"].shape == batch["target"].shape == (len(batch["lengths"]), T)
        behind = torch.arange(T) >= batch["lengths"][:, None]
        assert (batch["inputs"][behind] == split.padding).all()
        assert (batch["target"][behind] == IGNORED).all()
        assert (batch["inputs"][~behind] >= 0).all()
        assert (batch["target"][~behind] == batch["inputs"][~behind] % 5).all()


def test_evaluation_is_in_order_and_as_it_is():
    drawn = draw(Numbers(LENGTHS, per_position=False), Batches(size=5))
    assert numbers(drawn) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12]]
    assert all((batch["inputs"].max(1).values == batch["target"]).all() for batch in drawn)
    by_length = flat(draw(Numbers(LENGTHS, per_position=False), Batches(tokens=40)))
    assert by_length == sorted(range(len(LENGTHS)), key=LENGTHS.__getitem__)


def test_training_is_in_another_order():
    drawn = flat(draw(Numbers(LENGTHS, per_position=False), Batches(size=5), epoch=0))
    assert drawn != sorted(drawn)


def last_numbers(batches, epoch):
    """By example, what was drawn at its end."""
    drawn = {}
    for batch in draw(Numbers(LENGTHS, per_position=False), batches, seed=3, epoch=epoch):
        ends = batch["inputs"].gather(1, batch["lengths"][:, None] - 1)[:, 0]
        drawn.update(zip(batch["target"].tolist(), ends.tolist(), strict=True))
    return drawn


def test_random_stream_belongs_to_the_example_and_the_epoch():
    first = last_numbers(Batches(size=3), 1)
    assert last_numbers(Batches(tokens=30), 1) == first
    other = last_numbers(Batches(size=3), 2)
    assert sum(first[i] == other[i] for i in first) <= 1


def test_signals_have_channels():
    class Signals(Numbers):
        def example(self, index, rng):
            return {"inputs": np.full((self.lengths[index], 2), 0.5, dtype=np.float32), "target": 1.5}

    (batch,) = draw(Signals([3, 1]), Batches())
    assert batch["inputs"].tolist() == [[[0.5, 0.5]] * 3, [[0.5, 0.5], [-7, -7], [-7, -7]]]
    assert batch["target"].tolist() == [1.5, 1.5]


# torch warns where there are fewer cores than workers
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_change_nothing():
    split = Numbers(LENGTHS)
    alone = draw(split, Batches(size=4), seed=1, epoch=2)
    assert same(alone, draw(split, Batches(size=4, workers=2), seed=1, epoch=2))
