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


def at_end(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The last valid position of every sequence: `[B, T, ...]` -> `[B, ...]`."""
    return x[:, -1] if lengths is None else x[torch.arange(len(x), device=x.device), lengths - 1]


def right_aligned(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Every sequence moved to the end of the batch, with zeros before it: `[B, T, D]` -> `[B, T, D]`.

    What starts from an empty state and adds nothing for zeros, such as a convolution, then ends with the last valid
    input of each sequence.
    """
    if lengths is None:
        return x
    source = torch.arange(x.shape[1], device=x.device) - (x.shape[1] - lengths[:, None])
    moved = x.gather(1, source.clamp(min=0)[..., None].expand_as(x))
    return moved.masked_fill((source < 0)[..., None], 0)


def left_aligned(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The reverse of `right_aligned`; padding gets values of no meaning."""
    if lengths is None:
        return x
    source = torch.arange(x.shape[1], device=x.device) + (x.shape[1] - lengths[:, None])
    return x.gather(1, source.clamp(max=x.shape[1] - 1)[..., None].expand_as(x))
