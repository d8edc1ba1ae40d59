"""The linear family: what each of its models reads of a window, and the map from a window to a forecast.

All four are `y = W z + b` with `z = R (x - r)` and the target less r, where x is the context, R a matrix and r a level
that the model takes from the context itself (Zeng et al. 2023, section 4; Toner & Darlow 2024, section 3):

| kind      | r              | R                                                        |
|-----------|----------------|----------------------------------------------------------|
| `linear`  | 0              | identity                                                 |
| `nlinear` | the last value | identity                                                 |
| `mean`    | the mean       | identity                                                 |
| `dlinear` | 0              | root of what a trend and a rest, penalised apart, weigh  |

Exogenous variables enter with their value at the step that is forecast, less the same level of their own context.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np

from helixwave_domains.forecasting.window_statistics import Floats

# Zeng et al. 2023, section 4: the trend is a moving average
MOVING_AVERAGE = 25


class Kind(NamedTuple):
    """A model of the family.

    Args:
        level: weights of r over a context of L steps, `[L]`.
        root: R for a context of L steps, `[L, L]`; None is the identity.
    """

    level: Callable[[int], Floats]
    root: Callable[[int], Floats] | None = None


def moving_average(context: int, width: int = MOVING_AVERAGE) -> Floats:
    """The matrix `[L, L]` of a centred moving average whose window sees the first and last value repeated."""
    rows = np.zeros((context, context))
    for shift in range(-(width // 2), width - width // 2):
        np.add.at(rows, (np.arange(context), np.clip(np.arange(context) + shift, 0, context - 1)), 1 / width)
    return rows


def _root_of_trend_and_rest(context: int) -> Floats:
    """R with `R'R = M'M + (I - M)'(I - M)`: the least `|W_rest|^2 + |W_trend|^2` behind a W is `|W R^-1|^2`."""
    trend = moving_average(context)
    rest = np.eye(context) - trend
    return np.asarray(np.linalg.cholesky(trend.T @ trend + rest.T @ rest).T, dtype=np.float64)


def _none(context: int) -> Floats:
    return np.zeros(context)


def _last(context: int) -> Floats:
    return np.eye(context)[-1]


def _mean(context: int) -> Floats:
    return np.full(context, 1 / context)


KINDS = {
    "linear": Kind(_none),
    "nlinear": Kind(_last),
    "mean": Kind(_mean),
    "dlinear": Kind(_none, _root_of_trend_and_rest),
}


@dataclass(frozen=True)
class LinearMap:
    """A forecast that is linear in its window.

    Args:
        weights: `[H, L]`, of the context.
        bias: `[H]`.
        exogenous: `[H, K]`, of each variable's value at the step that is forecast.
        level: of the level r that exogenous variables are taken less, `[L]`.
        sigma: standard deviation of the residual at each step `[H]`, where it was fitted exactly.
        ridge: the penalty that it was fitted with, likewise.
    """

    weights: Floats
    bias: Floats
    exogenous: Floats
    level: Floats
    sigma: Floats | None = None
    ridge: float | None = None

    @property
    def context(self) -> int:
        return self.weights.shape[1]

    @property
    def horizon(self) -> int:
        return len(self.weights)

    def __call__(self, context: Floats, past: Floats | None = None, future: Floats | None = None) -> Floats:
        """Forecasts `[..., H]` of contexts `[..., L]`; of exogenous variables `[..., L, K]`, `[..., H, K]`."""
        dtype = context.dtype
        # one product for all windows; where time is last in memory nothing is copied
        rows = context.reshape(-1, context.shape[-1])
        forecast: Floats = (rows @ self.weights.T.astype(dtype)).reshape(*context.shape[:-1], -1)
        forecast += self.bias.astype(dtype)
        if future is not None and past is not None and self.exogenous.size:
            level = np.einsum("...lk,l->...k", past, self.level)
            forecast = forecast + ((future - level[..., None, :]) * self.exogenous).sum(-1)
        return forecast

    def arrays(self) -> dict[str, Floats]:
        """Its parts by name, to be written."""
        return {field.name: np.asarray(v) for field in fields(self) if (v := getattr(self, field.name)) is not None}

    @classmethod
    def of(cls, arrays: dict[str, Floats]) -> "LinearMap":
        """The map of `arrays`."""
        parts: dict[str, Any] = {name: value.item() if name == "ridge" else value for name, value in arrays.items()}
        return cls(**parts)

    def first(self, horizon: int) -> "LinearMap":
        """The map to the first steps alone."""
        parts = {name: getattr(self, name)[:horizon] for name in ("weights", "bias", "exogenous")}
        return replace(self, **parts, sigma=None if self.sigma is None else self.sigma[:horizon])
