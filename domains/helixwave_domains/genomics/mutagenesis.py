"""In-silico mutagenesis: what a model would say if one base were another."""

from collections.abc import Iterator

import numpy as np
import torch
from helixwave.errors import InputError
from helixwave.outputs import Predicts
from numpy.typing import NDArray
from torch import Tensor

from helixwave_domains.genomics.label_model import DNALabelModel

# positions in a batch of mutated sequences
_TOKENS = 2**15


@torch.inference_mode()
def mutagenesis(
    model: DNALabelModel, sequence: str, *, at: int | None = None, positions: range | None = None
) -> NDArray[np.float32]:
    """How much each single substitution changes what a model says of a sequence.

    For classes and labels that is the change of their log-odds, `log p / (1 - p)` in nats, which tells something where
    a probability near 1 no longer does; for numbers, the change of the number.

    Args:
        model: a model of whole sequences, or of each base.
        sequence: letters `[T]`; a letter that is none of the four bases may become any of them.
        at: for a model of each base, the base whose label is looked at, counted from 0.
        positions: which bases are substituted; all if None.

    Returns:
        changes `[P, 4, n_class]`, for each of the positions (all: `P = T`) that of A, C, G and T; 0 for the base that
        stands there.

    Raises:
        InputError: `at` is missing, of no use for this model, or outside the sequence, or `positions` are.
    """
    ids = torch.from_numpy(model.tokenizer.encode(sequence))
    positions = range(len(ids)) if positions is None else positions
    if positions and not 0 <= min(positions) <= max(positions) < len(ids):
        raise InputError(f"positions are {positions}, expected places in a sequence of {len(ids)} bases")
    model.eval()
    unchanged = _said(model, ids[None], at)[0]
    changes = torch.zeros(len(positions), 4, len(unchanged))
    for rows, columns, mutated in _substitutions(ids, positions, torch.from_numpy(model.tokenizer.bases)):
        changes[rows, columns] = _said(model, mutated, at) - unchanged
    return changes.numpy()


def _substitutions(ids: Tensor, positions: range, bases: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches of sequences with one other base: its place among the positions, the base's number, ids `[B, T]`."""
    places = torch.tensor(list(positions), dtype=torch.int64)
    rows, columns = torch.nonzero(ids[places][:, None] != bases, as_tuple=True)
    size = max(1, _TOKENS // len(ids))
    for start in range(0, len(rows), size):
        row, column = rows[start : start + size], columns[start : start + size]
        mutated = ids.repeat(len(row), 1)
        mutated[torch.arange(len(row)), places[row]] = bases[column]
        yield row, column, mutated


def _said(model: DNALabelModel, ids: Tensor, at: int | None) -> Tensor:
    """What the model says of sequences `[B, T]`, or of one base of each, on a scale that adds up: `[B, n_class]`."""
    outputs = model(ids.to(next(model.parameters()).device)).float().cpu()
    if outputs.ndim == 3:
        if at is None or not 0 <= at < ids.shape[1]:
            raise InputError(f"this model labels each base: at is {at}, expected one of 0 to {ids.shape[1] - 1}")
        outputs = outputs[:, at]
    elif at is not None:
        raise InputError(f"this model labels whole sequences: at is {at}, leave it out")
    return log_odds(outputs, model.predicts)


def log_odds(outputs: Tensor, predicts: Predicts) -> Tensor:
    """A model's outputs `[..., n_class]` as log-odds of each class or label; numbers as they are."""
    if predicts != "class":
        return outputs
    log_p = outputs.log_softmax(-1)
    itself = torch.eye(outputs.shape[-1], dtype=torch.bool)
    others = log_p[..., None, :].expand(*log_p.shape, -1).masked_fill(itself, -torch.inf)
    # not the logarithm of 1 - p, which is lost where p rounds to 1
    return log_p - others.logsumexp(-1)
