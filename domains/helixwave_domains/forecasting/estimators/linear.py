"""The linear family as sktime forecasters: solved exactly, or trained by the published recipe."""

from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from helixwave.errors import InputError
from sktime.forecasting.base import ForecastingHorizon

from helixwave_domains.forecasting.conformal import Arrays, Errors, GaussianErrors
from helixwave_domains.forecasting.estimators.forecaster import Scale, WindowForecaster, Windows, relative_steps
from helixwave_domains.forecasting.estimators.panel import Series, read_panel
from helixwave_domains.forecasting.linear_maps import LinearMap
from helixwave_domains.forecasting.ridge import CAUTIOUS, RIDGES, fit
from helixwave_domains.forecasting.window_statistics import Floats, WindowStatistics, window_statistics


class ExactLinear(WindowForecaster):
    """A mean of linear maps from the context to the forecast, each fitted exactly by ridge regression.

    The weights are shared by the channels, and by the series of a panel; with `individual` each channel has its own.
    """

    _tags: ClassVar[dict[str, Any]] = {"capability:pretrain": True}

    individual: bool
    ridge: float | None
    refit: bool

    @abstractmethod
    def _members(self) -> list[tuple[str, int]]:
        """Kinds and contexts of the maps that are averaged."""

    @property
    def _longest_context(self) -> int:
        return max(context for _, context in self._members())

    def _sizes(self, series: list[Series], horizon: int) -> tuple[int, int]:
        if not hasattr(self, "pretrained_statistics_"):
            return super()._sizes(series, horizon)
        if horizon > self.pretrained_horizon_:
            raise InputError(
                f"{horizon} steps are to be forecast and pretraining was for {self.pretrained_horizon_}: pretrain with "
                "the longest horizon that is wanted later"
            )
        return self.pretrained_statistics_[0].width - self.pretrained_horizon_, self.pretrained_horizon_

    def _learn(self, series: list[Series]) -> None:
        train, held_out = self._split(series)
        width = self.context_ + self.horizon_
        before = getattr(self, "pretrained_statistics_", None)
        known = _total(before, self._statistics(train, width))
        judges = self._statistics(held_out, width) if held_out else [None] * len(known)
        ridges = list(RIDGES if held_out else [CAUTIOUS]) if self.ridge is None else [self.ridge]
        self.maps_ = [self._maps(*both, [ridges] * len(self._members())) for both in zip(known, judges, strict=True)]
        self.errors_ = self._measure(held_out or train)
        self.statistics_ = _total(before, self._statistics(series, width)) if self.refit else known
        if held_out and self.refit:
            self._solve()

    def _maps(
        self, known: WindowStatistics, judge: WindowStatistics | None, ridges: list[list[float]]
    ) -> list[LinearMap]:
        """One map for each member."""
        sizes = [(kind, min(context, self.context_)) for kind, context in self._members()]
        return [
            fit(kind, known, judge, context=context, horizon=self.horizon_, ridges=penalties)
            for (kind, context), penalties in zip(sizes, ridges, strict=True)
        ]

    def _solve(self) -> None:
        """The maps from all statistics, with the penalties that were chosen."""
        ridges = [[[each.ridge or 0.0] for each in maps] for maps in self.maps_]
        self.maps_ = [self._maps(known, None, chosen) for known, chosen in zip(self.statistics_, ridges, strict=True)]

    def _statistics(self, series: list[Series], width: int) -> list[WindowStatistics]:
        """Of all channels together, or of each."""
        C = series[0].values.shape[1]
        groups = [[c] for c in range(C)] if self.individual else [list(range(C))]
        return [
            window_statistics((np.column_stack([s.values[:, c], s.exogenous]) for s in series for c in group), width)
            for group in groups
        ]

    def _learn_more(self, series: list[Series], n_new: list[int]) -> None:
        width = self.context_ + self.horizon_
        added = self._statistics([each.last(n + width - 1) for each, n in zip(series, n_new, strict=True)], width)
        self.statistics_ = _total(self.statistics_, added)
        self._solve()

    def _forecast(self, windows: Windows) -> Floats:
        context = windows.context.transpose(0, 2, 1)  # [N, C, L]
        groups = [context] if len(self.maps_) == 1 else np.split(context, len(self.maps_), axis=1)
        each = [_mean_forecast(maps, part, windows) for maps, part in zip(self.maps_, groups, strict=True)]
        return (each[0] if len(each) == 1 else np.concatenate(each, axis=1)).transpose(0, 2, 1)

    def _pretrain(self, y: pd.DataFrame, X: pd.DataFrame | None = None, fh: ForecastingHorizon | None = None) -> Self:
        """Gather the statistics of other series, which those of a fit add to."""
        series = read_panel(y, X)
        self._check(series)
        before = getattr(self, "pretrained_statistics_", None)
        if before is None:
            if fh is None:
                raise InputError("pretraining has to know how far forecasts go: pass fh, as to fit")
            context, self.pretrained_horizon_ = super()._sizes(
                series, int(relative_steps(fh, series[0].times[-1:]).max())
            )
            width = context + self.pretrained_horizon_
        else:
            width = before[0].width
        scales = Scale.of(series, self.standardise)
        scaled = [self._prepared(each, scale) for each, scale in zip(series, scales, strict=True)]
        self.pretrained_statistics_ = _total(before, self._statistics(scaled, width))
        return self

    def _assumed_errors(self, n_channel: int) -> Errors:
        each = [np.mean([np.asarray(each.sigma) for each in maps], axis=0) for maps in self.maps_]
        return GaussianErrors(np.stack(each if self.individual else each * n_channel, axis=-1))

    def _get_learnt(self) -> Arrays:
        learnt: Arrays = {}
        for i, maps in enumerate(self.maps_):
            learnt |= {
                f"map.{i}.{j}.{name}": np.asarray(a) for j, m in enumerate(maps) for name, a in m.arrays().items()
            }
        for i, each in enumerate(getattr(self, "statistics_", [])):
            learnt[f"moments.{i}"] = each.moments
        return learnt

    def _set_learnt(self, learnt: Arrays) -> None:
        places = sorted({tuple(map(int, name.split(".")[1:3])) for name in learnt if name.startswith("map.")})
        self.maps_ = [[] for _ in range(1 + places[-1][0])]
        for i, j in places:
            parts = {name.split(".")[3]: array for name, array in learnt.items() if name.startswith(f"map.{i}.{j}.")}
            self.maps_[i].append(LinearMap.of(parts))
        moments = [learnt[f"moments.{i}"] for i in range(len(self.maps_)) if f"moments.{i}" in learnt]
        if moments:
            self.statistics_ = [WindowStatistics(self.context_ + self.horizon_, each) for each in moments]

    def weights(self) -> list[Floats]:
        """What a forecast is made of: `[H, L]` for each channel, or the one for all, in standardised units."""
        return [
            np.mean([np.pad(each.weights, ((0, 0), (self.context_ - each.context, 0))) for each in maps], axis=0)
            for maps in self.maps_
        ]


