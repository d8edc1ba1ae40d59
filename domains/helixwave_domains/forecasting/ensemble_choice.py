"""Which linear maps to average: every pair of the family, judged on validation rows alone.

A mean of two maps is a linear map too, so its error on the validation windows follows from their second moments. Pairs
are ranked by the mean over all data sets and horizons of the logarithm of their squared error over that of NLinear with
336 steps. No test row is looked at.
"""

from collections.abc import Iterable
from itertools import combinations, product
from typing import TypeAlias

import numpy as np
from helixwave_kernels.bench.report import markdown

from helixwave_domains.forecasting.linear_maps import LinearMap
from helixwave_domains.forecasting.long_horizon import LongHorizon
from helixwave_domains.forecasting.ridge import fit
from helixwave_domains.forecasting.window_statistics import Floats, window_statistics

Member: TypeAlias = tuple[str, int]

MEMBERS: list[Member] = [*product(("linear", "nlinear", "mean"), (192, 336, 720, 1080))]
REFERENCE = ("nlinear", 336)


def pair_errors(source: LongHorizon, horizon: int) -> dict[tuple[Member, Member], float]:
    """Squared error on the validation windows of the mean of each two members, and of each with itself."""
    y, (train, validation, _) = source.y.to_numpy(), source.borders
    longest = max(context for _, context in MEMBERS)

    def part(begin: int, end: int) -> list[Floats]:
        return list(y[max(begin, 0) : end].T[:, :, None])

    residuals = {}
    for kind, context in MEMBERS:
        known = window_statistics(part(0, train), context + horizon)
        judge = window_statistics(part(train - context, validation), context + horizon)
        found = fit(kind, known, judge, context=context, horizon=horizon)
        residuals[kind, context] = _residual(found, longest)
    moments = window_statistics(part(train - longest, validation), longest + horizon).per_window()
    weighed = {member: rows @ moments for member, rows in residuals.items()}
    products = {
        (a, b): float((weighed[a] * residuals[b]).sum() / horizon)
        for a, b in [*combinations(MEMBERS, 2), *zip(MEMBERS, MEMBERS, strict=True)]
    }
    return {(a, b): (products[a, a] + 2 * products[a, b] + products[b, b]) / 4 for a, b in products}


def _residual(found: LinearMap, longest: int) -> Floats:
    """What is left of a window by a map, as rows over `(1, window)`: `[H, 1 + longest + H]`."""
    ahead = longest - found.context
    forecast = np.concatenate([found.bias[:, None], np.pad(found.weights, ((0, 0), (ahead, 0)))], axis=1)
    return np.concatenate([-forecast, np.eye(found.horizon)], axis=1)


def ranking(datasets: Iterable[str], shown: int = 5) -> str:
    """A table of the best pairs, and of the best single map."""
    logs: dict[tuple[Member, Member], list[float]] = {}
    for source in map(LongHorizon, datasets):
        for horizon in source.horizons:
            errors = pair_errors(source, horizon)
            for pair, error in errors.items():
                logs.setdefault(pair, []).append(np.log(error / errors[REFERENCE, REFERENCE]))
    ranked = sorted((float(np.mean(each)), pair) for pair, each in logs.items())
    single = next(each for each in ranked if each[1][0] == each[1][1])
    rows = [[_named(pair), f"{100 * np.expm1(mean):+.2f} %"] for mean, pair in [*ranked[:shown], single]]
    return markdown(["maps", "validation error against nlinear 336"], rows)


def _named(pair: tuple[Member, Member]) -> str:
    return " and ".join(f"{kind} {context}" for kind, context in dict.fromkeys(pair))
