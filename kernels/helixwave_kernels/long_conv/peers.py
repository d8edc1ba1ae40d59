"""What others offer for causal `long_conv`, to measure against."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.fft import irfft, rfft
from torch.nn.functional import conv1d, pad

# quadratic in T
LONGEST = {"torch conv1d": 1024}


def peers() -> dict[str, Callable[..., Any]]:
    return {"plain FFT of 2 T": _plain_fft, "torch conv1d": _torch_conv1d}


def _plain_fft(x: Tensor, kernel: Tensor, skip: Tensor, mode: str, return_state: bool) -> Tensor:
    """As published with Hyena and S4: transforms of twice the length along the time, differentiated by autograd."""
    T = x.shape[1]
    spectrum = rfft(x.mT, n=2 * T) * rfft(kernel, n=2 * T)
    return (irfft(spectrum, n=2 * T)[..., :T] + skip.unsqueeze(-1) * x.mT).mT


def _torch_conv1d(x: Tensor, kernel: Tensor, skip: Tensor, mode: str, return_state: bool) -> Tensor:
    """The sum itself, as a depthwise convolution."""
    D, L = kernel.shape
    y = conv1d(pad(x.mT, (L - 1, 0)), kernel.flip(1).unsqueeze(1), groups=D)
    return y.mT + skip * x
