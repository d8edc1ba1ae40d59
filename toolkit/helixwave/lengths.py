"""Right-padded batches: what is valid, what comes last, and the same sequences backwards."""

import torch
from torch import Tensor


def valid_mask(lengths: Tensor, T: int) -> Tensor:
    """True where a position belongs to its sequence: `[B]` -> `[B, T]`."""
    return torch.arange(T, device=lengths.device) < lengths[:, None]


def last_valid(x: Tensor, n: int, lengths: Tensor | None = None) -> Tensor:
    """The last `n` valid inputs of every sequence, zeros before its first: `[B, T, D]` -> `[B, n, D]`."""
    B, T, D = x.shape
    if lengths is None:
        kept = x[:, max(T - n, 0) :]
        return torch.cat([x.new_zeros(B, n - T, D), kept], dim=1) if n > T else kept
    position = lengths[:, None] - n + torch.arange(n, device=x.device)
    picked = x.gather(1, position.clamp(0, T - 1)[..., None].expand(B, n, D))
    return picked.masked_fill((position < 0)[..., None], 0)


def reverse_valid(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Every sequence backwards within its own length; padding stays where it is: `[B, T, D]` -> `[B, T, D]`."""
    if lengths is None:
        return x.flip(1)
    position = torch.arange(x.shape[1], device=x.device)
    mirrored = lengths[:, None] - 1 - position
    source = torch.where(mirrored >= 0, mirrored, position)
    return x.gather(1, source[..., None].expand_as(x))
