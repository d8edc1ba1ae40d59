"""What a model of motion has to beat: a random forest on plain features."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from helixwave.data.splits import PARTS
from helixwave.errors import InputError
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor

from helixwave_domains.video.motion_features import Features, motion_features
from helixwave_domains.video.motion_series import MotionSplit


class MotionFeaturesRandomForest:
    """A random forest on statistics, spectra and the shape of each channel and of each vector of whole series.

    Args:
        trees: of the forest.
        leaves: the least series in a leaf, to choose from on the validation part.
        points: values of each channel that are features too, to choose from in the same way.
        seed: of the forest.
    """

    def __init__(
        self, *, trees: int = 300, leaves: Sequence[int] = (1, 3), points: Sequence[int] = (0, 16), seed: int = 0
    ):
        self.trees, self.leaves, self.points, self.seed, self.description = trees, leaves, points, seed, ""

    def predict(self, data: Any) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[M, n_class]` and targets `[M]` of the test part; fitted on training and validation."""
        parts = {name: getattr(data, name) for name in PARTS}
        if not all(isinstance(part, MotionSplit) for part in parts.values()):
            raise InputError("baseline: motion_features_random_forest is for series of motion. Choose another, or null")
        features = {n: self._features(parts, n) for n in self.points}
        labels = {name: part.labels for name, part in parts.items()}

        def validated(choice: tuple[int, int]) -> float:
            train, validation, _ = features[choice[0]]
            return float(self._fitted(train, labels["train"], choice[1]).score(validation, labels["validation"]))

        # the first of equals: the smallest
        points, leaf = max(product(self.points, self.leaves), key=validated)
        train, validation, test = features[points]
        known = np.concatenate([labels["train"], labels["validation"]])
        forest = self._fitted(np.concatenate([train, validation]), known, leaf)
        self.description = (
            f"{self.trees} trees on statistics, spectra and {points} points of each channel, at least {leaf} series in "
            "a leaf (chosen on the validation part, which is then learnt from too)"
        )
        probabilities = np.full((len(test), len(data.classes)), 1e-3)
        probabilities[:, forest.classes_] = forest.predict_proba(test).clip(1e-3)
        return torch.from_numpy(np.log(probabilities)).float(), torch.from_numpy(labels["test"])

    def _features(self, parts: dict[str, MotionSplit], points: int) -> list[Features]:
        return [motion_features(part.series, part.geometry.vectors, points) for part in parts.values()]

    def _fitted(self, features: Features, labels: np.ndarray, leaf: int) -> RandomForestClassifier:
        forest = RandomForestClassifier(self.trees, min_samples_leaf=leaf, random_state=self.seed)
        return forest.fit(features, labels)
