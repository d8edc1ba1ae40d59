"""Operations counted, against counts by hand."""

import math
import os

import pytest
import torch
import torch.nn.functional as F
from helixwave.operations import block_cost, count_operations
from helixwave_kernels import long_conv, short_conv
from torch import Tensor


def real(*shape: int) -> Tensor:
    return torch.ones(shape)


def waves(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.complex64)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda: real(3, 4) @ real(4, 5), 2 * 3 * 4 * 5),
        (lambda: waves(3, 4) @ waves(4, 5), 8 * 3 * 4 * 5),
        (lambda: real(2, 3, 5).baddbmm_(real(2, 3, 4), real(2, 4, 5)), 2 * 2 * 3 * 4 * 5),
        (lambda: torch.einsum("btd,de->bte", real(2, 7, 3), real(3, 5)), 2 * 2 * 7 * 3 * 5),
        (lambda: F.conv1d(real(1, 2, 10), real(4, 2, 3)), 2 * 8 * 4 * 2 * 3),
        (lambda: torch.fft.rfft(real(7, 64)), 7 * 2.5 * 64 * 6),
        (lambda: torch.fft.irfft(waves(7, 33)), 7 * 2.5 * 64 * 6),
        (lambda: torch.fft.fft(waves(7, 64)), 7 * 5 * 64 * 6),
        (lambda: torch.fft.fft2(waves(7, 8, 8)), 7 * 5 * 64 * 6),
        (lambda: real(3, 4).exp(), 12),
        (lambda: real(3, 4).mul_(2), 12),
        (lambda: real(3, 1) + real(4), 12),
        (lambda: real(12).addcmul_(real(12), real(12)), 24),
        (lambda: waves(5) * waves(5) + waves(5), 5 * 6 + 5 * 2),
        (lambda: real(3, 4).sum(1), 12),
        (lambda: real(3, 4).cumsum(1), 12),
        (lambda: torch.linalg.solve_triangular(real(2, 3, 3), real(2, 3, 5), upper=True), 2 * 3 * 3 * 5),
        (lambda: torch.cat([real(3, 4).T, real(4, 2)], 1)[:, 1:].contiguous().flip(0).to(torch.float64), 0),
        (lambda: real(3).masked_fill(real(3) > 2, 0), 0),
        (lambda: torch.arange(9) * 2, 0),
    ],
)  # fmt: skip
def test_count(function, expected) -> None:
    assert count_operations(function) == expected


def test_our_operators_are_counted_from_inside() -> None:
    x, kernel = real(1, 100, 3), real(3, 100)
    n = 200
    products = 6 * 3 * (n // 2 + 1)
    assert count_operations(long_conv, x, kernel) == round(3 * 3 * 2.5 * n * math.log2(n)) + products
    assert count_operations(short_conv, x, real(3, 4)) == 2 * 4 * 300
    # arguments that need gradients are no hindrance
    assert count_operations(short_conv, x, real(3, 4).requires_grad_()) == 2 * 4 * 300


def test_cost_of_blocks() -> None:
    mlp = block_cost({"name": "mlp"}, d_model=32, T=10)
    assert (mlp.parameters, mlp.state) == (32 * 128 * 2 + 128 + 32, 0)
    # without a gradient its GELU is six pointwise functions, one after the other
    assert mlp.operations == 2 * 2 * 32 * 128 + 6 * 128
    mamba = block_cost({"name": "mamba"}, d_model=32, T=64)
    assert mamba.state == 64 * (16 + 3)
    products = 2 * (32 * 128 + 64 * (2 + 2 * 16) + 2 * 64 + 64 * 32)
    # per channel: the convolution; per state, exp(delta A), delta A, the step and the output
    assert products + 64 * 8 + 64 * 16 * 5 < mamba.operations < products + 64 * 25 + 64 * 16 * 7
    assert block_cost({"name": "bidirectional"}, d_model=32, T=10).state is None


def test_the_choice_of_an_implementation_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIXWAVE_IMPL", "reference")
    count_operations(real, 1)
    assert os.environ["HELIXWAVE_IMPL"] == "reference"
    monkeypatch.delenv("HELIXWAVE_IMPL")
    with pytest.raises(ZeroDivisionError):
        count_operations(lambda: 1 / 0)
    assert "HELIXWAVE_IMPL" not in os.environ
