"""What forecasters have in common whose network is trained on windows."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from helixwave.registry import check_arguments
from helixwave.signature import signature_of
from torch import nn

from helixwave_domains.forecasting.conformal import Arrays
from helixwave_domains.forecasting.estimators.forecaster import WindowForecaster, Windows
from helixwave_domains.forecasting.estimators.panel import Series
from helixwave_domains.forecasting.network_fit import Epoch, Objective, fit, predict, seeded
from helixwave_domains.forecasting.time_features import FEATURES, frequency_of, time_features, time_fields
from helixwave_domains.forecasting.training import Training
from helixwave_domains.forecasting.window_statistics import Floats
from helixwave_domains.forecasting.windows import Windows as NetworkWindows

Calendar = Literal["features", "fields", "none"]


class Inputs(NamedTuple):
    """What a network reads: channels, exogenous variables, those of the calendar among them, and its frequency."""

    n_channel: int
    n_exogenous: int
    frequency: str | None

    def __str__(self) -> str:
        steps = f" in steps of {self.frequency!r}" if self.frequency else ""
        return f"{self.n_channel} columns and {self.n_exogenous} exogenous variables{steps}"


class NetworkForecaster(WindowForecaster):
    """A network trained on windows of all series together; what is held out chooses the epoch whose weights are kept.

    An update with parameters trains for one more epoch on the windows that the new steps complete, at a tenth of the
    learning rate.
    """

    _tags: ClassVar[dict[str, Any]] = {"capability:random_state": True, "property:randomness": "derandomized"}

    # parameters that each subclass has
    context: int
    training: dict[str, Any] | None
    random_state: int | None

    defaults: ClassVar[Training]
    """How the network is trained where `training` does not say otherwise."""

    @abstractmethod
    def _build(self) -> nn.Module:
        """A network for `context_`, `horizon_` and `inputs_` with fresh weights."""

    @abstractmethod
    def _calendar(self) -> Calendar:
        """What the network reads of times: features for a linear map, fields for tables, or nothing."""

    def _objective(self) -> Objective | None:
        """What the network is trained for; None: the squared error."""
        return None

    def _point(self, forecast: Floats) -> Floats:
        """The forecast `[N, H, C]` from what the network says."""
        return forecast

    @property
    def _longest_context(self) -> int:
        return self.context

    def _learn(self, series: list[Series]) -> None:
        self.inputs_, self.least_context_ = self._inputs(series), self._least_context(series)
        train, held_out = self._split(series)
        self.network_ = self._start()
        # a pretrained network says something of a series that is too short to train on, too
        is_trained = len(self._cut(train)) > 0
        self.epochs_ = self._train(self.network_, self._objective(), train, held_out) if is_trained else []
        self.errors_ = self._measure(held_out or train)

    def _inputs(self, series: list[Series]) -> Inputs:
        longest = max(series, key=len)
        is_time = isinstance(longest.times, pd.DatetimeIndex | pd.PeriodIndex)
        frequency = frequency_of(_stamps(longest.times)) if is_time and self._calendar() != "none" else None
        exogenous = self._with_calendar(longest.exogenous, longest.times, frequency)
        return Inputs(longest.values.shape[1], exogenous.shape[1], frequency)

    def _least_context(self, series: list[Series]) -> int:
        """Steps of a context that lie within its series."""
        return self.context_

    def _start(self) -> nn.Module:
        """The network before it is trained."""
        with seeded(settings_of(self).seed):
            return self._build()

    def _train(
        self, network: nn.Module, objective: Objective | None, train: list[Series], held_out: list[Series]
    ) -> list[Epoch]:
        validation = self._cut(held_out) if held_out else None
        return fit(network, self._cut(train), validation, objective=objective, training=settings_of(self))

    def _learn_more(self, series: list[Series], n_new: list[int]) -> None:
        width, settings = self.least_context_ + self.horizon_, settings_of(self)
        windows = self._cut([each.last(n + width - 1) for each, n in zip(series, n_new, strict=True)])
        if len(windows):
            once = replace(settings, epochs=1, lr=settings.lr / 10, schedule="constant", drop_last=False)
            fit(self.network_, windows, objective=self._objective(), training=once)

    def _cut(self, series: Sequence[Series]) -> NetworkWindows:
        """All windows of some series."""
        exogenous = [self._with_calendar(each.exogenous, each.times, self.inputs_.frequency) for each in series]
        return NetworkWindows(
            [each.values for each in series],
            context=self.context_,
            horizon=self.horizon_,
            exogenous=exogenous if self.inputs_.n_exogenous else None,
            least_context=self.least_context_,
        )

    def _forecast(self, windows: Windows) -> Floats:
        """Each context is taken for a series of its own, of which what comes next is asked."""
        parts = zip(windows.past, windows.future, windows.past_times, windows.future_times, strict=True)
        exogenous = [
            np.concatenate([self._with_calendar(*each, self.inputs_.frequency) for each in ((x, t), (x_next, t_next))])
            for x, x_next, t, t_next in parts
        ]
        latest = NetworkWindows(
            list(windows.context),
            context=self.context_,
            horizon=self.horizon_,
            exogenous=exogenous if self.inputs_.n_exogenous else None,
        ).latest()
        forecast = predict(self.network_, latest, device=settings_of(self).device)
        return self._point(forecast.astype(np.float64))

    def _with_calendar(self, exogenous: Floats, times: pd.Index, frequency: str | None) -> Floats:
        """What the calendar says of steps, zeros before the first time, beside their exogenous variables."""
        if frequency is None:
            return exogenous
        read = time_features if self._calendar() == "features" else time_fields
        marks = read(_stamps(times), frequency)
        return np.concatenate([np.pad(marks, ((len(exogenous) - len(marks), 0), (0, 0))), exogenous], axis=1)

    def _get_learnt(self) -> Arrays:
        weights = {f"network.{name}": tensor.numpy() for name, tensor in self.network_.state_dict().items()}
        C, K, frequency = self.inputs_
        place = -1 if frequency is None else list(FEATURES).index(frequency)
        return {"inputs": np.array([C, K, place, self.least_context_]), **weights}

    def _set_learnt(self, learnt: Arrays) -> None:
        C, K, place, self.least_context_ = learnt["inputs"].tolist()
        self.inputs_ = Inputs(C, K, None if place < 0 else list(FEATURES)[place])
        with seeded(0):
            self.network_ = self._build()
        weights = {name: torch.from_numpy(np.array(array)) for name, array in learnt.items() if name != "inputs"}
        self.network_.load_state_dict({name.removeprefix("network."): each for name, each in weights.items()})
        self.network_.eval()


def settings_of(estimator: Any, defaults: Training | None = None) -> Training:
    """How an estimator's network is trained: `defaults`, its class's if None, its `random_state`, and `training`.

    Raises:
        InputError: an unknown setting, or one out of range.
    """
    # a grid to search holds numbers of numpy
    given = {name: x.item() if isinstance(x, np.generic) else x for name, x in (estimator.training or {}).items()}
    check_arguments("training", signature_of(Training), given)
    return replace(defaults or estimator.defaults, **{"seed": estimator.random_state or 0, **given})


def _stamps(times: pd.Index) -> Any:
    """Times as numpy has them, without a zone."""
    times = times.to_timestamp() if isinstance(times, pd.PeriodIndex) else times
    return times.tz_localize(None).to_numpy()
