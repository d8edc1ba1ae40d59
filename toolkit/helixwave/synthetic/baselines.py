"""What a model of the synthetic tasks has to beat."""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from torch import Tensor

from helixwave.data import Source, Split
from helixwave.data.batches import IGNORED
from helixwave.synthetic.digits import SequentialDigits


class MajorityClass:
    """The same answer everywhere: how often each class is the target in the training split."""

    def __init__(self) -> None:
        self.description = "class frequencies of the training split"

    def predict(self, data: Source) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[M, n_class]` and targets `[M]` of the scored test positions."""
        counts = np.bincount(_targets(data.train), minlength=len(data.classes))
        target = torch.from_numpy(_targets(data.test))
        shares = torch.from_numpy((counts / counts.sum()).clip(1e-12))
        return shares.log().expand(len(target), -1), target


class PixelLogisticRegression:
    """Logistic regression on all pixels at once.

    Args:
        strengths: inverse regularisation strengths to choose from.
    """

    def __init__(self, *, strengths: Sequence[float] = (1e-2, 1e-1, 1.0, 1e1)):
        self.strengths, self.description = strengths, ""

    def predict(self, data: SequentialDigits) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[M, n_class]` and targets `[M]` of the test part; fitted on all else."""
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        search = GridSearchCV(LogisticRegression(max_iter=2000), {"C": list(self.strengths)}, cv=folds)
        fitted = (data.train, data.validation)
        search.fit(np.concatenate([part.pixels for part in fitted]), np.concatenate([part.labels for part in fitted]))
        self.description = (
            f"logistic regression on the pixels, C={search.best_params_['C']:g} by 5-fold cross-validation"
        )
        outputs = np.log(search.predict_proba(data.test.pixels).clip(1e-12))
        return torch.from_numpy(outputs), torch.from_numpy(data.test.labels)


def _targets(split: Split) -> np.ndarray:
    """All scored targets of a split."""
    targets = np.concatenate([np.atleast_1d(split.example(i, None)["target"]) for i in range(len(split))])
    return targets[targets != IGNORED]
