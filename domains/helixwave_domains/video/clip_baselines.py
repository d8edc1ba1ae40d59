"""What a model of clips has to beat: a linear one on a few numbers of each part of the picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from helixwave.data import Split
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor


class ClipStatisticsLogisticRegression:
    """Logistic regression on means, deviations in time and changes from frame to frame in a grid of cells.

    Args:
        grid: cells along height and width.
        strengths: inverse regularisation strengths to choose from on the validation part.
    """

    def __init__(self, *, grid: int = 4, strengths: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0)):
        self.grid, self.strengths, self.description = grid, strengths, ""

    def predict(self, data: Any) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[M, n_class]` and targets `[M]` of the test clips; fitted on the training part."""
        (train, labels), (validation, judged), (test, target) = (
            self._rows(part) for part in (data.train, data.validation, data.test)
        )
        fitted = {
            strength: make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000)).fit(train, labels)
            for strength in self.strengths
        }
        best = max(fitted, key=lambda each: float(fitted[each].score(validation, judged)))
        self.description = f"logistic regression on means and changes of {self.grid} x {self.grid} cells, C={best:g}"
        probabilities = np.full((len(test), len(data.classes)), 1e-12)
        probabilities[:, fitted[best].classes_] = fitted[best].predict_proba(test).clip(1e-12)
        return torch.from_numpy(np.log(probabilities)).float(), torch.from_numpy(target)

    def _rows(self, split: Split) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """A row and a class for each clip; of a clip in several windows the mean row."""
        examples = (split.example(i, None) for i in range(len(split)))
        pairs = [(clip_statistics(example["inputs"], self.grid), example["target"]) for example in examples]
        rows, targets = np.array([row for row, _ in pairs]), np.array([target for _, target in pairs])
        groups = np.asarray(getattr(split, "groups", np.arange(len(pairs))))
        means = np.array([rows[groups == group].mean(0) for group in range(groups.max() + 1)])
        return means, targets[np.searchsorted(groups, np.arange(len(means)))]


def clip_statistics(frames: NDArray[np.float32], grid: int) -> NDArray[np.float32]:
    """Of each cell and channel of `[T, C, H, W]` the mean, the deviation in time and the mean change `[3 C grid^2]`."""
    cells = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(frames), grid).numpy()
    changes = np.abs(np.diff(cells, axis=0)).mean(0) if len(cells) > 1 else np.zeros_like(cells[0])
    return np.concatenate([cells.mean(0).ravel(), cells.std(0).ravel(), changes.ravel()])
