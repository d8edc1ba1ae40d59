"""What a model of labels or numbers has to beat."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from helixwave.errors import InputError
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from torch import Tensor

from helixwave_domains.genomics.sequences import SequenceData

_FOLDS = 5


class KmerLinear:
    """A linear model of k-mer frequencies for each label (logistic regression) or number (ridge regression).

    The regularisation is chosen by cross-validation, for each of them on its own.

    Args:
        size: k.
        strengths: inverse regularisation strengths to choose from.
    """

    def __init__(self, *, size: int = 4, strengths: Sequence[float] = (1e-2, 1e-1, 1.0, 1e1, 1e2)):
        self.size, self.strengths = size, strengths
        self.description = (
            f"a linear model of {size}-mer frequencies, its regularisation by {_FOLDS}-fold cross-validation"
        )

    def predict(self, data: SequenceData) -> tuple[Tensor, Tensor]:
        """Logits or numbers and targets `[M, n]` of the test part; fitted on all else."""
        if not isinstance(data, SequenceData) or data.train.labels.ndim == 1:
            raise InputError("baseline: kmer_linear is for data.target=labels and numbers. Choose another, or null")
        counter = CountVectorizer(analyzer="char", ngram_range=(self.size, self.size), lowercase=False)
        features = _frequencies(counter.fit_transform(data.train.sequences + data.validation.sequences))
        tested = _frequencies(counter.transform(data.test.sequences))
        fitted = np.concatenate([data.train.labels, data.validation.labels])
        columns = [self._column(features, column, tested) for column in fitted.T]
        return torch.from_numpy(np.stack(columns, axis=-1)), torch.from_numpy(data.test.labels)

    def _column(self, features: Any, target: NDArray[np.float32], tested: Any) -> NDArray[np.float64]:
        known = ~np.isnan(target)
        features, target = features[known], target[known]
        if np.isin(target, (0, 1)).all():
            share = (target.sum() + 1) / (len(target) + 2)
            if min(target.sum(), len(target) - target.sum()) < _FOLDS:
                return np.full(tested.shape[0], np.log(share) - np.log1p(-share))
            search = GridSearchCV(LogisticRegression(max_iter=2000), {"C": list(self.strengths)}, cv=_FOLDS)
            return search.fit(features, target).decision_function(tested)
        if len(target) < _FOLDS:
            return np.full(tested.shape[0], target.mean(dtype=np.float64))
        # ridge regression has the regularisation itself, not its inverse
        search = GridSearchCV(Ridge(), {"alpha": [1 / strength for strength in self.strengths]}, cv=_FOLDS)
        return search.fit(features, target).predict(tested)


def _frequencies(counts: Any) -> Any:
    """Rows of counts, each scaled to a sum of 100."""
    return counts.multiply(100 / np.maximum(counts.sum(1), 1)).tocsr()
