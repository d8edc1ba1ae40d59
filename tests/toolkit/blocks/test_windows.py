import pytest
import torch
from helixwave.blocks import windows
from helixwave.blocks.windows import windowed_conv
from torch import Tensor

D = 3


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def direct(x: Tensor, kernel: Tensor, skip: Tensor, past: Tensor) -> Tensor:
    """The sum over all lags, with `past` `[B, S, D]` before the inputs, oldest first."""
    inputs, before = torch.cat([past, x], dim=1), past.shape[1]
    y = torch.zeros_like(x)
    for t in range(x.shape[1]):
        y[:, t] = skip * x[:, t]
        for lag in range(min(kernel.shape[1], before + t + 1)):
            y[:, t] += kernel[:, lag] * inputs[:, before + t - lag]
    return y


@pytest.mark.parametrize("T", [1, 2, 7, 20])
@pytest.mark.parametrize("L", [1, 2, 8])
@pytest.mark.parametrize("goes_on", [False, True])
def test_is_the_sum_over_all_lags(T: int, L: int, goes_on: bool) -> None:
    x, kernel, skip = random(2, T, D), random(D, L, seed=1), random(D, seed=2)
    past = random(2, L - 1, D, seed=3) if goes_on else torch.zeros(2, L - 1, D, dtype=torch.float64)
    window = past.mT.flip(-1) if goes_on else None
    y, end = windowed_conv(x, kernel, skip, window, None, n_window=L - 1)
    torch.testing.assert_close(y, direct(x, kernel, skip, past))
    torch.testing.assert_close(end, torch.cat([past, x], dim=1)[:, T:].mT.flip(-1))


def test_window_is_that_of_each_sequence() -> None:
    """Padding is garbage; sequences end at 5, 2 and 1, and an earlier window goes on where one is shorter than it."""
    x, kernel, skip = random(3, 5, D), random(D, 4, seed=1), random(D, seed=2)
    before = random(3, D, 3, seed=3)
    lengths = torch.tensor([5, 2, 1])
    for i, length in enumerate(lengths.tolist()):
        x[i, length:] = 1e3
    for window in (None, before):
        y, end = windowed_conv(x, kernel, skip, window, lengths, n_window=3)
        for i, length in enumerate(lengths.tolist()):
            own = None if window is None else window[i : i + 1]
            y_alone, end_alone = windowed_conv(x[i : i + 1, :length], kernel, skip, own, None, n_window=3)
            torch.testing.assert_close(y[i : i + 1, :length], y_alone)
            torch.testing.assert_close(end[i : i + 1], end_alone)


def test_one_step_needs_no_transform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(windows, "long_conv")
    y, _ = windowed_conv(random(2, 1, D), random(D, 4), random(D), random(2, D, 3), None, n_window=3)
    assert y.shape == (2, 1, D)


def test_leaves_the_window_that_it_goes_on_from() -> None:
    window = random(2, D, 3)
    kept = window.clone()
    for T in (1, 4):
        windowed_conv(random(2, T, D, seed=1), random(D, 4), random(D), window, None, n_window=3)
    assert window.equal(kept)


def test_gradients_of_one_step() -> None:
    def step(x: Tensor, kernel: Tensor, skip: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
        return windowed_conv(x, kernel, skip, window, None, n_window=3)

    tensors = random(2, 1, D), random(D, 4, seed=1), random(D, seed=2), random(2, D, 3, seed=3)
    assert torch.autograd.gradcheck(step, [tensor.requires_grad_() for tensor in tensors])


@pytest.mark.parametrize("T", [1, 6])
def test_windows_are_float32_whatever_the_inputs_are(T: int) -> None:
    kernel, skip, x = random(D, 4).float(), random(D).float(), random(2, T, D, seed=1).bfloat16()
    y, window = windowed_conv(x, kernel, skip, None, None, n_window=3)
    y_next, window_next = windowed_conv(x, kernel, skip, window, None, n_window=3)
    assert y.dtype == y_next.dtype == torch.bfloat16
    assert window.dtype == window_next.dtype == torch.float32
