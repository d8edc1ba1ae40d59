"""Sequences and single bases as a model sees them: probabilities of classes, and embeddings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from helixwave.lengths import valid_mask
from helixwave.outputs import readable
from numpy.typing import NDArray
from torch import Tensor, nn

from helixwave_domains.genomics.alphabet import BASES, VOCABULARY
from helixwave_domains.genomics.label_model import DNALabelModel

T = TypeVar("T")

# positions in a batch
_TOKENS = 2**15
_LETTER_OF_ID = np.array([token if token in BASES else "N" for token in VOCABULARY])


@dataclass(frozen=True)
class Stretch:
    """A piece of DNA with a class for each base.

    Args:
        name: of its record.
        start: the position of its first base there, counted from 0.
        ids: token ids `[T]`.
        target: classes `[T]`, -100 where none is known.
    """

    name: str
    start: int
    ids: NDArray[np.integer]
    target: NDArray[np.integer]

    @property
    def letters(self) -> str:
        """Its bases, N for all that is none of the four."""
        return "".join(_LETTER_OF_ID[self.ids])

    def pieces(self, most: int) -> Iterator["Stretch"]:
        """The same in pieces of at most so many bases."""
        for i in range(0, len(self.ids), most):
            yield Stretch(self.name, self.start + i, self.ids[i : i + most], self.target[i : i + most])


@dataclass(frozen=True)
class Seen:
    """Sequences, or single bases, as a model sees them.

    Args:
        names: of each.
        labels: the true classes `[M]`.
        probabilities: of the classes `[M, n_class]`.
        embeddings: last hidden states `[M, D]`, of a sequence the mean over its positions, of both strands if the model
            reads them.
    """

    names: list[str]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    embeddings: NDArray[np.float32]

    def most_confident(self, most: int) -> list[int]:
        """For each of the classes that occur, at most so many, the number of the one that the model is surest of."""
        found = []
        for label in np.unique(self.labels)[:most]:
            numbers = np.flatnonzero(self.labels == label)
            found.append(int(numbers[self.probabilities[numbers, label].argmax()]))
        return found


@torch.inference_mode()
def see_sequences(model: DNALabelModel, names: list[str], sequences: Sequence[str], labels: NDArray[np.int64]) -> Seen:
    """Probabilities and mean hidden states of whole sequences."""
    model.eval()
    order = np.argsort([len(sequence) for sequence in sequences], kind="stable")
    probabilities, embeddings = [], []
    for numbers in _batches(order, [len(sequence) for sequence in sequences]):
        inputs, lengths = _padded(model, [sequences[i] for i in numbers])
        probabilities.append(readable(model(inputs, lengths), model.predicts))
        kept = valid_mask(lengths, inputs.shape[1])[..., None]
        embeddings.append((_hidden(model, inputs, lengths) * kept).sum(1) / lengths[:, None])
    back = np.argsort(order)
    return Seen(names, labels, *(torch.cat(found).float().cpu().numpy()[back] for found in (probabilities, embeddings)))


@torch.inference_mode()
def see_bases(model: DNALabelModel, stretches: Sequence[Stretch], places: NDArray[np.int64]) -> Seen:
    """Probabilities and hidden states of single bases; places `[M, 2]` are stretches, in order, and positions there."""
    model.eval()
    names, labels, probabilities, embeddings = [], [], [], []
    for number in np.unique(places[:, 0]):
        stretch, positions = stretches[number], places[places[:, 0] == number, 1]
        inputs, lengths = _padded(model, [stretch.letters])
        probabilities.append(readable(model(inputs, lengths), model.predicts)[0, positions])
        embeddings.append(_hidden(model, inputs, lengths)[0, positions])
        names += [f"{stretch.name}:{stretch.start + position + 1}" for position in positions]
        labels.append(stretch.target[positions])
    arrays = (torch.cat(found).float().cpu().numpy() for found in (probabilities, embeddings))
    return Seen(names, np.concatenate(labels), *arrays)


def principal_components(embeddings: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points `[M, 2]` on the first two principal components of `[M, D]`, and their parts of the variance `[2]`."""
    centred = embeddings.astype(np.float64) - embeddings.mean(0, dtype=np.float64)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(centred), 2))
    shares = np.zeros(2)
    n = min(2, len(singular))
    points[:, :n] = left[:, :n] * singular[:n]
    shares[:n] = singular[:n] ** 2 / max(float((singular**2).sum()), np.finfo(np.float64).tiny)
    return points, shares


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, spread evenly."""
    count = min(most, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def _hidden(model: DNALabelModel, inputs: Tensor, lengths: Tensor) -> Tensor:
    if model.class_complement is None:
        return model.hidden(inputs, lengths)
    ahead, behind = model.strands(inputs, lengths)
    return (ahead + behind) / 2


def _padded(model: DNALabelModel, sequences: Sequence[str]) -> tuple[Tensor, Tensor]:
    ids = [torch.from_numpy(model.tokenizer.encode(sequence)) for sequence in sequences]
    inputs = nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=model.tokenizer.pad)
    device = model.head.weight.device
    return inputs.to(device), torch.tensor([len(i) for i in ids], device=device)


def _batches(order: NDArray[np.int64], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Numbers in ascending order of their lengths, in batches of about so many tokens."""
    batch: list[int] = []
    for number in order.tolist():
        if batch and (len(batch) + 1) * lengths[number] > _TOKENS:
            yield batch
            batch = []
        batch.append(number)
    yield batch
