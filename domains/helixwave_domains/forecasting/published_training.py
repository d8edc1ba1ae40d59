"""The linear family trained as published, by gradient descent; what comes out is a linear map like any other.

Zeng et al. 2023, and the scripts of LTSF-Linear: Adam on the squared error, 10 epochs at most, rates halved after each
epoch from the second on, the epoch with the least validation loss kept, patience 3.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from helixwave_domains.forecasting.linear_maps import LinearMap
from helixwave_domains.forecasting.linear_networks import DLinear, LTSFLinear, NLinear
from helixwave_domains.forecasting.network_fit import fit, seeded
from helixwave_domains.forecasting.training import Training
from helixwave_domains.forecasting.window_statistics import Floats
from helixwave_domains.forecasting.windows import Windows

NETWORKS = {"linear": LTSFLinear, "nlinear": NLinear, "dlinear": DLinear}
PUBLISHED = Training(epochs=10, batch_size=32, lr=0.005, schedule="type1", patience=3)


def train(
    kind: str,
    series: Sequence[Floats],
    held_out: Sequence[Floats],
    *,
    context: int,
    horizon: int,
    individual: bool = False,
    training: Training = PUBLISHED,
) -> list[LinearMap]:
    """The linear maps of a trained network: one for all channels, or one for each with `individual`.

    Args:
        kind: a key of `NETWORKS`.
        series, held_out: arrays `[T, C]` without missing values; the second, which may be none, choose the epoch.
    """
    with seeded(training.seed):
        network = NETWORKS[kind](context, horizon, series[0].shape[1], individual=individual)
    windows = partial(Windows, context=context, horizon=horizon)
    fit(network, windows(series), windows(held_out) if held_out else None, training=training)
    maps = linear_maps(network, context, series[0].shape[1])
    return maps if individual else maps[:1]


def linear_maps(network: torch.nn.Module, context: int, n_channel: int) -> list[LinearMap]:
    """The map of each channel of a network that is affine in its context, read off its answers."""
    units = torch.cat([torch.zeros(1, context), torch.eye(context)]).unsqueeze(-1).expand(-1, -1, n_channel)
    with torch.no_grad():
        answers = network(units).double().numpy()  # [1 + L, H, C]
    nothing = np.zeros((answers.shape[1], 0))
    return [
        LinearMap(weights=(rows[1:] - rows[0]).T, bias=rows[0], exogenous=nothing, level=np.zeros(context))
        for rows in np.moveaxis(answers, 2, 0)
    ]
