"""What our forecasters share: sktime's contract on the outside, arrays of scaled windows on the inside."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias

import numpy as np
import pandas as pd
from helixwave.errors import InputError
from numpy.typing import NDArray
from sktime.forecasting.base import BaseForecaster, ForecastingHorizon

from helixwave_domains.forecasting.conformal import ERRORS, Arrays, ConformalErrors, Errors, GaussianErrors, evenly
from helixwave_domains.forecasting.estimators.panel import (
    Key,
    Series,
    exogenous_at,
    filled,
    following,
    frequency,
    read_panel,
    write_panel,
)
from helixwave_domains.forecasting.window_statistics import Floats

Singles: TypeAlias = NDArray[np.float32]

# windows that errors are measured on, evenly spread: neighbours have most steps in common
JUDGED = 500
FRAMES = ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"]


# what is learnt already, while a saved forecaster is read
_LEARNT: ContextVar[Arrays | None] = ContextVar("learnt", default=None)


@contextmanager
def learnt(arrays: Arrays) -> Iterator[None]:
    """Within, a fit takes over what a forecaster had learnt, and learns nothing."""
    token = _LEARNT.set(arrays)
    try:
        yield
    finally:
        _LEARNT.reset(token)


class Scale(NamedTuple):
    """Location and spread of channels `[C]` and exogenous variables `[K]`, from what a series was fitted to."""

    mean: Floats
    std: Floats
    exogenous_mean: Floats
    exogenous_std: Floats

    @classmethod
    def of(cls, panel: Sequence[Series], standardise: bool) -> "list[Scale]":
        """Those of each series; exogenous variables have one for all, so that what tells series apart stays."""
        exogenous = np.concatenate([each.exogenous for each in panel])
        shared = _location_and_spread(exogenous, standardise)
        return [cls(*_location_and_spread(each.values, standardise), *shared) for each in panel]

    def apply(self, series: Series) -> Series:
        """The series without its unit."""
        values = (series.values - self.mean) / self.std
        exogenous = (series.exogenous - self.exogenous_mean) / self.exogenous_std
        return Series(series.key, series.times, values, exogenous)


def _location_and_spread(values: Floats, standardise: bool) -> tuple[Floats, Floats]:
    """Mean and population standard deviation of what is known, 0 and 1 where nothing is or all is equal."""
    if not standardise:
        return np.zeros(values.shape[1]), np.ones(values.shape[1])
    known = ~np.isnan(values)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, values, 0).sum(0) / count
    std = np.sqrt((np.where(known, values - mean, 0) ** 2).sum(0) / count)
    return mean, np.where(std > 1e-12 * np.maximum(np.abs(mean), 1), std, 1.0)


class Labels(Sequence[pd.Index]):
    """Labels of time of windows that begin at these steps, cut out when they are asked for: few models are."""

    def __init__(self, times: pd.Index, starts: NDArray[np.int64], length: int):
        self.times, self.starts, self.length = times, starts, length

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, i: Any) -> Any:
        return self.times[self.starts[i] : self.starts[i] + self.length]


class Windows(NamedTuple):
    """What a model reads: contexts `[N, L, C]` with exogenous variables `[N, L, K]`, `[N, H, K]`, and their times.

    `past_times` and `future_times` hold for each window its labels of time, `[L]` and `[H]`.
    """

    context: Floats
    past: Floats
    future: Floats
    past_times: Sequence[pd.Index]
    future_times: Sequence[pd.Index]


class WindowForecaster(BaseForecaster):
    """A forecaster of one series or of a panel with shared parameters; subclasses say how to learn and to forecast.

    Series and exogenous variables are standardised by what they are fitted to. Missing values are interpolated between
    others and repeated at the ends, or told to the network where it can use that. The last part of each series, where
    it is long enough, is held out to choose settings by and to measure errors on, from which intervals follow.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "authors": ["helixwave"],
        "maintainers": ["helixwave"],
        "python_dependencies": ["torch"],
        "y_inner_mtype": FRAMES,
        "X_inner_mtype": FRAMES,
        "capability:multivariate": True,
        "capability:exogenous": True,
        "capability:insample": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
        "capability:missing_values": True,
        "capability:unequal_length": True,
        "capability:update": True,
        "requires-fh-in-fit": True,
    }
    _config: ClassVar[dict[str, Any]] = {"remember_data": False}
    # sktime sets them only where data is remembered from the start, and reads them where it is from later on
    _y = _X = None

    # parameters that each subclass has
    standardise: bool
    interval: str
    validation: float | int
    # what a fit sets
    errors_: Errors

    @property
    @abstractmethod
    def _longest_context(self) -> int:
        """Steps that a forecast reads, where series are long enough."""

    @abstractmethod
    def _learn(self, series: list[Series]) -> None:
        """Fit `horizon_` steps to scaled series, choose by what `_split` holds out of them, and set `errors_`."""

    @abstractmethod
    def _forecast(self, windows: Windows) -> Floats:
        """Forecasts `[N, H, C]` of scaled windows."""

    @abstractmethod
    def _get_learnt(self) -> Arrays:
        """Everything that `_learn` sets but the errors."""

    @abstractmethod
    def _set_learnt(self, learnt: Arrays) -> None:
        """Set what `_get_learnt` returned; sizes and scales are set."""

    def _learn_more(self, series: list[Series], n_new: list[int]) -> None:
        """Learn from the last `n_new` steps of scaled series; settings, scales and errors stay."""

    def _fit(self, y: pd.DataFrame, X: pd.DataFrame | None, fh: ForecastingHorizon) -> Self:
        self.exogenous_names_ = [] if X is None else list(X.columns)
        series = read_panel(y, X)
        self.index_names_, self.frequency_ = list(y.index.names), frequency(max(series, key=len).times)
        if known := _LEARNT.get():
            self._take(known, series)
        else:
            self._check(series)
            self.context_, self.horizon_ = self._sizes(series, int(relative_steps(fh, self.cutoff).max()))
            scales = Scale.of(series, self.standardise)
            self.scales_ = {each.key: scale for each, scale in zip(series, scales, strict=True)}
            self._learn([self._scaled(each) for each in series])
        self.histories_ = {each.key: each.last(self._remembered()) for each in series}
        return self

    def _take(self, known: Arrays, series: list[Series]) -> None:
        """What a saved forecaster had learnt, in place of learning."""
        self.context_, self.horizon_ = known["sizes"].tolist()
        self.scales_ = {each.key: Scale(**_under(f"scale.{i}", known)) for i, each in enumerate(series)}
        errors = _under("errors", known)
        self.errors_ = (GaussianErrors if "sigma" in errors else ConformalErrors)(**errors)
        self._set_learnt(_under("learnt", known))

    def _given(self) -> Arrays:
        """What `_take` takes."""
        parts = {"errors": vars(self.errors_), "learnt": self._get_learnt()}
        parts |= {f"scale.{i}": scale._asdict() for i, scale in enumerate(self.scales_.values())}
        named = {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}
        return {"sizes": np.array([self.context_, self.horizon_]), **named}

    def _check(self, series: list[Series]) -> None:
        if self._longest_context < 1:
            raise InputError(f"context is {self._longest_context}, expected at least 1")
        if self.validation < 0 or (not isinstance(self.validation, int) and self.validation >= 1):
            raise InputError(f"validation is {self.validation}, expected a share below 1 or a number of steps")
        if self.interval not in ERRORS:
            raise InputError(f"interval={self.interval!r}: there are {', '.join(map(repr, ERRORS))}")
        for each in series:
            if empty := [str(c) for c in np.flatnonzero(np.isnan(each.values).all(0))]:
                where = f" of series {each.key}" if each.key else ""
                raise InputError(f"column {', '.join(empty)}{where} holds missing values alone: leave it out")

    def _sizes(self, series: list[Series], horizon: int) -> tuple[int, int]:
        """Context and horizon; the longest series has at least as many windows as the context has steps."""
        longest = max(map(len, series))
        if longest <= horizon:
            raise InputError(
                f"the longest series has {longest} steps, and {horizon} are to be forecast: fitting takes more than "
                "that. Shorten the horizon, or pretrain on longer series."
            )
        return max(1, min(self._longest_context, (longest - horizon) // 2)), horizon

    def _remembered(self) -> int:
        return self.context_ + self.horizon_

    def _scaled(self, series: Series) -> Series:
        return self._prepared(series, self.scales_[series.key])

    def _prepared(self, series: Series, scale: Scale) -> Series:
        """A series as the model reads it."""
        scaled = scale.apply(series)
        return Series(scaled.key, scaled.times, filled(scaled.values), filled(scaled.exogenous))

    def _split(self, series: list[Series]) -> tuple[list[Series], list[Series]]:
        """The first part of each series, and the rest with a context before it; what is short is not split."""
        train, held_out = list[Series](), list[Series]()
        for each in series:
            n_held = self.validation if isinstance(self.validation, int) else int(len(each) * self.validation)
            n_train = len(each) - n_held
            if n_held >= self.horizon_ and n_train >= self.context_ + self.horizon_:
                train.append(each.first(n_train))
                held_out.append(each.last(n_held + self.context_))
            else:
                train.append(each)
        return train, held_out

    def _measure(self, series: Sequence[Series]) -> Errors:
        """Errors of forecasts on windows of these series; a panel's series are one sample."""
        width = self.context_ + self.horizon_
        counts = [max(0, len(each) - width + 1) for each in series]
        chosen = np.asarray(evenly(sum(counts), JUDGED))
        if not len(chosen):
            return self._assumed_errors(series[0].values.shape[1])
        errors, before = [], 0
        for each, count in zip(series, counts, strict=True):
            starts = chosen[(chosen >= before) & (chosen < before + count)] - before
            before += count
            if len(starts):
                read = _single(each)
                # a target that is missing is interpolated, so that each step has an error
                targets = self._targets(filled(read.values), starts)
                errors.append(targets - self._forecast(self._windows(read, starts)))
        return ERRORS[self.interval].of(np.concatenate(errors))

    def _assumed_errors(self, n_channel: int) -> Errors:
        """Errors where no series has a window of its own, which takes a pretrained forecaster."""
        raise NotImplementedError(f"{type(self).__name__} has learnt nothing of errors before the fit")

    def _targets(self, values: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[Any]:
        """What came after the contexts that begin at these steps, `[n, H, C]`."""
        return _stretches(values, self.horizon_, starts + self.context_)

    def _windows(self, series: Series, starts: NDArray[np.int64]) -> Windows:
        """What a model reads of the windows of a series that begin at these steps."""
        L, H = self.context_, self.horizon_
        ahead = starts + L
        times = (Labels(series.times, begins, n) for begins, n in ((starts, L), (ahead, H)))
        past, future = _stretches(series.exogenous, L, starts), _stretches(series.exogenous, H, ahead)
        return Windows(_stretches(series.values, L, starts), past, future, *times)

    def _update(self, y: pd.DataFrame, X: pd.DataFrame | None = None, update_params: bool = True) -> Self:
        if X is None and self.exogenous_names_:
            names = ", ".join(map(str, self.exogenous_names_))
            raise InputError(f"an update came without X, and the fit had {names}: pass X with a row for each of y")
        news = read_panel(y, self._ordered(X))
        if unknown := [each.key for each in news if each.key not in self.histories_]:
            names = ", ".join(map(str, unknown))
            raise InputError(f"series {names} came with an update and were not fitted: fit again with all")
        longer = [each.after(self.histories_[each.key]) for each in news]
        n_new = [len(each) - len(self.histories_[each.key]) for each in longer]
        if update_params:
            self._learn_more([self._scaled(each) for each in longer], n_new)
        self.histories_ |= {each.key: each.last(self._remembered()) for each in longer}
        return self

    def _predict(self, fh: ForecastingHorizon, X: pd.DataFrame | None = None) -> pd.DataFrame:
        return self._in_frame(self._forecasts(fh, X), fh)

    def _predict_quantiles(self, fh: ForecastingHorizon, X: pd.DataFrame | None, alpha: list[float]) -> pd.DataFrame:
        steps = self._steps(fh)
        spread = np.stack([self.errors_.quantile(level)[steps] for level in alpha], axis=-1)  # [len(fh), C, Q]
        parts = []
        for key, mean in self._forecasts(fh, X):
            quantiles = mean[..., None] + spread * self.scales_[key].std[:, None]
            parts.append((key, quantiles.reshape(len(mean), -1)))
        columns = pd.MultiIndex.from_product([self._get_varnames(), alpha])
        return self._in_frame(parts, fh, columns)

    def _steps(self, fh: ForecastingHorizon) -> NDArray[np.int64]:
        """Places among the forecast steps of those that are asked for."""
        return relative_steps(fh, self.cutoff) - 1

    def _forecasts(self, fh: ForecastingHorizon, X: pd.DataFrame | None) -> Iterator[tuple[Key, Floats]]:
        """Forecasts of the wanted steps `[len(fh), C]` of each series, in its unit."""
        X = self._ordered(X)
        steps, times = self._steps(fh), self._times(np.arange(1, self.horizon_ + 1))
        for key, history in self.histories_.items():
            scale = self.scales_[key]
            future = np.zeros((len(times), 0))
            if history.exogenous.shape[1]:
                _check_future(X, key, times[steps])
                future = filled((exogenous_at(X, key, times) - scale.exogenous_mean) / scale.exogenous_std)
            recent = self._recent(history)
            windows = Windows(recent.values[None], recent.exogenous[None], future[None], [recent.times], [times])
            yield key, self._forecast(windows)[0][steps] * scale.std + scale.mean

    def _ordered(self, X: pd.DataFrame | None) -> pd.DataFrame | None:
        """The exogenous variables of the fit, in its order."""
        if X is None or not self.exogenous_names_:
            return None
        if missing := [str(name) for name in self.exogenous_names_ if name not in X.columns]:
            came = ", ".join(map(str, X.columns))
            raise InputError(f"X lacks {', '.join(missing)}, which the fit had; it has {came}. Pass the same columns")
        return X[self.exogenous_names_]

    def predict_windows(self, y: pd.DataFrame, at_once: int = 128) -> Iterator[tuple[Singles, Singles]]:
        """Forecasts of every window of another stretch of a fitted series, and what came, as a backtest needs them.

        Nothing is learnt from `y`. Missing values are read as in a fit, and stay missing in what came.

        Args:
            y: one series with the columns of the fit.
            at_once: windows of one batch.

        Yields:
            forecasts and targets `[n, H, C]` in the unit of `y`, in order of time, in float32.
        """
        (series,) = read_panel(y, None)
        scale = self.scales_[series.key]
        scaled = self._prepared(series, scale)
        read = _single(scaled)
        std, mean, values = (x.astype(np.float32) for x in (scale.std, scale.mean, series.values))
        count = len(series) - self.context_ - self.horizon_ + 1
        for start in range(0, count, at_once):
            starts = np.arange(start, min(start + at_once, count))
            forecast = np.asarray(self._forecast(self._windows(read, starts)), dtype=np.float32)
            forecast *= std
            forecast += mean
            yield forecast, self._targets(values, starts)

    def _recent(self, history: Series) -> Series:
        """The scaled context of a forecast; before a shorter series its first value is repeated."""
        recent = self._scaled(history).last(self.context_)
        ahead = self.context_ - len(recent)
        values, exogenous = (np.pad(x, ((ahead, 0), (0, 0)), "edge") for x in (recent.values, recent.exogenous))
        return Series(recent.key, recent.times, values, exogenous)

    def _times(self, steps: NDArray[np.int64]) -> pd.Index:
        """Labels of steps after the series."""
        ahead = following(self.cutoff, int(steps[-1]), self.frequency_)
        if ahead is not None:
            return ahead[steps - 1]
        return ForecastingHorizon(steps, is_relative=True, freq=self.frequency_).to_absolute_index(self.cutoff)

    def _in_frame(self, parts: Any, fh: ForecastingHorizon, columns: pd.Index | None = None) -> pd.DataFrame:
        times = self._times(self._steps(fh) + 1)
        columns = pd.Index(self._get_varnames()) if columns is None else columns
        return write_panel([(key, times, values) for key, values in parts], self.index_names_, columns)


def _single(series: Series) -> Series:
    """The series in float32: enough to judge by, at half the cost."""
    return replace(series, values=series.values.astype(np.float32), exogenous=series.exogenous.astype(np.float32))


def _stretches(values: NDArray[Any], length: int, starts: NDArray[np.int64]) -> NDArray[Any]:
    """Rows from each start on, `[n, length, C]`; in memory time is last, as products over time want it."""
    return np.lib.stride_tricks.sliding_window_view(values, length, axis=0)[starts].transpose(0, 2, 1)


def _under(prefix: str, arrays: Arrays) -> Arrays:
    """The arrays whose names begin so, without it."""
    return {name.removeprefix(f"{prefix}."): array for name, array in arrays.items() if name.startswith(f"{prefix}.")}


def relative_steps(fh: ForecastingHorizon, cutoff: Any) -> NDArray[np.int64]:
    """The steps that are asked for, counted from 1, the first after the series."""
    return np.asarray(fh.to_relative(cutoff).to_pandas(), dtype=np.int64)


def _check_future(X: pd.DataFrame | None, key: Key, times: pd.Index) -> None:
    rows = times[:0] if X is None else (X.xs(key, level=list(range(len(key)))) if key else X).index
    missing = times.difference(rows)
    if len(missing):
        of = f" of series {key}" if key else ""
        raise InputError(
            f"exogenous variables{of} at {missing[0]}: {len(times) - len(missing)} of {len(times)} steps that are "
            "forecast have a row in X, and the forecast of a step takes their values there. Pass X with a row for each."
        )
