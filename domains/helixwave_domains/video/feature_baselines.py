"""What a model of long videos has to beat: a linear one on the mean of the features."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from helixwave.errors import InputError
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from helixwave_domains.video.feature_videos import FeatureVideo, WindowVideos

Features = NDArray[np.float64]


class MeanFeaturesRegression:
    """Logistic regression, or ridge regression for numbers, on the mean of all features of a video.

    Args:
        strengths: inverse regularisation strengths to choose from on the validation part.
    """

    def __init__(self, *, strengths: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)):
        self.strengths, self.description = strengths, ""

    def predict(self, data: Any) -> tuple[Tensor, Tensor]:
        """Log-probabilities or numbers `[M, n]` and targets of the test videos; fitted on the training part."""
        parts = [data.train, data.validation, data.test]
        if not all(isinstance(part, WindowVideos) for part in parts):
            raise InputError("baseline: mean_features_regression is for features of videos. Choose another, or null")
        (train, labels), (validation, judged), (test, target) = (_means(part.videos) for part in parts)
        numbers = labels.dtype.kind == "f"
        fitted = {each: self._model(each, numbers).fit(train, labels) for each in self.strengths}
        best = max(fitted, key=lambda each: float(fitted[each].score(validation, judged)))
        kind = "ridge" if numbers else "logistic"
        self.description = f"{kind} regression on the mean of a video's features, C={best:g} by the validation part"
        if numbers:
            outputs = torch.from_numpy(fitted[best].predict(test)).float()[:, None]
            return outputs, torch.from_numpy(target).float()[:, None]
        probabilities = np.full((len(test), len(data.classes)), 1e-12)
        probabilities[:, fitted[best].classes_] = fitted[best].predict_proba(test).clip(1e-12)
        return torch.from_numpy(np.log(probabilities)).float(), torch.from_numpy(target)

    def _model(self, strength: float, numbers: bool) -> Any:
        model = Ridge(alpha=1 / strength) if numbers else LogisticRegression(C=strength, max_iter=2000)
        return make_pipeline(StandardScaler(), model)


def _means(videos: Sequence[FeatureVideo]) -> tuple[Features, NDArray[Any]]:
    """The mean of the features of each video `[M, D]`, and its target."""
    means = [np.asarray(video.features(), dtype=np.float64).mean((0, 1)) for video in videos]
    return np.array(means), np.array([video.target for video in videos])
