"""What a model of moving pictures has to beat: a linear one on what changes between frames."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from helixwave.data import Split
from helixwave.errors import InputError
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor


class FrameDifferenceLogisticRegression:
    """Logistic regression on the differences of neighbouring frames, pixel by pixel.

    Args:
        strengths: inverse regularisation strengths to choose from on the validation part.
    """

    def __init__(self, *, strengths: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0)):
        self.strengths, self.description = strengths, ""

    def predict(self, data: Any) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[M, n_class]` and targets `[M]` of the test part; fitted on the training part."""
        (train, labels), (validation, judged), (test, target) = (
            _differences(part) for part in (data.train, data.validation, data.test)
        )
        fitted = {
            strength: LogisticRegression(C=strength, max_iter=1000).fit(train, labels) for strength in self.strengths
        }
        best = max(fitted, key=lambda each: float(fitted[each].score(validation, judged)))
        self.description = f"logistic regression on the differences of neighbouring frames, C={best:g}"
        probabilities = np.full((len(test), len(data.classes)), 1e-12)
        probabilities[:, fitted[best].classes_] = fitted[best].predict_proba(test).clip(1e-12)
        return torch.from_numpy(np.log(probabilities)).float(), torch.from_numpy(target)


def _differences(split: Split) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """From every clip `[T, C, H, W]` of a split the differences of neighbouring frames in one row, and its class."""
    examples = [split.example(i, None) for i in range(len(split))]
    shapes = {np.shape(example["inputs"]) for example in examples}
    if len(shapes) > 1 or len(next(iter(shapes))) != 4:
        raise InputError(
            "baseline: frame_difference_logistic_regression is for clips of one length and size. Choose another or null"
        )
    rows = [np.diff(example["inputs"], axis=0).ravel() for example in examples]
    return np.array(rows, dtype=np.float32), np.array([example["target"] for example in examples])
