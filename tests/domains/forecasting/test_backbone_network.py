"""The backbone's network against a plain one, and what it does not look at."""

from typing import Any

import numpy as np
import pytest
import torch
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave_domains.forecasting.backbone_network import BackboneNetwork
from helixwave_domains.forecasting.forecast_outputs import Gaussian, Output, Point, Quantiles
from helixwave_domains.forecasting.network_fit import fit, forecasting, predict
from helixwave_domains.forecasting.training import Training
from helixwave_domains.forecasting.window_normalisation import RevIN
from helixwave_domains.forecasting.windows import Windows
from torch import Tensor
from torch.testing import assert_close

L, H, C, K, D = 11, 3, 2, 2, 8
MIXES = pytest.mark.parametrize("mixes_channels", [False, True])
OUTPUTS = {"point": Point(), "gaussian": Gaussian(), "quantiles": Quantiles((0.1, 0.5, 0.9))}
OUTPUT = pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
MAMBA = {"name": "mamba", "d_state": 4}


def network(*, blocks: list[dict] | None = None, revin: dict | None = None, **options: Any) -> BackboneNetwork:
    torch.manual_seed(0)
    backbone = Backbone(D, n_layer=2, blocks=blocks or [MAMBA])
    options = {"patch": 4, **options}
    return BackboneNetwork(backbone, L, H, C, normalisation=RevIN(C, **(revin or {})), **options).eval()


