"""What a model's outputs mean, and how they are read."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

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
