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
from helixwave_domains.ecg.record_features import record_features

Features = NDArray[np.float64]


class BeatNearestNeighbours:
    """The nearest training beats by the lead's samples and, with a weight, the intervals to the beats around it.

    Args:
        neighbours: that vote.
        intervals: weights of the intervals to choose from on the validation part; 0: by the lead alone.
    """

    def __init__(self, *, neighbours: int = 5, intervals: Sequence[float] = (0.0, 0.25, 0.5, 1.0)):
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


class EcgFeaturesLogisticRegression:
    """Logistic regression on the heart rate and its variability, and on the size and the spectrum of each lead.

    Of each label on its own where there are several. The features are those of whole recordings, whatever a model reads
    at once.

    Args:
        strengths: inverse regularisation strengths to choose from on the validation part.
        amplitudes: whether size and spectrum of the leads count, or the rhythm alone.
    """

    def __init__(self, *, strengths: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0), amplitudes: bool = True):
        self.strengths, self.amplitudes = strengths, amplitudes
        self.description = (
            f"logistic regression on heart rate and variability{', amplitudes and spectra' if amplitudes else ''} of "
            "the whole recording, regularised as is best on the validation part"
        )

    def predict(self, data: Any) -> tuple[Tensor, Tensor]:
        """Log-probabilities (classes) or logits (labels) `[M, n]` and targets of the test recordings."""
        parts = {name: getattr(data, name) for name in ("train", "validation", "test")}
        if not all(hasattr(part, "signals") for part in parts.values()):
            raise InputError("baseline: ecg_features_logistic_regression is for recordings. Choose another, or null")
        leads, rate = data.preprocessing["leads"], data.preprocessing["rate"]
        features = {name: record_features(part.signals, leads, rate, self.amplitudes) for name, part in parts.items()}
        scaler = StandardScaler().fit(features["train"])
        features = {name: scaler.transform(values) for name, values in features.items()}
        targets = parts["test"].targets
        if targets.ndim == 1:
            model = self._chosen(features, parts["train"].targets, parts["validation"].targets)
            return _log_probabilities(model, features["test"], data), torch.from_numpy(targets)
        columns = zip(parts["train"].targets.T, parts["validation"].targets.T, strict=True)
        logits = [self._logits(features, *column) for column in columns]
        return torch.from_numpy(np.stack(logits, axis=1)).float(), torch.from_numpy(targets)

    def _logits(self, features: dict[str, Features], train: NDArray[Any], validation: NDArray[Any]) -> Features:
        known, judged = ~np.isnan(train), ~np.isnan(validation)
        positive = train[known].sum()
        if positive in (0, known.sum()):
            share = (positive + 1) / (known.sum() + 2)
            return np.full(len(features["test"]), np.log(share / (1 - share)))
        kept = {**features, "train": features["train"][known], "validation": features["validation"][judged]}
        return self._chosen(kept, train[known], validation[judged]).decision_function(features["test"])

    def _chosen(self, features: dict[str, Features], train: NDArray[Any], validation: NDArray[Any]) -> Any:
        """The model whose strength has the least loss on the validation part."""

        def loss(model: Any) -> float:
            chance = np.full((len(validation), int(max(train.max(), validation.max(initial=0))) + 1), 1e-6)
            chance[:, model.classes_.astype(int)] = model.predict_proba(features["validation"])
            return -float(np.log(chance[np.arange(len(validation)), validation.astype(int)].clip(1e-6)).sum())

        fitted = (LogisticRegression(C=each, max_iter=5000).fit(features["train"], train) for each in self.strengths)
        return min(fitted, key=loss)


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
    probabilities[:, model.classes_.astype(int)] = model.predict_proba(features).clip(1e-12)
    return torch.from_numpy(np.log(probabilities)).float()
