"""What published checkpoints of DNA models have in common: vocabularies, prefixes, and traces of their training."""

import math
from collections.abc import Iterable, Sequence

from helixwave.errors import InputError
from helixwave.pretrained.families import Published
from helixwave.pretrained.settings import Settings
from torch import Tensor


def padded_vocabulary(settings: Settings, tokens: Sequence[str]) -> list[str]:
    """`tokens`, and names for the rows without a meaning that round up the number of embeddings."""
    n_token = vocabulary_size(settings)
    if n_token < len(tokens):
        raise InputError(
            f"{settings.where}: vocab_size makes {n_token} tokens, expected {len(tokens)}: {', '.join(tokens)}"
        )
    return [*tokens, *(f"[{i}]" for i in range(len(tokens), n_token))]


def vocabulary_size(settings: Settings) -> int:
    """The rows of the embedding."""
    multiple = settings.size("pad_vocab_size_multiple", default=8)
    return math.ceil(settings.size("vocab_size") / multiple) * multiple


def prefix_before(names: Iterable[str], *endings: str, default: str) -> str:
    """What stands before the first ending that a name has; where no name has one, `default`."""
    for name in names:
        for ending in endings:
            if name.endswith(ending):
                return name.removesuffix(ending)
    return default


def drop_metrics(tensors: dict[str, Tensor]) -> None:
    """Take out the counters that torchmetrics keeps in the checkpoints of a training."""
    for name in [name for name in tensors if "torchmetrics" in name]:
        del tensors[name]


def n_class(published: Published, weight: str) -> int:
    """The rows of a classification head's weight; what is no matrix is refused later, by its shape."""
    head = published.tensors[weight]
    return len(head) if head.ndim else 1
