"""Any backbone as a sktime forecaster."""

import copy
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.registry import check_backbone
from sktime.forecasting.base import ForecastingHorizon

from helixwave_domains.forecasting.backbone_network import BackboneNetwork
from helixwave_domains.forecasting.conformal import Errors
from helixwave_domains.forecasting.estimators.forecaster import Scale, relative_steps
from helixwave_domains.forecasting.estimators.network import Calendar, Inputs, NetworkForecaster, settings_of
from helixwave_domains.forecasting.estimators.panel import Series, filled, read_panel
from helixwave_domains.forecasting.forecast_outputs import Gaussian, Output, Point, Quantiles
from helixwave_domains.forecasting.masked_patches import MaskedPatches, masked_loss
from helixwave_domains.forecasting.network_fit import Objective, forecasting, seeded
from helixwave_domains.forecasting.training import Training
from helixwave_domains.forecasting.window_normalisation import RevIN
from helixwave_domains.forecasting.window_statistics import Floats

_LEVELS = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)
OUTPUTS: dict[str, Output] = {"point": Point(), "gaussian": Gaussian(), "quantiles": Quantiles(_LEVELS)}


class BackboneForecaster(NetworkForecaster):
    """Any registered backbone, from state spaces and Mamba to xLSTM, Hyena and hybrids, on patches of the context.

    Every window is normalised by itself (RevIN), every channel is read by itself unless channels are mixed, and all
    steps are forecast at once. Missing values are told to the network. `pretrain` learns from a panel, with some
    patches hidden; `fit` goes on from there, also for series that are shorter than the context.

    Parameters
    ----------
    context : int, default=336
        Steps that a forecast reads; fewer of a short series.
    blocks : list of dict, optional
        Names and arguments of blocks, repeated to `n_layer`; by default [{"name": "s4d"}]. `helixwave list blocks`
        has them all.
    d_model, n_layer : int, default=32, 2
        Channels and blocks.
    patch : int, default=16
        Steps of a patch; 1 reads each step by itself.
    stride : int, optional
        Steps from one patch to the next; by default patches do not overlap.
    mixes_channels : bool, default=False
        Whether patches hold all channels together.
    dropout : float, default=0.1
        In training.
    centre : "mean" or "last", default="mean"
        What of each window is taken off and put back.
    output : "point", "gaussian" or "quantiles", default="point"
        What is learnt of each step: the mean, and how sure it is from held-out errors; or a distribution.
    calendar : bool, default=False
        Whether features of the time are read, where the index is of times.
    masked_share : float, default=0.25
        Of patches that are hidden in pretraining, at most.
    training : dict, optional
        Settings of the training by their names in `helixwave_domains.forecasting.training.Training`: lr, epochs,
        batch_size, patience, device, progress and more.
    interval : "gaussian" or "conformal", default="gaussian"
        How intervals follow from errors on the part that is held out, for output="point".
    validation : float, default=0.2
        The share at the end of each series that is held out: it chooses the epoch, and errors are measured on it.
    standardise : bool, default=True
        Whether each channel is standardised by what it is fitted to.
    random_state : int, optional
        Seed of weights, dropout, hidden patches and the order of windows.

    Examples
    --------
    >>> from helixwave_domains.forecasting import BackboneForecaster
    >>> from sktime.datasets import load_airline
    >>> forecaster = BackboneForecaster(24, [{"name": "mamba"}], d_model=8, patch=4, training={"epochs": 1})
    >>> forecaster.fit(load_airline(), fh=[1, 2, 3]).predict().shape
    (3,)
    """

    _tags: ClassVar[dict[str, Any]] = {"capability:pretrain": True}

    defaults: ClassVar[Training] = Training(epochs=20, min_steps=25, lr=2e-3, schedule="cosine", patience=5)
    # of the quantile that is forecast; None: the point
    _level: float | None = None
    # what pretraining sets
    pretrained_network_: BackboneNetwork
    pretrained_errors_: Errors

    def __init__(
        self,
        context: int = 336,
        blocks: list[dict[str, Any]] | None = None,
        d_model: int = 32,
        n_layer: int = 2,
        patch: int = 16,
        stride: int | None = None,
        mixes_channels: bool = False,
        dropout: float = 0.1,
        centre: str = "mean",
        output: str = "point",
        calendar: bool = False,
        masked_share: float = 0.25,
        training: dict[str, Any] | None = None,
        interval: str = "gaussian",
        validation: float = 0.2,
        standardise: bool = True,
        random_state: int | None = None,
    ):
        self.context = context
        self.blocks = blocks
        self.d_model = d_model
        self.n_layer = n_layer
        self.patch = patch
        self.stride = stride
        self.mixes_channels = mixes_channels
        self.dropout = dropout
        self.centre = centre
        self.output = output
        self.calendar = calendar
        self.masked_share = masked_share
        self.training = training
        self.interval = interval
        self.validation = validation
        self.standardise = standardise
        self.random_state = random_state
        super().__init__()

    def _calendar(self) -> Calendar:
        return "features" if self.calendar else "none"

    def _build(self) -> BackboneNetwork:
        config: dict[str, Any] = {
            "d_model": self.d_model,
            "n_layer": self.n_layer,
            "blocks": self.blocks or [{"name": "s4d"}],
            "dropout": self.dropout,
        }
        check_backbone("BackboneForecaster", config)
        if self.centre not in ("mean", "last"):
            raise InputError(f"centre={self.centre!r}: there are 'mean' and 'last'")
        patch = min(self.patch, self.context_)
        return BackboneNetwork(
            Backbone(**config),
            self.context_,
            self.horizon_,
            self.inputs_.n_channel,
            normalisation=RevIN(self.inputs_.n_channel, centre=self.centre),  # type: ignore[arg-type]
            n_exogenous=self.inputs_.n_exogenous,
            patch=patch,
            stride=None if self.stride is None else min(self.stride, patch),
            mixes_channels=self.mixes_channels,
            output=self._output(),
        )

    def _output(self) -> Output:
        if self.output not in OUTPUTS:
            raise InputError(f"output={self.output!r}: there are {', '.join(map(repr, OUTPUTS))}")
        return OUTPUTS[self.output]

    def _objective(self) -> Objective:
        return forecasting(self._output().loss)

    def _prepared(self, series: Series, scale: Scale) -> Series:
        """Values stay missing, which the network is told."""
        scaled = scale.apply(series)
        return replace(scaled, exogenous=filled(scaled.exogenous))

    def _recent(self, history: Series) -> Series:
        """The scaled context of a forecast; what is before a shorter series is missing."""
        return self._scaled(history).last(self.context_)

    def _least_context(self, series: list[Series]) -> int:
        """So much that the longest series has as many windows as it has steps."""
        return max(1, min(self.context_, (max(map(len, series)) - self.horizon_) // 2))

    def _point(self, forecast: Floats) -> Floats:
        output = self._output()
        if self._level is None:
            return output.point(forecast)
        assert isinstance(output, Gaussian | Quantiles)
        return output.quantile(forecast, self._level)

    def _predict_quantiles(self, fh: ForecastingHorizon, X: pd.DataFrame | None, alpha: list[float]) -> pd.DataFrame:
        if self.output == "point":
            return super()._predict_quantiles(fh, X, alpha)
        by_level = [list(self._at(level)._forecasts(fh, X)) for level in alpha]
        parts = [
            (each[0][0], np.stack([values for _, values in each], axis=-1).reshape(len(each[0][1]), -1))
            for each in zip(*by_level, strict=True)
        ]
        return self._in_frame(parts, fh, pd.MultiIndex.from_product([self._get_varnames(), alpha]))

    def _at(self, level: float) -> Self:
        """A forecaster that says this quantile where this one says its point."""
        other = copy.copy(self)
        other._level = level
        return other

    def _sizes(self, series: list[Series], horizon: int) -> tuple[int, int]:
        if not hasattr(self, "pretrained_network_"):
            return super()._sizes(series, horizon)
        if horizon > self.horizon_:
            raise InputError(
                f"{horizon} steps are to be forecast and pretraining was for {self.horizon_}: pretrain with the "
                "longest horizon that is wanted later"
            )
        return self.context_, self.horizon_

    def _inputs(self, series: list[Series]) -> Inputs:
        found = super()._inputs(series)
        if hasattr(self, "pretrained_network_") and found != self.inputs_:
            raise InputError(f"pretraining was for {self.inputs_}, and {found} came. Pass the same columns")
        return found

    def _start(self) -> BackboneNetwork:
        if hasattr(self, "pretrained_network_"):
            return copy.deepcopy(self.pretrained_network_)
        with seeded(settings_of(self).seed):
            return self._build()

    def _pretrain(self, y: pd.DataFrame, X: pd.DataFrame | None = None, fh: ForecastingHorizon | None = None) -> Self:
        """Train on a panel with hidden patches; once more goes on from there."""
        series = read_panel(y, X)
        self._check(series)
        if not hasattr(self, "pretrained_network_"):
            if fh is None:
                raise InputError("pretraining has to know how far forecasts go: pass fh, as to fit")
            horizon = int(relative_steps(fh, series[0].times[-1:]).max())
            self.context_, self.horizon_ = self._sizes(series, horizon)
        scales = Scale.of(series, self.standardise)
        scaled = [self._prepared(each, scale) for each, scale in zip(series, scales, strict=True)]
        self.inputs_, self.least_context_ = self._inputs(scaled), self._least_context(scaled)
        train, held_out = self._split(scaled)
        other = copy.copy(self)
        other.network_ = network = self._start()
        with seeded(settings_of(self).seed):
            masked = MaskedPatches(network, share=self.masked_share)
        self._train(masked, masked_loss, train, held_out)
        self.pretrained_errors_, self.pretrained_network_ = other._measure(held_out or train), network
        return self

    def _assumed_errors(self, n_channel: int) -> Errors:
        return self.pretrained_errors_

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        small = {"context": 6, "d_model": 4, "n_layer": 1, "patch": 3, "training": {"epochs": 1, "min_steps": 1}}
        mamba = [{"name": "mamba", "d_state": 2}]
        return [
            {**small, "blocks": [{"name": "mlp"}], "interval": "conformal"},
            {**small, "blocks": mamba, "output": "quantiles", "mixes_channels": True, "calendar": True},
        ]
