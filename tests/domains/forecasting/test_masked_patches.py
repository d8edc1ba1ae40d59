"""Pretraining with hidden patches: what is hidden, and what it is held to."""

import numpy as np
import pytest
import torch
from helixwave.backbone import Backbone
from helixwave_domains.forecasting.backbone_network import BackboneNetwork
from helixwave_domains.forecasting.forecast_losses import squared_error
from helixwave_domains.forecasting.forecast_outputs import Output, Point, Quantiles
from helixwave_domains.forecasting.masked_patches import MaskedPatches, masked_loss
from helixwave_domains.forecasting.network_fit import fit
from helixwave_domains.forecasting.training import Training
from helixwave_domains.forecasting.window_normalisation import RevIN
from helixwave_domains.forecasting.windows import Windows
from torch.testing import assert_close

L, H, C, P, D = 22, 3, 2, 4, 8


def masked(
    output: Output | None = None, mixes_channels: bool = False, stride: int = P, **options: float
) -> MaskedPatches:
    torch.manual_seed(0)
    network = BackboneNetwork(
        Backbone(D, n_layer=1, blocks=[{"name": "mamba", "d_state": 4}]),
        L,
        H,
        C,
        normalisation=RevIN(C),
        patch=P,
        stride=stride,
        mixes_channels=mixes_channels,
        output=output,
    )
    return MaskedPatches(network, **options)  # type: ignore[arg-type]


def windows(T: int = 60) -> Windows:
    return Windows([np.sin(np.arange(T)[:, None] / 3 + [0, 1])], context=L, horizon=H)


def test_hidden_patches_are_runs_from_the_end() -> None:
    x = torch.zeros(4000, 48, C)
    torch.manual_seed(0)
    hidden = masked(share=0.5, longest=3).hide(x)
    assert hidden.shape == (4000, 48, 1)
    patches = hidden.reshape(4000, 12, P)
    assert (patches == patches[..., :1]).all()
    # a probability uniform in [0, 0.5]
    assert patches.float().mean().item() == pytest.approx(0.25, abs=0.01)
    starts = patches[..., 0].int().diff(dim=1, prepend=torch.zeros(4000, 1)).eq(1).sum()
    n_patch = patches[..., 0].sum()
    assert 1.5 < (n_patch / starts).item() < 4
    assert not masked(share=0.0).hide(x).any()


def test_the_first_patch_may_be_cut() -> None:
    torch.manual_seed(0)
    hidden = masked(share=1.0, longest=1).hide(torch.zeros(64, L, C))[..., 0]
    assert (hidden[:, :2] == hidden[:, :1]).all()
    for start in range(2, L, P):
        assert (hidden[:, start : start + P] == hidden[:, start : start + 1]).all()


@pytest.mark.parametrize("mixes_channels", [False, True])
@pytest.mark.parametrize("stride", [P, 2])
@pytest.mark.parametrize("output", [Point(), Quantiles((0.2, 0.5, 0.9))], ids=["point", "quantiles"])
def test_guesses_stand_where_their_patches_do(output: Output, stride: int, mixes_channels: bool) -> None:
    module = masked(output, mixes_channels, stride)
    network, batch = module.network, windows().batch(np.arange(3))
    reading = network.read(batch.context, None)
    guesses = module.guess(reading)
    N, F = network.n_patch, output.n_number
    numbers = module.hidden_head(reading.hidden)  # [B or B * C, N, ...]
    # patch n ends behind step L - (N - 1 - n) * stride; what it says is about the last steps up to there
    for n in range(N):
        stop = L - (N - 1 - n) * stride
        for s in range(stride):
            t = stop - stride + s
            if t < L - guesses.shape[1]:
                continue
            if mixes_channels:
                one = numbers[:, n].reshape(3, stride, C, F)[:, s]
            else:
                one = numbers[:, n].reshape(3, C, stride, F)[:, :, s]
            expected = network.say(one[:, None], reading.statistics)[:, 0]
            assert_close(guesses[:, guesses.shape[1] - L + t], expected)
    assert guesses.shape[1] == min(L, N * stride)


def test_loss_in_training_is_of_forecast_and_hidden_values() -> None:
    module = masked(share=0.9)
    batch = windows().batch(np.arange(8))
    batch.context[0, 5] = torch.nan
    torch.manual_seed(4)
    loss = module.train().loss(batch)
    torch.manual_seed(4)
    hidden = module.hide(batch.context)
    assert hidden.any()
    visible = torch.where(hidden, torch.nan, batch.context)
    guesses = module.guess(module.network.read(visible, None))
    wanted = hidden.expand_as(batch.context) & ~batch.context.isnan()
    error = (guesses[wanted] - batch.context[wanted]).square().mean()
    assert_close(loss, squared_error(module.network(visible), batch.target) + error)


def test_in_evaluation_nothing_is_hidden() -> None:
    module = masked(share=0.9).eval()
    batch = windows().batch(np.arange(8))
    assert_close(module.loss(batch), squared_error(module(batch.context), batch.target))


def test_pretraining_learns_what_is_hidden() -> None:
    module = masked(share=0.6)
    batch = windows().batch(np.arange(30))
    hidden = torch.zeros(30, L, 1, dtype=torch.bool)
    hidden[:, 6:10] = True

    def error() -> float:
        with torch.no_grad():
            guesses = module.guess(module.network.read(batch.context.masked_fill(hidden, torch.nan), None))
        return (guesses - batch.context)[:, 6:10].square().mean().item()

    before = error()
    fit(module, windows(), objective=masked_loss, training=Training(epochs=40, lr=0.02, seed=1))
    assert error() < 0.5 * before