def _total(known: list[WindowStatistics] | None, added: list[WindowStatistics]) -> list[WindowStatistics]:
    return added if known is None else [a + b for a, b in zip(known, added, strict=True)]


def _mean_forecast(maps: list[LinearMap], context: Floats, windows: Windows) -> Floats:
    """The mean over maps `[N, C, H]` of contexts `[N, C, L]`; each reads the last part that it needs."""
    past, future = windows.past[:, None], windows.future[:, None]
    each = [m(context[..., -m.context :], past[:, :, -m.context :], future) for m in maps]
    mean: Floats = each[0] if len(each) == 1 else np.mean(each, axis=0)
    return mean


class _OneMap(ExactLinear):
    """One linear map, its context and how it is fitted."""

    _tags: ClassVar[dict[str, Any]] = {"capability:random_state": True, "property:randomness": "derandomized"}

    kind: ClassVar[str]

    def __init__(
        self,
        context: int = 336,
        individual: bool = False,
        ridge: float | None = None,
        solver: str = "exact",
        training: dict[str, Any] | None = None,
        interval: str = "gaussian",
        validation: float | int = 0.2,
        refit: bool = True,
        standardise: bool = True,
        random_state: int | None = None,
    ):
        self.context = context
        self.individual = individual
        self.ridge = ridge
        self.solver = solver
        self.training = training
        self.interval = interval
        self.validation = validation
        self.refit = refit
        self.standardise = standardise
        self.random_state = random_state
        super().__init__()

    def _members(self) -> list[tuple[str, int]]:
        return [(self.kind, self.context)]

    def _learn(self, series: list[Series]) -> None:
        if self.solver == "exact":
            super()._learn(series)
        elif self.solver == "sgd":
            self._train(*self._split(series))
        else:
            raise InputError(f"solver={self.solver!r}: there are 'exact' and 'sgd'")

    def _train(self, train: list[Series], held_out: list[Series]) -> None:
        """By gradient descent; as published, what is held out only chooses the epoch."""
        from helixwave_domains.forecasting import published_training
        from helixwave_domains.forecasting.estimators.network import settings_of

        if train[0].exogenous.shape[1]:
            raise InputError("solver='sgd' has no exogenous variables: solver='exact' takes them")
        maps = published_training.train(
            self.kind,
            *([each.values for each in part] for part in (train, held_out)),
            context=self.context_,
            horizon=self.horizon_,
            individual=self.individual,
            training=settings_of(self, published_training.PUBLISHED),
        )
        self.maps_ = [[each] for each in maps]
        self.errors_ = self._measure(held_out or train)

    def _learn_more(self, series: list[Series], n_new: list[int]) -> None:
        if self.solver == "exact":
            super()._learn_more(series, n_new)

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        return [{"context": 6}, {"context": 8, "individual": True, "ridge": 0.1, "interval": "conformal"}]


