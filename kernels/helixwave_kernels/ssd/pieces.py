"""How the chunked operators go through long sequences: rows `[rows, T, ...]` in pieces of several chunks.

What is computed for a piece stays in the cache, and its chunks are one batch of matrix products. The state before each
piece is kept; the backward pass computes all else again.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 64
# numbers of one input that are worked on at once
PIECE = 2**18
# the logarithm of a decay that clears the state: its exponential is 0 in float64 too, and 64 of them add up exactly
CLEARED = -1024.0


def cleared(log_decay: Tensor, reset: Tensor | None) -> Tensor:
    """Finite logarithms of the decays `[B, T, ...]`, those of the resets included."""
    if reset is not None:
        log_decay = log_decay.masked_fill(reset.reshape(*reset.shape, *(1,) * (log_decay.ndim - 2)), CLEARED)
    return log_decay.clamp(min=CLEARED)


def piece_length(*sizes: int) -> int:
    """Steps in a piece, a multiple of the chunk, where a step has as many numbers as the product of `sizes`."""
    return CHUNK * max(1, PIECE // (CHUNK * math.prod(sizes)))


def n_states(T: int, length: int) -> int:
    """States that are kept: before each piece, and after the last one."""
    return -(-T // length) + 1


def blocks(n_row: int, T: int, length: int) -> list[tuple[slice, list[slice]]]:
    """Rows that are worked on together, and their pieces; several rows only where each is a single piece."""
    together = max(1, length // T)
    pieces = [slice(start, min(start + length, T)) for start in range(0, T, length)]
    return [(slice(start, min(start + together, n_row)), pieces) for start in range(0, n_row, together)]


def chunks(piece: Tensor, Q: int) -> Tensor:
    """A piece `[rows, T, ...]` in chunks `[n, Q, ...]`; zeros at the end change neither states nor outputs."""
    T = piece.shape[1]
    if T % Q:
        piece = F.pad(piece, (0, 0) * (piece.ndim - 2) + (0, -T % Q))
    return piece.reshape(-1, Q, *piece.shape[2:])


def put_chunks(piece: Tensor, values: Tensor) -> None:
    """Writes chunks `[n, Q, ...]` into the piece `[rows, T, ...]` that they are of."""
    piece.copy_(values.reshape(len(piece), -1, *piece.shape[2:])[:, : piece.shape[1]])


def forgotten(product: Tensor, decay: Tensor, across: Tensor, *, rows: bool = False) -> Tensor:
    """A product with decays, zero where they are: what they forget has no influence, be it not a number.

    Args:
        product: whose factors `decay` broadcasts over.
        across: the decays across whole chunks; they tell at little cost whether there are decays of zero at all.
        rows: the product sums over the decays' last axis; it is zero where they are zero along all of that.
    """
    if across.all():
        return product
    clears = (decay == 0).all(-1, keepdim=True) if rows else decay == 0
    return product.masked_fill(clears, 0)


def passed_on(added: Tensor, across: Tensor, h: Tensor, *, reverse: bool = False) -> tuple[Tensor, Tensor]:
    """Carries states over the chunks of a piece.

    Args:
        added: what each chunk adds, `[n, ...]`.
        across: decays across each chunk; broadcast over `added`.
        h: states before the piece (behind it if `reverse`), `[rows, ...]`.

    Returns:
        the states that reach each chunk, shaped like `added`, and those that leave the piece, shaped like `h`.
    """
    reached = torch.empty_like(added)
    steps = zip(*(tensor.unflatten(0, (len(h), -1)).unbind(1) for tensor in (reached, added, across)), strict=True)
    some_forget = not across.all()
    for reached_c, added_c, across_c in reversed(list(steps)) if reverse else steps:
        reached_c.copy_(h)
        if some_forget:
            h = h.masked_fill(across_c == 0, 0)
        h = torch.addcmul(added_c, across_c, h)
    return reached, h
