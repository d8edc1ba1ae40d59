"""What a model of ECGs has to beat: nearest neighbours and logistic regressions on plain features."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from helixwave.errors import InputError
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from helixwave_domains.ecg.beats import BeatSplit

Features = NDArray[np.float64]


class BeatNearestNeighbours:
    """The nearest training beats by the lead's samples and, with a weight, the intervals to the beats around it.

    Args:
        neighbours: that vote.
        intervals: weights of the intervals to choose from on the validation part; 0: by the lead alone.
    """

    def __init__(self, *, neighbours: int = 5, intervals: Sequence[float] = (0.0, 1.0, 2.0, 4.0)):
        self.neighbours, self.intervals, self.description = neighbours, intervals, ""

    def predict(self, data: Any) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[M, n_class]` and targets `[M]` of the test part; fitted on the training part."""
        _expect_beats("beat_nearest_neighbours", data)
        weight = max(self.intervals, key=lambda each: self._validated(data, each))
        features = beat_features(data.test, weight)
        self.description = (
            f"{self.neighbours} nearest neighbours among the training beats by the lead, the intervals "
            f"weighted by {weight:g} (chosen on the validation part)"
        )
        return _log_probabilities(self._fitted(data, weight), features, data), torch.from_numpy(data.test.labels)

    def _fitted(self, data: Any, weight: float) -> KNeighborsClassifier:
        return KNeighborsClassifier(self.neighbours).fit(beat_features(data.train, weight), data.train.labels)

    def _validated(self, data: Any, weight: float) -> float:
        if len(self.intervals) == 1:
            return 0.0
        predicted = self._fitted(data, weight).predict(beat_features(data.validation, weight))
        return float(f1_score(data.validation.labels, predicted, average="macro"))


class BeatLogisticRegression:
    """Logistic regression on the lead's samples and the intervals, each standardised.

    Args:
        strengths: inverse regularisation strengths to choose from on the validation part.
    """

    def __init__(self, *, strengths: Sequence[float] = (1e-2, 1e-1, 1.0)):
        self.strengths, self.description = strengths, ""

    def predict(self, data: Any) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[M, n_class]` and targets `[M]` of the test part; fitted on the training part."""
        _expect_beats("beat_logistic_regression", data)
        inputs = {name: beat_features(getattr(data, name), 1.0) for name in ("train", "validation", "test")}
        fitted = {
            strength: make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000)).fit(
                inputs["train"], data.train.labels
            )
            for strength in self.strengths
        }
        best = max(fitted, key=lambda each: fitted[each].score(inputs["validation"], data.validation.labels))
        self.description = f"logistic regression on the lead and the intervals, C={best:g}"
        return _log_probabilities(fitted[best], inputs["test"], data), torch.from_numpy(data.test.labels)


def beat_features(beats: BeatSplit, intervals: float) -> Features:
    """Millivolts of the lead, then the intervals times a weight: `[M, T + 3]`."""
    # the intervals are constant along the window
    return np.concatenate([beats.inputs[:, :, 0], intervals * beats.inputs[:, 0, 1:]], axis=1).astype(np.float64)


def _expect_beats(name: str, data: object) -> None:
    if not isinstance(getattr(data, "test", None), BeatSplit):
        raise InputError(f"baseline: {name} is for single beats. Choose ecg_features_logistic_regression, or null")


def _log_probabilities(model: Any, features: Features, data: Any) -> Tensor:
    """Log-probabilities of all classes; those that do not occur in training have next to none."""
    probabilities = np.full((len(features), len(data.classes)), 1e-12)
    probabilities[:, model.classes_] = model.predict_proba(features).clip(1e-12)
    return torch.from_numpy(np.log(probabilities)).float()
