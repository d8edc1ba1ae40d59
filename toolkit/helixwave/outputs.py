"""What a model's outputs mean, and how they are read."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

# probabilities that double precision still tells from 0 and from 1
_TINY, _NEARLY_ONE = 1e-300, 1e-16

Predicts = Literal["class", "labels", "numbers"]
"""One class out of several (logits), each of several labels or not (logits), or numbers as they are."""


def readable(outputs: Tensor, predicts: Predicts) -> Tensor:
    """Outputs `[..., n]` as people read them: probabilities of classes or of labels, or the numbers themselves."""
    if predicts == "class":
        return outputs.softmax(-1)
    return outputs.sigmoid() if predicts == "labels" else outputs


def mean_outputs(one: Tensor, other: Tensor, predicts: Predicts) -> Tensor:
    """Outputs whose readable form is the mean of that of two others; without a probability that underflows."""
    if predicts == "class":
        return torch.logaddexp(one.log_softmax(-1), other.log_softmax(-1)) - math.log(2)
    if predicts == "labels":
        present, absent = (torch.logaddexp(F.logsigmoid(s * one), F.logsigmoid(s * other)) for s in (1, -1))
        return present - absent
    return (one + other) / 2


def grouped_outputs(outputs: Tensor, groups: Tensor, predicts: Predicts, how: Literal["mean", "max"]) -> Tensor:
    """Outputs `[G, n]` of groups of examples `[M, n]`, whose readable forms are put together.

    Args:
        groups: number of each example's group `[M]`, from 0 to G - 1, each of them there.
        how: the mean, or of each output the highest; of classes these are made to add up to 1 again.
    """
    read = readable(outputs.double(), predicts)
    index = groups[:, None].expand_as(read)
    reduce = {"mean": "mean", "max": "amax"}[how]
    made = read.new_zeros(int(groups.max()) + 1, read.shape[1]).scatter_reduce(
        0, index, read, reduce, include_self=False
    )
    if predicts == "class":
        made = (made / made.sum(1, keepdim=True)).clamp_min(_TINY).log()
    elif predicts == "labels":
        made = made.clamp(_TINY, 1 - _NEARLY_ONE).logit()
    return made.to(outputs.dtype)


def first_of(groups: Tensor) -> Tensor:
    """The first example of each group: `[M]` -> `[G]`."""
    place = torch.arange(len(groups)).expand_as(groups)
    wanted = groups.new_full((int(groups.max()) + 1,), len(groups), dtype=torch.long)
    return wanted.scatter_reduce(0, groups.long(), place, "amin")
