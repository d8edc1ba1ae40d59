"""Spectra equal those of torch."""

import pytest
import torch
from helixwave.errors import InputError
from helixwave_domains.ecg.xlstm_ecg import Spectra
from torch.testing import assert_close


@pytest.mark.parametrize(("T", "n_fft", "hop"), [(1, 8, 4), (37, 16, 4), (100, 32, 7)])
def test_power_is_that_of_a_short_time_fourier_transform(T: int, n_fft: int, hop: int) -> None:
    x = torch.randn(2, T, 3)
    spectra = Spectra(3, 4, n_fft=n_fft, hop=hop)
    wanted = torch.stft(
        x.transpose(1, 2).flatten(0, 1),
        n_fft,
        hop,
        window=torch.hann_window(n_fft),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    n = -(-T // hop)
    power = wanted.abs().square()[..., :n].unflatten(0, (2, 3)).permute(0, 3, 1, 2)
    assert_close(spectra.power(x), power, rtol=1e-4, atol=1e-4)
    found, lengths = spectra(x, torch.tensor([T, 1]))
    assert found.shape == (2, n, 4)
    assert lengths is not None
    assert lengths.tolist() == [n, 1]


def test_a_flat_lead_has_a_finite_gradient() -> None:
    x = torch.zeros(1, 20, 1, requires_grad=True)
    Spectra(1, 2, n_fft=8, hop=4)(x)[0].sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_errors() -> None:
    for n_fft, hop in ((7, 2), (0, 2), (8, 0)):
        with pytest.raises(InputError, match=f"n_fft is {n_fft} and hop {hop}, expected an even number"):
            Spectra(1, 2, n_fft=n_fft, hop=hop)
