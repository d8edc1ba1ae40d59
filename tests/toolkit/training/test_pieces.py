"""Pieces of training sequences: every position once an epoch, as many in each step, the same again when resumed."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from helixwave.data.batches import IGNORED, Draw, load_draws
from helixwave.data.source import Example
from helixwave.errors import InputError
from helixwave.recipe import Batches
from helixwave.training.pieces import PiecePlan
from helixwave.training.settings import LengthBuckets, LengthWarmup

WARMUP, BUCKETS = LengthWarmup(16), LengthBuckets(least=8, most=64)
FORMS: dict[str, dict[str, Any]] = {
    "warmup": {"warmup": WARMUP},
    "buckets": {"buckets": BUCKETS},
    "whole buckets": {"buckets": LengthBuckets(least=8)},
    "both": {"warmup": LengthWarmup(16, share=0.4), "buckets": LengthBuckets(least=8, cycles=2)},
}
TOKENS, EPOCHS = 256, 3
RAGGED = np.random.default_rng(0).integers(1, 200, 60).tolist()


class Counting:
    """Example `i` counts its positions from `1000 i`; classes are the same numbers."""

    padding = -1

    def __init__(self, lengths: list[int]):
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def length(self, index: int) -> int:
        return self.lengths[index]

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        inputs = 1000 * index + np.arange(self.lengths[index])
        return {"inputs": inputs, "target": inputs.copy()}


def plan(lengths: list[int], seed: int = 0, **form: Any) -> PiecePlan:
    return PiecePlan(Counting(lengths), tokens=TOKENS, epochs=EPOCHS, seed=seed, **form)


def epochs(made: PiecePlan) -> list[list[list[Draw]]]:
    return [made.batches(epoch) for epoch in range(EPOCHS)]


def size(piece: Draw) -> int:
    assert piece.stop is not None
    return piece.stop - piece.start


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_position_is_scored_once_an_epoch(form: dict[str, Any]) -> None:
    seen: Counter[tuple[int | None, int]] = Counter()
    split = Counting(RAGGED)
    for batches in epochs(plan(RAGGED, **form)):
        for draws, batch in zip(batches, load_draws([split], batches, Batches(), seed=0), strict=True):
            for draw, target in zip(draws, batch["target"].tolist(), strict=True):
                seen.update((draw.epoch, number) for number in target if number != IGNORED)
    assert set(seen.values()) == {1}
    assert len(seen) == EPOCHS * sum(RAGGED)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("lengths", [RAGGED, [64] * 32], ids=["ragged", "even"])
def test_steps_have_as_many_positions(lengths: list[int], form: dict[str, Any]) -> None:
    steps = [batch for batches in epochs(plan(lengths, **form)) for batch in batches]
    sums = [sum(map(size, batch)) for batch in steps]
    padded = [max(map(size, batch)) * len(batch) for batch in steps]
    assert max(padded) <= TOKENS
    if "buckets" in form:
        assert padded == sums, "no padding"
    if lengths is not RAGGED or "buckets" in form:
        # sequences shorter than a piece fill a step with fewer positions than one of them has
        full = [TOKENS - TOKENS % size(batch[0]) for batch in steps]
        short = [i for i in range(len(steps)) if sums[i] < full[i]]
        n_length = len({size(batch[0]) for batch in steps})
        assert short == [*range(len(steps) - len(short), len(steps))], "the rest comes last"
        assert len(short) <= n_length
        assert len(set(lengths)) > 1 or "buckets" in form or not short


@pytest.mark.parametrize("form", [FORMS["buckets"], FORMS["both"]])
def test_buckets_hold_one_power_of_two(form: dict[str, Any]) -> None:
    for batch in (batch for batches in epochs(plan(RAGGED, **form)) for batch in batches):
        (length,) = set(map(size, batch))
        assert length & (length - 1) == 0 or length < 8
        assert all(RAGGED[draw.example] == length for draw in batch if length < 8)


def test_the_length_doubles_with_the_positions_seen() -> None:
    steps = [batch for batches in epochs(plan([128] * 24, warmup=WARMUP)) for batch in batches]
    lengths = [size(batch[0]) for batch in steps]
    assert lengths == sorted(lengths)
    assert sorted(set(lengths)) == [16, 32, 64, 128]
    # whole from half of the run on, up to the example during which the length grows
    assert lengths.index(128) == pytest.approx(len(lengths) / 2, abs=2)


def test_a_curriculum_shows_short_pieces_first() -> None:
    def mean_place(curriculum: float) -> float:
        made = PiecePlan(
            Counting([192] * 40),
            tokens=TOKENS,
            epochs=1,
            seed=0,
            buckets=LengthBuckets(least=8, curriculum=curriculum),
        )
        lengths = [size(batch[0]) for batch in made.batches(0)]
        return float(np.mean([i for i, length in enumerate(lengths) if length == 64])) / len(lengths)

    assert mean_place(1) == pytest.approx(0.5, abs=0.2)
    assert mean_place(64) < 0.25


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_plan_follows_from_the_seed(form: dict[str, Any]) -> None:
    first = epochs(plan(RAGGED, **form))
    again = plan(RAGGED, **form)
    assert again.n_step == sum(map(len, first))
    assert [again.batches(epoch) for epoch in (2, 0, 1)] == [first[2], first[0], first[1]]
    assert epochs(plan(RAGGED, seed=1, **form)) != first


def test_pieces_of_an_example_are_augmented_alike() -> None:
    class Shifted(Counting):
        def example(self, index: int, rng: np.random.Generator | None) -> Example:
            assert rng is not None
            shift = rng.integers(10**6)
            return {"inputs": shift + np.arange(self.lengths[index]), "target": 0}

    split = Shifted([64])
    whole, *pieces = (Draw(0, 5, start, stop) for start, stop in ((0, 64), (0, 32), (32, 64)))
    (all_of_it,) = load_draws([split], [[whole]], Batches(), seed=3)
    (halves,) = load_draws([split], [pieces], Batches(), seed=3)
    assert halves["inputs"].flatten().equal(all_of_it["inputs"].flatten())
    assert halves["target"].tolist() == [0, 0], "the label of the whole"


@pytest.mark.parametrize(
    ("form", "lengths", "message"),
    [
        ({"buckets": LengthBuckets()}, [600], "a piece has 512 positions, a step 256. Set batches.tokens to that"),
        ({"warmup": LengthWarmup(4), "buckets": LengthBuckets(least=8)}, [64], "start is 4, expected a power of two"),
        ({"buckets": LengthBuckets(least=64)}, [64], "fill no step of 256 positions"),
    ],
)
def test_what_cannot_be_cut(form: dict[str, Any], lengths: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        epochs(plan(lengths, **form))
