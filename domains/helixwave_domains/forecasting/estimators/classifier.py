"""Any backbone as a sktime classifier of panels of series."""

from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.registry import check_backbone
from numpy.typing import NDArray
from sktime.classification.base import BaseClassifier

from helixwave_domains.forecasting.estimators.forecaster import Scale
from helixwave_domains.forecasting.estimators.network import settings_of
from helixwave_domains.forecasting.estimators.panel import Series
from helixwave_domains.forecasting.network_fit import fit, predict, seeded
from helixwave_domains.forecasting.series_classifier import LabelledSeries, SeriesClassifier, classification, logits
from helixwave_domains.forecasting.training import Training
from helixwave_domains.forecasting.window_statistics import Floats


class BackboneClassifier(BaseClassifier):
    """Any registered backbone, from state spaces and Mamba to xLSTM, Hyena and hybrids, on whole series.

    Series may differ in length and have gaps; missing values are told to the network. Each channel is standardised by
    all that is known of it in training. A share of the series of each class is held out and chooses the epoch whose
    weights are kept.

    Parameters
    ----------
    blocks : list of dict, optional
        Names and arguments of blocks, repeated to `n_layer`; by default [{"name": "s4d"}]. `helixwave list blocks`
        has them all.
    d_model, n_layer : int, default=32, 2
        Channels and blocks.
    patch : int, default=1
        Steps that are read at once.
    dropout : float, default=0.1
        In training.
    training : dict, optional
        Settings of the training by their names in `helixwave_domains.forecasting.training.Training`: lr, epochs,
        batch_size, patience, device, progress and more.
    validation : float, default=0.2
        The share of the series that is held out; none of a class of which there are too few.
    random_state : int, optional
        Seed of weights, dropout, the series that are held out, and their order.

    Examples
    --------
    >>> from helixwave_domains.forecasting import BackboneClassifier
    >>> from sktime.datasets import load_unit_test
    >>> X, y = load_unit_test(split="train")
    >>> classifier = BackboneClassifier(d_model=8, training={"epochs": 1, "min_steps": 1}).fit(X, y)
    >>> classifier.predict_proba(X).shape
    (20, 2)
    """

    _tags: ClassVar[dict[str, Any]] = {
        "authors": ["helixwave"],
        "maintainers": ["helixwave"],
        "python_dependencies": ["torch"],
        "X_inner_mtype": "df-list",
        "capability:multivariate": True,
        "capability:unequal_length": True,
        "capability:missing_values": True,
        "capability:predict_proba": True,
        "capability:random_state": True,
        "property:randomness": "derandomized",
    }

    defaults: ClassVar[Training] = Training(epochs=40, min_steps=10, lr=3e-3, schedule="cosine", patience=10)

    def __init__(
        self,
        blocks: list[dict[str, Any]] | None = None,
        d_model: int = 32,
        n_layer: int = 2,
        patch: int = 1,
        dropout: float = 0.1,
        training: dict[str, Any] | None = None,
        validation: float = 0.2,
        random_state: int | None = None,
    ):
        self.blocks = blocks
        self.d_model = d_model
        self.n_layer = n_layer
        self.patch = patch
        self.dropout = dropout
        self.training = training
        self.validation = validation
        self.random_state = random_state
        super().__init__()

    def _fit(self, X: list[pd.DataFrame], y: NDArray[Any]) -> Self:
        values, labels, settings = _arrays(X), np.searchsorted(self.classes_, y), settings_of(self)
        self.scale_ = _scale(np.concatenate(values))
        with seeded(settings.seed):
            self.network_ = self._build(values[0].shape[1])
        held_out = _held_out(labels, self.validation, settings.seed)
        train, validation = (self._labelled(values, labels, chosen) for chosen in (~held_out, held_out))
        self.epochs_ = fit(
            self.network_,
            train,
            validation if len(validation) else None,
            objective=classification,
            training=settings,
        )
        return self

    def _predict_proba(self, X: list[pd.DataFrame]) -> Floats:
        examples = self._labelled(_arrays(X), np.zeros(len(X), dtype=np.int64), np.ones(len(X), dtype=bool))
        scores = predict(self.network_, examples, say=logits, device=settings_of(self).device).astype(np.float64)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares: Floats = weights / weights.sum(axis=1, keepdims=True)
        return shares

    def _predict(self, X: list[pd.DataFrame]) -> NDArray[Any]:
        labels: NDArray[Any] = self.classes_[self._predict_proba(X).argmax(axis=1)]
        return labels

    def _build(self, n_channel: int) -> SeriesClassifier:
        blocks = self.blocks or [{"name": "s4d"}]
        check_backbone("BackboneClassifier", {"d_model": self.d_model, "n_layer": self.n_layer, "blocks": blocks})
        if self.patch < 1:
            raise InputError(f"patch is {self.patch}, expected at least 1")
        backbone = Backbone(self.d_model, n_layer=self.n_layer, blocks=blocks, dropout=self.dropout)
        return SeriesClassifier(backbone, n_channel, len(self.classes_), patch=self.patch, dropout=self.dropout)

    def _labelled(self, values: list[Floats], labels: NDArray[np.int64], chosen: NDArray[np.bool_]) -> LabelledSeries:
        """The chosen series in standard units."""
        series = [(values[i] - self.scale_.mean) / self.scale_.std for i in np.flatnonzero(chosen)]
        return LabelledSeries(series, labels[chosen])

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        small = {"d_model": 4, "n_layer": 1, "training": {"epochs": 1, "min_steps": 1}}
        return [{**small, "patch": 4}, {**small, "blocks": [{"name": "mlp"}], "validation": 0.0}]


def _arrays(X: list[pd.DataFrame]) -> list[Floats]:
    return [each.to_numpy(dtype=np.float64, na_value=np.nan) for each in X]


def _scale(values: Floats) -> Scale:
    nothing = np.zeros((len(values), 0))
    (scale,) = Scale.of([Series((), pd.RangeIndex(len(values)), values, nothing)], standardise=True)
    return scale


def _held_out(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Which series are held out: that share of each class, rounded down."""
    rng, held_out = np.random.default_rng(seed), np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held_out[members[: int(share * len(members))]] = True
    return held_out
