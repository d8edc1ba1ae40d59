"""Other forms of `diagonal_ssm` to measure it beside."""

from collections.abc import Callable

import torch
from torch import Tensor

# the kernel of every state at every lag at once, [D, N, T], takes gigabytes beyond
LONGEST = {"S4D kernel and FFT": 16384}


def peers() -> dict[str, Callable[..., Tensor]]:
    """By name, with the same arguments as the operator."""
    return {"S4D kernel and FFT": kernel_and_fft}


def kernel_and_fft(
    u: Tensor, A: Tensor, B: Tensor, C: Tensor, dt: Tensor, skip: Tensor, discretization: str = "zoh"
) -> Tensor:
    """S4D's short form (Gu et al. 2022, listing 1): the kernel by one sum over all states, then an FFT convolution."""
    assert discretization == "zoh"
    T = u.shape[1]
    z = dt.unsqueeze(-1) * A
    weights = B * C * (torch.exp(z) - 1) / A
    powers = torch.exp(z.unsqueeze(-1) * torch.arange(T, device=u.device))
    kernel = 2 * torch.einsum("dn,dnl->dl", weights, powers).real
    spectrum = torch.fft.rfft(u.mT, n=2 * T) * torch.fft.rfft(kernel, n=2 * T)
    return torch.fft.irfft(spectrum, n=2 * T)[..., :T].mT + skip * u