def inputs(B: int = 3, n_exogenous: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    x = 4 + 2 * torch.randn(B, L, C, generator=generator)
    return (x, torch.randn(B, L + H, n_exogenous, generator=generator)) if n_exogenous else (x,)


def plain(model: BackboneNetwork, x: Tensor, exogenous: Tensor | None) -> Tensor:
    """Numbers for each step, window by window, written from the description; without missing values."""
    y = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    P, S, F = model.patch, model.stride, model.output.n_number
    starts = []
    while not starts or starts[-1] > 0:
        starts.append(L - P - S * len(starts))
    rows = []
    for b in range(len(x)):
        groups = [list(range(C))] if model.mixes_channels else [[c] for c in range(C)]
        numbers = []
        for group in groups:
            patches = []
            for start in reversed(starts):
                parts = []
                # all steps of one channel, then of the next; for each channel its values and its mask
                for c in group:
                    parts += [[y[b, t, c] if t >= 0 else 0.0 for t in range(start, start + P)]]
                    parts += [[1.0 if t >= 0 else 0.0 for t in range(start, start + P)]]
                for k in range(0 if exogenous is None else K):
                    parts += [[exogenous[b, t, k] if t >= 0 else 0.0 for t in range(start, start + P)]]
                patches.append(model.embedding(torch.tensor(parts).flatten()))
            hidden = model.backbone(torch.stack(patches)[None])[0].flatten()
            numbers.append(model.head(hidden).reshape(H, len(group), F))
        rows.append(torch.cat(numbers, 1))
    result = torch.stack(rows)
    if exogenous is not None:
        result = result + (exogenous[:, L:] @ model.exogenous_head.weight.T).reshape(len(x), H, C, F)
    return result


@MIXES
@pytest.mark.parametrize("n_exogenous", [0, K])
@pytest.mark.parametrize(("patch", "stride"), [(1, None), (4, None), (4, 3), (11, 2), (16, 16)])
def test_equals_the_plain_network(mixes_channels: bool, n_exogenous: int, patch: int, stride: int | None) -> None:
    output = OUTPUTS["gaussian"]
    model = network(mixes_channels=mixes_channels, n_exogenous=n_exogenous, patch=patch, stride=stride, output=output)
    x, *exogenous = inputs(2, n_exogenous)
    scale = (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    expected = output(plain(model, x, *(exogenous or [None])), lambda y: y * scale + x.mean(1, keepdim=True), scale)
    assert_close(model(x, *exogenous), expected, rtol=1e-4, atol=1e-4)


@OUTPUT
def test_a_forecast_moves_with_the_scale_of_its_window(output: Output) -> None:
    model = network(output=output)
    (x,) = inputs()
    y, moved = model(x), model(100 * x - 7)
    shift = torch.tensor([7.0, 0.0]) if isinstance(output, Gaussian) else 7
    expected = 100 * y - shift
    assert_close(moved, expected, rtol=1e-3, atol=1e-2)


def test_channels_are_forecast_alike_and_apart() -> None:
    model = network()
    (x,) = inputs()
    assert_close(model(x.flip(-1)), model(x).flip(-1))
    other = x.clone()
    other[..., 1] += torch.randn(3, L)
    assert torch.equal(model(other)[..., 0], model(x)[..., 0])


def test_mixed_channels_read_each_other() -> None:
    model = network(mixes_channels=True)
    (x,) = inputs()
    other = x.clone()
    other[..., 1] += torch.randn(3, L)
    assert (model(other)[..., 0] - model(x)[..., 0]).abs().max() > 1e-4


@MIXES
@OUTPUT
def test_missing_values_reach_no_number(mixes_channels: bool, output: Output) -> None:
    """Nor any gradient: they are told by the mask alone."""
    model = network(mixes_channels=mixes_channels, output=output, n_exogenous=K, revin={"affine": True})
    x, exogenous = inputs(4, K)
    whole = model(x, exogenous)
    x[0, 3, 0] = torch.nan
    x[1, :, 1] = torch.nan
    x[2] = torch.nan
    exogenous[3, [2, L]] = torch.nan
    y = model(x, exogenous)
    assert y.isfinite().all()
    assert (y - whole).abs().flatten(1).amax(1).min() > 1e-5
    output.loss(y, torch.ones(4, H, C)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@MIXES
def test_the_mask_tells_a_missing_value_from_a_mean_one(mixes_channels: bool) -> None:
    model = network(mixes_channels=mixes_channels, revin={"scale": False})
    (x,) = inputs()
    x[:, 3] = (x.sum(1) - x[:, 3]) / (L - 1)
    gap = x.clone()
    gap[:, 3] = torch.nan
    assert (model(gap) - model(x)).abs().max() > 1e-3
    # without the weights of the masks both are the same
    with torch.no_grad():
        model.embedding.weight.unflatten(1, (-1, 2, model.patch))[:, :, 1] = 0
    assert_close(model(gap), model(x))


def test_exogenous_variables_of_the_horizon_act_on_their_own_step() -> None:
    model = network(n_exogenous=K)
    x, exogenous = inputs(3, K)
    y = model(x, exogenous)
    ahead = exogenous.clone()
    ahead[:, L + 1] += 1
    assert torch.equal(model(x, ahead)[:, [0, 2]], y[:, [0, 2]])
    assert (model(x, ahead)[:, 1] != y[:, 1]).all()
    past = exogenous.clone()
    past[:, 5] += 1
    assert (model(x, past) != y).any()


@pytest.mark.parametrize(
    "blocks",
    [
        [{"name": "s4d", "d_state": 4}],
        [{"name": "mlstm", "n_head": 2}],
        [{"name": "slstm", "n_head": 2}],
        [{"name": "hyena", "l_max": 16, "d_filter": 8}],
        [{"name": "aaren", "n_head": 2}],
        [{"name": "bidirectional", "block": MAMBA}, {"name": "mlp"}],
    ],
    ids=["s4d", "mlstm", "slstm", "hyena", "aaren", "hybrid"],
)
def test_any_backbone_learns(blocks: list[dict]) -> None:
    T = np.arange(60)[:, None]
    windows = Windows([np.sin(T / 3 + [0, 1])], context=L, horizon=H)
    model = network(blocks=blocks)
    history = fit(model, windows, training=Training(epochs=8, lr=0.01))
    assert history[-1].loss < 0.5 * history[0].loss


@OUTPUT
def test_distributions_are_trained_and_predicted(output: Output) -> None:
    windows = Windows([np.random.default_rng(0).normal(size=(40, C))], context=L, horizon=H)
    model = network(output=output)
    fit(model, windows, objective=forecasting(output.loss), training=Training(epochs=1))
    shape = (1, H, C) if output.n_number == 1 else (1, H, C, output.n_number)
    assert predict(model, windows.latest()).shape == shape


@pytest.mark.parametrize("stride", [0, 5])
def test_a_stride_that_leaves_gaps(stride: int) -> None:
    with pytest.raises(InputError, match=f"stride is {stride}, expected from 1 to patch=4"):
        network(stride=stride)


def test_patches_without_steps() -> None:
    with pytest.raises(InputError, match="patch is 0, expected at least 1"):
        network(patch=0)


def test_windows_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"backbone network: x has shape \[1, 9, 2\], expected \[B, L, C\] with L=11"):
        network()(torch.zeros(1, 9, C))
    with pytest.raises(ValueError, match=r"exogenous has shape \[3, 12, 2\]"):
        network(n_exogenous=K)(*inputs(), torch.zeros(3, 12, K))
