"""The linear family solved exactly: ridge regression on the second moments of windows.

The penalty is `ridge n |W|^2` for n windows, the bias is free. All penalties share one eigenbasis, in which one
is scored on the validation windows' moments in O(L^2), without another look at the data. That least squares solves
these models, and that they are one model under different constraints: Toner & Darlow 2024, "An Analysis of Linear Time
Series Forecasting Models".
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from helixwave_domains.forecasting.linear_maps import KINDS, Kind, LinearMap
from helixwave_domains.forecasting.window_statistics import Floats, WindowStatistics

# half decades; the first is no penalty but what rounding needs
RIDGES = (1e-8, *np.logspace(-5, 3, 17).tolist())
# where there is nothing to choose by: forecasts stay near the level
CAUTIOUS = 1.0


class Moments(NamedTuple):
    """Means over windows of the products of features z, exogenous variables e of each step, targets y, and 1.

    Args:
        z, y, e: `[p]`, `[H]`, `[H, K]`.
        zz, yz, yy: `[p, p]`, `[H, p]`, `[H]`.
        ez, ee, ye: `[H, K, p]`, `[H, K, K]`, `[H, K]`.
    """

    z: Floats
    y: Floats
    e: Floats
    zz: Floats
    yz: Floats
    yy: Floats
    ez: Floats
    ee: Floats
    ye: Floats

    def about(self, z: Floats, y: Floats, e: Floats) -> "Moments":
        """The same of what is left after these constants have been taken away."""
        return Moments(
            self.z - z,
            self.y - y,
            self.e - e,
            self.zz - np.outer(self.z, z) - np.outer(z, self.z) + np.outer(z, z),
            self.yz - np.outer(self.y, z) - np.outer(y, self.z) + np.outer(y, z),
            self.yy - 2 * self.y * y + y**2,
            self.ez - np.multiply.outer(self.e, z) - np.multiply.outer(e, self.z) + np.multiply.outer(e, z),
            self.ee - _outer(self.e, e) - _outer(e, self.e) + _outer(e, e),
            self.ye - self.e * y[:, None] - e * self.y[:, None] + e * y[:, None],
        )


def _outer(a: Floats, b: Floats) -> Floats:
    return a[:, :, None] * b[:, None, :]


def moments(statistics: WindowStatistics, kind: Kind, context: int, horizon: int) -> Moments:
    """What a regression of the last `horizon` steps of a window on the `context` before them has to know."""
    V, W = statistics.n_variable, statistics.width
    means = statistics.per_window()
    first, level = means[0, 1:].reshape(V, W), np.zeros(W)
    begin, end = W - horizon - context, W - horizon
    lags, level[begin:end] = slice(begin, end), kind.level(context)
    root = None if kind.root is None else kind.root(context)

    def features(rows: Floats) -> Floats:  # [..., W] -> [..., p]
        centred: Floats = rows[..., lags] - (rows @ level)[..., None]
        return centred if root is None else centred @ root.T

    products = means[1:, 1:].reshape(V, W, V, W)
    from_level = np.einsum("vawb,a->vwb", products, level)  # [V, V, W]: of the level of v with each step of w
    ahead = products[:, end:] - from_level[:, None]  # [V, H, V, W]: of each target, less its level
    both = _steps(products, ahead, level, end)  # [V, V, H]
    lagged = features(products[0, :, 0])
    zz = features(lagged.T)
    return Moments(
        z=features(first[0]),
        y=first[0, end:] - first[0] @ level,
        e=(first[1:, end:] - (first[1:] @ level)[:, None]).T,
        zz=(zz + zz.T) / 2,
        yz=features(ahead[0, :, 0]),
        yy=both[0, 0],
        ez=features(ahead[1:, :, 0]).transpose(1, 0, 2),
        ee=both[1:, 1:].transpose(2, 0, 1),
        ye=both[0, 1:].T,
    )


def _steps(products: Floats, ahead: Floats, level: Floats, end: int) -> Floats:
    """Of two variables at one step, each less its level: `[V, V, H]`."""
    at_step = np.einsum("vhwh->vwh", ahead[..., end:])
    return at_step - np.einsum("vhwb,b->vwh", ahead, level)


class _Path(NamedTuple):
    """A regression in the eigenbasis of its features, for any penalty."""

    train: Moments
    values: Floats
    basis: Floats
    yz: Floats
    ez: Floats

    def solve(self, ridge: float) -> tuple[Floats, Floats]:
        """Coefficients of the features, in the eigenbasis, and of the exogenous variables: `[H, p]`, `[H, K]`."""
        inverse = 1 / (self.values + ridge)
        if not self.train.ee.size:
            return self.yz * inverse, self.train.ye
        scaled = self.ez * inverse
        left = self.train.ee + ridge * np.eye(self.train.ee.shape[1]) - scaled @ self.ez.transpose(0, 2, 1)
        right = self.train.ye - np.einsum("hkp,hp->hk", scaled, self.yz)
        of_exogenous = np.linalg.solve(left, right[..., None])[..., 0]
        return (self.yz - np.einsum("hkp,hk->hp", self.ez, of_exogenous)) * inverse, of_exogenous

    def in_basis(self, judge: Moments) -> Moments:
        """The moments of other windows, their features in the eigenbasis."""
        zz = self.basis.T @ judge.zz @ self.basis
        return judge._replace(zz=zz, yz=judge.yz @ self.basis, ez=judge.ez @ self.basis)

    def best(self, ridges: Sequence[float], judge: Moments) -> float:
        """The penalty with the least squared error on windows `in_basis`."""
        if len(ridges) == 1:
            return ridges[0]
        return min(ridges, key=self._score(judge))

    def _score(self, judge: Moments) -> Callable[[float], float]:
        """Squared error of a penalty, less a constant: in O(L^2) where there are no exogenous variables."""
        if self.train.ee.size:
            return lambda ridge: float(error(*self.solve(ridge), judge).sum())
        pairs, cross = (self.yz.T @ self.yz) * judge.zz, (self.yz * judge.yz).sum(0)

        def score(ridge: float) -> float:
            inverse = 1 / (self.values + ridge)
            return float(inverse @ (pairs @ inverse - 2 * cross))

        return score


def error(of_features: Floats, of_exogenous: Floats, judge: Moments) -> Floats:
    """Mean squared error of each step, `[H]`, of coefficients on windows about the training means."""
    of_z = ((of_features @ judge.zz - 2 * judge.yz) * of_features).sum(1)
    cross = np.einsum("hkp,hp->hk", judge.ez, of_features) - judge.ye
    squares = np.einsum("hkl,hk,hl->h", judge.ee, of_exogenous, of_exogenous)
    total: Floats = judge.yy + of_z + 2 * (cross * of_exogenous).sum(1) + squares
    return total.clip(min=0)


def _path(train: Moments) -> _Path:
    values, basis = np.linalg.eigh(train.zz)
    return _Path(train, values.clip(min=0), basis, train.yz @ basis, train.ez @ basis)


def fit(
    kind: str,
    train: WindowStatistics,
    validation: WindowStatistics | None = None,
    *,
    context: int,
    horizon: int,
    ridges: Sequence[float] = RIDGES,
) -> LinearMap:
    """The linear map of a kind that fits best, with the penalty that is best on the validation windows.

    Args:
        kind: a key of `KINDS`.
        train, validation: statistics over windows of at least `context + horizon` steps, of the series and its
            exogenous variables. Without any for validation there must be a single penalty.
    """
    if validation is None and len(ridges) > 1:
        raise ValueError(f"{len(ridges)} penalties and no validation windows to choose by")
    chosen = KINDS[kind]
    raw = moments(train, chosen, context, horizon)
    means = raw.z, raw.y, raw.e
    path = _path(raw.about(*means))
    judge = path.train if validation is None else moments(validation, chosen, context, horizon).about(*means)
    judge = path.in_basis(judge)
    ridge = path.best(ridges, judge)
    of_features, of_exogenous = path.solve(ridge)
    squared = error(of_features, of_exogenous, judge)
    return _linear_map(chosen, of_features @ path.basis.T, of_exogenous, means, squared, ridge)


def _linear_map(
    kind: Kind, of_features: Floats, of_exogenous: Floats, means: tuple[Floats, ...], squared: Floats, ridge: float
) -> LinearMap:
    context = of_features.shape[1]
    level = kind.level(context)
    raw = of_features if kind.root is None else of_features @ kind.root(context)
    z, y, e = means
    return LinearMap(
        weights=raw - np.outer(raw.sum(1), level) + level,
        bias=y - of_features @ z - (of_exogenous * e).sum(1),
        exogenous=of_exogenous,
        level=level,
        sigma=np.sqrt(squared),
        ridge=ridge,
    )