_SHARED_ARGS = """
    Parameters
    ----------
    context : int, default=336
        Steps that a forecast reads; fewer of a short series.
    individual : bool, default=False
        Whether each channel has weights of its own.
    ridge : float, optional
        The penalty; by default the best of eighteen on the part that is held out.
    solver : "exact" or "sgd", default="exact"
        Ridge regression on window statistics, or the published training: Adam, halved rates, patience of 3 epochs.
    training : dict, optional
        Settings of solver="sgd" other than the published ones, by their names in
        `helixwave_domains.forecasting.training.Training`: lr, epochs, batch_size, patience, device, progress and more.
    interval : "gaussian" or "conformal", default="gaussian"
        How intervals follow from errors on the part that is held out.
    validation : float or int, default=0.2
        The share, or the steps, at the end of each series that is held out to choose by.
    refit : bool, default=True
        Whether the final exact fit takes all, with the penalty that was chosen, or only what comes before the held out.
    standardise : bool, default=True
        Whether each channel is standardised by what it is fitted to.
    random_state : int, optional
        Seed of solver="sgd".
"""


class LinearForecaster(_OneMap):
    __doc__ = f"""A linear map from the context to the forecast, `y = W x + b` (Zeng et al. 2023), solved exactly.
{_SHARED_ARGS}
    Examples
    --------
    >>> from helixwave_domains.forecasting import LinearForecaster
    >>> from sktime.datasets import load_airline
    >>> forecaster = LinearForecaster(context=24).fit(load_airline(), fh=[1, 2, 3])
    >>> forecaster.predict().shape
    (3,)
    """

    kind = "linear"


class NLinearForecaster(_OneMap):
    __doc__ = f"""NLinear, a linear map of what the context is above its last value (Zeng et al. 2023), solved exactly.
{_SHARED_ARGS}
    Examples
    --------
    >>> from helixwave_domains.forecasting import NLinearForecaster
    >>> from sktime.datasets import load_airline
    >>> forecaster = NLinearForecaster(context=24).fit(load_airline(), fh=[1, 2, 3])
    >>> forecaster.predict_interval(coverage=0.9).shape
    (3, 2)
    """

    kind = "nlinear"


class DLinearForecaster(_OneMap):
    __doc__ = f"""DLinear, linear maps of a moving average and of the rest (Zeng et al. 2023), solved exactly.

    Without a penalty it is `LinearForecaster`: both say the same of a window.
{_SHARED_ARGS}
    Examples
    --------
    >>> from helixwave_domains.forecasting import DLinearForecaster
    >>> from sktime.datasets import load_airline
    >>> forecaster = DLinearForecaster(context=24).fit(load_airline(), fh=[1, 2, 3])
    >>> forecaster.predict().shape
    (3,)
    """

    kind = "dlinear"


class LinearEnsembleForecaster(ExactLinear):
    """The mean of several linear maps with contexts of different length, a linear map itself; all from one Gram.

    The default pair, NLinear over 1,080 steps and the mean-subtracted form over 336, has the least validation error of
    all pairs over the long-horizon benchmarks, see docs/forecasting.md.

    Parameters
    ----------
    members : sequence of (kind, context), default=(("nlinear", 1080), ("mean", 336))
        Kinds are "linear", "nlinear", "mean" and "dlinear".
    individual, ridge, interval, validation, refit, standardise
        As of `NLinearForecaster`; each member has a penalty of its own.

    Examples
    --------
    >>> from helixwave_domains.forecasting import LinearEnsembleForecaster
    >>> from sktime.datasets import load_airline
    >>> members = (("nlinear", 36), ("mean", 24))
    >>> forecaster = LinearEnsembleForecaster(members).fit(load_airline(), fh=[1, 2, 3])
    >>> forecaster.predict().shape
    (3,)
    """

    def __init__(
        self,
        members: tuple[tuple[str, int], ...] = (("nlinear", 1080), ("mean", 336)),
        individual: bool = False,
        ridge: float | None = None,
        interval: str = "gaussian",
        validation: float | int = 0.2,
        refit: bool = True,
        standardise: bool = True,
    ):
        self.members = members
        self.individual = individual
        self.ridge = ridge
        self.interval = interval
        self.validation = validation
        self.refit = refit
        self.standardise = standardise
        super().__init__()

    def _members(self) -> list[tuple[str, int]]:
        return [(str(kind), int(context)) for kind, context in self.members]

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        small = (("nlinear", 6), ("mean", 4))
        return [{"members": small}, {"members": small, "individual": True, "interval": "conformal"}]
