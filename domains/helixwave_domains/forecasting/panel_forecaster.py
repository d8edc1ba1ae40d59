"""Registered forecasters, called with panels of arrays."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from helixwave.errors import InputError
from helixwave.registry import FORECASTERS

from helixwave_domains.forecasting.estimators.frames import forecast_array, future_frame, sktime_frames
from helixwave_domains.forecasting.panels import Floats, Panel


class Forecast(NamedTuple):
    """The next steps of a panel.

    Args:
        mean: point forecasts `[N, H, C]`.
        quantiles: `[N, H, C, Q]`, Q = 0 where none were asked for.
    """

    mean: Floats
    quantiles: Floats


class PanelForecaster:
    """A forecaster of sktime on panels of arrays.

    Args:
        model: any that has `fit`, `update`, `predict`, `predict_quantiles` and tags.
        name: for messages.
    """

    def __init__(self, model: Any, name: str):
        self.model, self.name = model, name

    @property
    def has_quantiles(self) -> bool:
        return bool(self.model.get_tag("capability:pred_int"))

    def fit(self, panel: Panel, horizon: int) -> None:
        """Fit it to the panel, for forecasts of so many steps.

        Raises:
            InputError: it cannot read such a panel, or refuses for a reason of its own.
        """
        self._expect_readable(panel)
        y, X = sktime_frames(panel)
        with self._in_its_name():
            self.model.fit(y, X=X, fh=np.arange(1, horizon + 1))

    def read(self, panel: Panel, learn: bool) -> None:
        """Go on to the end of a panel that begins with what was read before; `learn` from what is new, or not.

        Raises:
            InputError: the panel ends before what was read, or does not reach back to it.
        """
        self._expect_readable(panel)
        if (known := list(self.model._get_varnames())) != list(panel.targets):
            raise InputError(
                f"{self.name} was fitted to {', '.join(map(str, known))}, the targets are {', '.join(panel.targets)}. "
                "Name the same with --target"
            )
        y, X = sktime_frames(panel)
        times = y.index.get_level_values(-1)
        cutoff = self.model.cutoff[0]
        n_new = times[times > cutoff].nunique()
        if cutoff not in times or n_new >= min(map(len, panel.series)):
            raise InputError(
                f"{self.name} has read up to {cutoff}, expected that time in each series, and they are from "
                f"{times.min()} to {times.max()}. Take a longer file, or fit again"
            )
        with self._in_its_name():
            self.model.update(y, X=X, update_params=learn)

    def forecast(self, panel: Panel, horizon: int, levels: Sequence[float] = ()) -> Forecast:
        """The next steps of the panel that was read last, and their quantiles at some levels.

        Raises:
            InputError: it was fitted for another horizon.
        """
        if (fitted := len(self.model.fh)) != horizon:
            raise InputError(
                f"{self.name} was fitted to forecast {fitted} steps, not {horizon}. Take --horizon {fitted}"
            )
        X = future_frame(panel, horizon)
        steps = np.arange(1, horizon + 1)
        with self._in_its_name():
            mean = forecast_array(self.model.predict(fh=steps, X=X), panel, horizon)
            if not levels:
                return Forecast(mean, np.empty((*mean.shape, 0)))
            found = self.model.predict_quantiles(fh=steps, X=X, alpha=list(levels))
            quantiles = forecast_array(found, panel, horizon)
        return Forecast(mean, quantiles.reshape(*mean.shape, len(levels)))

    def _expect_readable(self, panel: Panel) -> None:
        if panel.exogenous and not self.model.get_tag("capability:exogenous"):
            raise InputError(
                f"{self.name} takes no exogenous or static columns. Leave them out, or take another --model"
            )
        missing = sum(int(np.isnan(series.values).sum()) for series in panel.series)
        if missing and not self.model.get_tag("capability:missing_values"):
            raise InputError(f"{self.name} takes no missing values, and there are {missing}. Add --missing interpolate")

    @contextmanager
    def _in_its_name(self) -> Iterator[None]:
        """sktime says by ValueError what it cannot do with the data or the parameters."""
        try:
            with _without_future_warnings():
                yield
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"{self.name}: {error}") from error


@contextmanager
def _without_future_warnings() -> Iterator[None]:
    """What libraries will change is not for those who use the command line; sktime puts itself before any filter."""
    with warnings.catch_warnings(record=True) as caught:
        yield
    for each in caught:
        if not issubclass(each.category, FutureWarning):
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def build(name: str, settings: Mapping[str, Any], season: int) -> PanelForecaster:
    """A registered forecaster.

    Args:
        name: under which it is registered.
        settings: arguments of its constructor; a seed is 0 and `sp` the season unless they say otherwise.
        season: steps of a season.

    Raises:
        InputError: an unknown name or argument, or a value of the wrong type.
    """
    known = FORECASTERS.signature(name).parameters
    given = {key: value for key, value in {"random_state": 0, "sp": season}.items() if key in known}
    return PanelForecaster(FORECASTERS.build({"name": name, **given, **settings}), name)


def takes_season(name: str) -> bool:
    """Whether a registered forecaster has the argument `sp`, as sktime calls the steps of a season."""
    return "sp" in FORECASTERS.signature(name).parameters
