"""Batches as a function of seed and epoch alone, so that a resumed run sees what an uninterrupted one would."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from helixwave.data.source import Batch, Example, Split
from helixwave.recipe import Batches

IGNORED = -100
"""A class that is not scored."""

# bytes of inputs whose pieces are cut without making the example again
_RECENT = 1 << 28


class Draw(NamedTuple):
    """What a batch asks for: an example of a split, or a piece of one.

    Args:
        example: its number.
        epoch: which decides its augmentation, with the seed; None: as it is, for evaluation.
        start, stop: the piece; None: to the end.
        scored: the first position of the piece that is scored, where there are targets for each.
        objective: the number of the split that it comes from.
    """

    example: int
    epoch: int | None = None
    start: int = 0
    stop: int | None = None
    scored: int = 0
    objective: int = 0


def make_loader(
    split: Split, batches: Batches, *, seed: int, epoch: int | None = None, objective: int = 0
) -> DataLoader[Batch]:
    """Batches of a split.

    Args:
        batches: size or tokens of a batch.
        seed: decides order and augmentation together with the epoch.
        epoch: None: in order and as they are, for evaluation.
        objective: the number of the objective that learns from them.
    """
    return load_draws(
        [split], draw_batches(split, batches, seed=seed, epoch=epoch), batches, seed=seed, first=objective
    )


def load_draws(
    splits: Sequence[Split], drawn: list[list[Draw]], batches: Batches, *, seed: int, first: int = 0
) -> DataLoader[Batch]:
    """The batches that `drawn` asks for, of splits that show the same examples, each to one objective.

    Args:
        first: the number of the first one's objective.
    """
    return DataLoader(
        _Drawn(splits, seed),
        batch_sampler=drawn,
        collate_fn=_Collate([split.padding for split in splits], first),
        num_workers=batches.workers,
    )


def draw_batches(split: Split, batches: Batches, *, seed: int, epoch: int | None) -> list[list[Draw]]:
    """Every example of a split once, in the order of an epoch."""
    return [[Draw(index, epoch) for index in batch] for batch in _batches(split, batches, seed, epoch)]


class _Drawn(Dataset[Any]):
    """Examples by what was drawn: each has its own random stream, whatever piece of it is asked for."""

    def __init__(self, splits: Sequence[Split], seed: int):
        self.splits, self.seed, self.recent = splits, seed, _Recent(_RECENT)

    def __len__(self) -> int:
        return len(self.splits[0])

    def __getitem__(self, draw: Draw) -> tuple[int, Example]:
        if draw.stop is None:
            return draw.objective, self._whole(draw)
        # its other pieces are asked for soon
        whole = draw._replace(start=0, stop=None, scored=0)
        return draw.objective, _piece(self.recent.get(whole, lambda: self._whole(whole)), draw)

    def _whole(self, draw: Draw) -> Example:
        rng = None if draw.epoch is None else np.random.default_rng((self.seed, draw.epoch, draw.example))
        return self.splits[draw.objective].example(draw.example, rng)


class _Recent:
    """The examples that were made last, up to so many bytes of inputs."""

    def __init__(self, limit: int):
        self.limit, self.size = limit, 0
        self.examples: dict[Draw, Example] = {}

    def get(self, draw: Draw, make: Callable[[], Example]) -> Example:
        if draw not in self.examples:
            self.examples[draw] = example = make()
            self.size += example["inputs"].nbytes
            while self.size > self.limit and len(self.examples) > 1:
                oldest = self.examples.pop(next(iter(self.examples)))
                self.size -= oldest["inputs"].nbytes
        return self.examples[draw]


def _piece(example: Example, draw: Draw) -> Example:
    """The positions that were drawn; a target for the whole sequence stays."""
    length = len(example["inputs"])
    if draw.start == 0 and draw.stop in (None, length):
        return example
    inputs, target = example["inputs"][draw.start : draw.stop], np.asarray(example["target"])
    numbers = np.issubdtype(target.dtype, np.floating)
    # classes `[T]`, labels or numbers `[T, n]`: anything else is for the whole
    if target.ndim < 1 + numbers or len(target) != length:
        return {**example, "inputs": inputs}
    target = target[draw.start : draw.stop].copy()
    target[: draw.scored] = math.nan if numbers else IGNORED
    return {**example, "inputs": inputs, "target": target}


class _Collate:
    def __init__(self, paddings: list[int | float], first: int):
        self.paddings, self.first = paddings, first

    def __call__(self, drawn: Sequence[tuple[int, Example]]) -> Batch:
        objective, examples = drawn[0][0], [example for _, example in drawn]
        lengths = torch.tensor([len(example["inputs"]) for example in examples])
        targets = [torch.as_tensor(example["target"]) for example in examples]
        return {
            "inputs": _pad([torch.as_tensor(example["inputs"]) for example in examples], self.paddings[objective]),
            "lengths": lengths,
            "target": _pad_targets(targets),
            "objective": self.first + objective,
        }


def _pad_targets(targets: list[Tensor]) -> Tensor:
    if targets[0].ndim == 0:
        return torch.stack(targets)
    return _pad(targets, math.nan if targets[0].is_floating_point() else IGNORED)


def _pad(sequences: list[Tensor], value: int | float) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=value)


def _batches(split: Split, batches: Batches, seed: int, epoch: int | None) -> list[list[int]]:
    order = np.arange(len(split))
    rng = None if epoch is None else np.random.default_rng((seed, epoch))
    if rng is not None:
        rng.shuffle(order)
    if batches.tokens is None:
        return [order[i : i + batches.size].tolist() for i in range(0, len(order), batches.size)]
    buckets = list(_by_tokens(split, order, batches.tokens))
    if rng is not None:
        rng.shuffle(buckets)
    return buckets


def _by_tokens(split: Split, order: np.ndarray, tokens: int) -> Iterator[list[int]]:
    """Neighbours in length, as many as fit into `tokens` positions with their padding; a longer one goes alone."""
    lengths = np.array([split.length(int(i)) for i in order])
    batch: list[int] = []
    for position in np.argsort(lengths, kind="stable"):
        # sorted by length, so that the newcomer is the longest and sets the padded length of all
        if batch and (len(batch) + 1) * lengths[position] > tokens:
            yield batch
            batch = []
        batch.append(int(order[position]))
    if batch:
        yield batch
