"""What tasks that are drawn from a seed have in common: splits that share no sequence, and tests at longer lengths."""

import csv
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from helixwave.data import Example, Picture, make_loader
from helixwave.data.batches import IGNORED
from helixwave.errors import InputError
from helixwave.files import atomic_write
from helixwave.recipe import Batches

_PARTS = ("validation", "test", "train")
# of the sequences of a length, one in eight is for validation and one for testing
_SHARES = 8
_MOST_DRAWS = 1000


class Generated:
    """Sequences of tokens drawn from a seed; a subclass says how to draw one.

    To which split a sequence belongs follows from its content, so that no two splits share one, although every epoch
    draws its training sequences anew. Training and validation have lengths up to `longest`; the test has
    `test_lengths`.

    Args:
        classes: the vocabulary; inputs and targets are places in it.
        lengths: of training, one of them drawn for each example.
        test_lengths: of the test, `n_test` examples of each.
        n_train, n_validation: examples; of training, in an epoch.
        only_beyond: score in the test what stands behind the longest training sequence alone.
    """

    def __init__(
        self,
        classes: list[str],
        *,
        lengths: Sequence[int],
        test_lengths: Sequence[int],
        n_train: int,
        n_validation: int,
        n_test: int,
        seed: int,
        only_beyond: bool = False,
    ):
        for name, value in (("n_train", n_train), ("n_validation", n_validation), ("n_test", n_test)):
            if value < 1:
                raise InputError(f"data: {name} is {value}, expected at least 1")
        self.classes, self.seed = classes, seed
        self.longest, self.test_lengths = max(lengths), sorted(set(test_lengths))
        rng = np.random.default_rng(seed)
        self.train = Drawn(self, "train", rng.choice(lengths, n_train))
        self.validation = Drawn(self, "validation", rng.choice(lengths, n_validation))
        beyond = self.longest if only_beyond else 0
        self.by_length = {
            length: Drawn(self, "test", [length] * n_test, scored_from=beyond if length > self.longest else 0)
            for length in sorted({self.longest, *test_lengths})
        }
        self.test = Joined([self.by_length[length] for length in self.test_lengths])

    def draw(self, length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets `[length]` of one example."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        lengths = self.train.lengths
        return {
            "training": f"{len(self.train)} sequences an epoch, of {min(lengths)} to {max(lengths)} tokens",
            "validation": f"{len(self.validation)} sequences of the same lengths",
            "test": f"{len(self.test)} sequences of {', '.join(map(str, self.test_lengths))} tokens",
        }

    def export(self, model: nn.Module, folder: Path) -> list[Picture]:
        """`by_length.csv`: the accuracy on sequences as long as the longest of training, and at the test's lengths."""
        rows = [{"length": n, "accuracy": round(accuracy(model, split), 6)} for n, split in self.by_length.items()]
        with atomic_write(folder / "by_length.csv") as f:
            writer = csv.DictWriter(f, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        figure = Figure(figsize=(4.2, 2.8))
        axes = figure.subplots()
        axes.plot([row["length"] for row in rows], [row["accuracy"] for row in rows], marker="o", linewidth=1.2)
        axes.axvline(self.longest, color="0.7", linestyle="--", linewidth=0.8)
        axes.set(xlabel="length", ylabel="test accuracy", ylim=(-0.02, 1.02))
        caption = "Longer sequences than those of training, whose longest had the length of the dashed line."
        return [Picture("Accuracy by length", caption, figure)]


class Drawn:
    """Examples of given lengths, all of one part of the possible sequences.

    Args:
        scored_from: targets before this position are not scored.
    """

    padding: int | float = 0

    def __init__(self, task: Generated, part: str, lengths: Sequence[int] | np.ndarray, *, scored_from: int = 0):
        self.task, self.part, self.lengths, self.scored_from = task, part, lengths, scored_from

    def __len__(self) -> int:
        return len(self.lengths)

    def length(self, index: int) -> int:
        return int(self.lengths[index])

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        length = self.length(index)
        rng = rng or np.random.default_rng((self.task.seed, _PARTS.index(self.part), length, index))
        for _ in range(_MOST_DRAWS):
            inputs, target = self.task.draw(length, rng)
            if part_of(inputs) == self.part:
                target[: self.scored_from] = IGNORED
                return {"inputs": inputs, "target": target}
        raise InputError(f"data: there are too few sequences of {length} tokens to split them. Make them longer")


class Joined:
    """Several splits one after the other."""

    padding: int | float = 0

    def __init__(self, splits: list[Drawn]):
        self.places = [(split, index) for split in splits for index in range(len(split))]

    def __len__(self) -> int:
        return len(self.places)

    def length(self, index: int) -> int:
        split, inner = self.places[index]
        return split.length(inner)

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        split, inner = self.places[index]
        return split.example(inner, rng)


def part_of(inputs: np.ndarray) -> str:
    """The split that a sequence of tokens belongs to."""
    return _PARTS[min(zlib.crc32(inputs.tobytes()) % _SHARES, 2)]


def accuracy(model: nn.Module, split: Drawn) -> float:
    """Share of the scored positions of a split whose most probable class is the target."""
    device = next(model.parameters()).device
    right = total = 0
    with torch.inference_mode():
        for batch in make_loader(split, Batches(tokens=16384), seed=0):
            found = model(batch["inputs"].to(device), batch["lengths"].to(device)).argmax(-1).cpu()
            scored = batch["target"] != IGNORED
            right += int((found == batch["target"])[scored].sum())
            total += int(scored.sum())
    return right / total
