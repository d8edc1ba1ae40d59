"""Batches as a function of seed and epoch alone, so that a resumed run sees what an uninterrupted one would."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from helixwave.data.source import Batch, Example, Split
from helixwave.data.views import at_epoch
from helixwave.recipe import Batches

IGNORED = -100
"""A class that is not scored."""


def make_loader(split: Split, batches: Batches, *, seed: int, epoch: int | None = None) -> DataLoader[Batch]:
    """Batches of a split.

    Args:
        batches: size or tokens of a batch.
        seed: decides order and augmentation together with the epoch.
        epoch: None: in order and as they are, for evaluation.
    """
    split = split if epoch is None else at_epoch(split, epoch)
    return DataLoader(
        _Drawn(split, seed, epoch),
        batch_sampler=_batches(split, batches, seed, epoch),
        collate_fn=_Collate(split.padding),
        num_workers=batches.workers,
    )


class _Drawn(Dataset[Any]):
    """The examples of one epoch: each has its own random stream."""

    def __init__(self, split: Split, seed: int, epoch: int | None):
        self.split, self.seed, self.epoch = split, seed, epoch

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> Example:
        rng = None if self.epoch is None else np.random.default_rng((self.seed, self.epoch, index))
        return self.split.example(index, rng)


class _Collate:
    def __init__(self, padding: int | float):
        self.padding = padding

    def __call__(self, examples: Sequence[Example]) -> Batch:
        lengths = torch.tensor([len(example["inputs"]) for example in examples])
        targets = [torch.as_tensor(example["target"]) for example in examples]
        return {
            "inputs": _pad([torch.as_tensor(example["inputs"]) for example in examples], self.padding),
            "lengths": lengths,
            "target": _pad_targets(targets),
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
