"""Softmax attention over a sliding window."""

from typing import Literal

import torch
import torch.nn.functional as F
from helixwave_kernels.shapes import compute_dtype
from torch import Tensor, nn

from helixwave.blocks.rotary import Rotary
from helixwave.errors import InputError
from helixwave.lengths import last_valid, valid_mask

AttentionState = tuple[Tensor, Tensor, Tensor]

# a score that leaves no weight beside any other, and fits every dtype
_HIDDEN = -3e4


class Attention(nn.Module):
    """Multi-head softmax attention with rotary positions, over a sliding window (Attention).

    `y_t = sum_s softmax_s(q_t k_s / sqrt(K)) v_s` over the `window` positions up to t, or over those less than `window`
    away on either side if bidirectional. Cost `O(T window)`; the state is the last `window - 1` keys and values and the
    number of positions seen. Without a window the cost is `O(T^2)`, the state grows by a key and a value with every
    position, and a position costs as much as there are before it. Sources: Vaswani et al., "Attention Is All You Need",
    2017, section 3.2; Beltagy et al., "Longformer", 2020, section 3.1 for the window.

    Args:
        mode: `causal`, or `bidirectional` without a state.
        window: positions that one position sees on one side, itself included; None: all of them.
        n_head: heads of queries.
        n_kv_head: heads of keys and values, each shared by `n_head / n_kv_head` heads of queries; None: `n_head`.
        rotary: rotary positions; without them a causal block knows the order only by what it may see.
        theta: of the rotary positions; larger ones tell positions apart over longer distances.
        bias: biases of the projections.
    """

    causal = True

    def __init__(
        self,
        d_model: int,
        *,
        mode: Literal["causal", "bidirectional"] = "causal",
        window: int | None = 1024,
        n_head: int = 4,
        n_kv_head: int | None = None,
        rotary: bool = True,
        theta: float = 10000.0,
        bias: bool = False,
    ):
        super().__init__()
        self.causal, self.window = mode == "causal", window
        self.n_head, self.n_kv_head = n_head, n_head if n_kv_head is None else n_kv_head
        self.d_head = head_width("the model", d_model, n_head)
        if self.n_kv_head < 1 or n_head % self.n_kv_head:
            raise InputError(f"n_kv_head is {n_kv_head}, expected a divisor of n_head, which is {n_head}")
        if window is not None and window < 1:
            raise InputError(f"window is {window}, expected at least 1 (the position itself), or None for no limit")
        self.in_proj = nn.Linear(d_model, (n_head + 2 * self.n_kv_head) * self.d_head, bias=bias)
        self.rotary = Rotary(self.d_head, theta) if rotary else None
        self.out_proj = nn.Linear(d_model, d_model, bias=bias)

    def forward(
        self, x: Tensor, state: AttentionState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, AttentionState | None]:  # [B, T, D] -> [B, T, D]
        if lengths is not None:
            x = x.masked_fill(~valid_mask(lengths, x.shape[1])[..., None], 0)
        y, end = (self._look_back if self.causal else self._look_around)(x, state, lengths)
        return self.out_proj(y.flatten(-2)), end

    def _look_back(
        self, x: Tensor, state: AttentionState | None, lengths: Tensor | None
    ) -> tuple[Tensor, AttentionState]:
        T, window = x.shape[1], self.window
        q, k, v = self._project(x, None if state is None else state[2])
        past_keys, past_values, seen = self._nothing_seen(k) if state is None else state
        keys, values = torch.cat([past_keys.to(k), k], dim=1), torch.cat([past_values.to(v), v], dim=1)
        n_past = past_keys.shape[1]
        if state is None and (window is None or window >= T):
            y = attend(q, k, v, is_causal=True)
        else:
            # what lies in the buffer from before the first position is nothing
            visible = torch.arange(n_past + T, device=x.device) >= n_past - seen[:, None]
            y = attend(q, keys, values, visible[:, None, None]) if T == 1 else self._slide(q, keys, values, visible)
        n_kept = n_past + T if window is None else n_past
        n_valid = None if lengths is None else n_past + lengths
        seen = seen + (T if lengths is None else lengths)
        return y, (_last(keys, n_kept, n_valid), _last(values, n_kept, n_valid), seen)

    def _look_around(self, x: Tensor, state: AttentionState | None, lengths: Tensor | None) -> tuple[Tensor, None]:
        if state is not None:
            raise ValueError(
                "attention: a state cannot be carried over, bidirectional attention needs what comes later"
            )
        (B, T, _), window = x.shape, self.window
        q, k, v = self._project(x)
        if window is None or window >= T:
            return attend(q, k, v, None if lengths is None else valid_mask(lengths, T)[:, None, None]), None
        visible = x.new_ones(B, T, dtype=torch.bool) if lengths is None else valid_mask(lengths, T)
        beyond = (window - 1, window - 1)
        keys, values = F.pad(k, (0, 0, 0, 0, *beyond)), F.pad(v, (0, 0, 0, 0, *beyond))
        return self._slide(q, keys, values, F.pad(visible, beyond)), None

    def _project(self, x: Tensor, seen: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries `[B, T, H, K]`, keys and values, turned by their positions after the `seen` ones `[B]`."""
        heads = self.in_proj(x).unflatten(-1, (-1, self.d_head))
        turned, v = heads.split([self.n_head + self.n_kv_head, self.n_kv_head], dim=2)
        if self.rotary is not None:
            position = torch.arange(x.shape[1], device=x.device)[None]
            turned = self.rotary(turned, position if seen is None else position + seen[:, None])
        q, k = turned.split([self.n_head, self.n_kv_head], dim=2)
        return q, k, v

    def _nothing_seen(self, k: Tensor) -> AttentionState:
        B, _, *head = k.shape
        empty = k.new_zeros(B, 0 if self.window is None else self.window - 1, *head)
        return empty, empty, torch.zeros(B, dtype=torch.int64, device=k.device)

    def _slide(self, q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
        """Queries `[B, T, H, K]`; the one at t sees the keys t to t + reach, where `k` and `v` have T + reach rows.

        Blocks of queries with the keys that they see are rows of one batch. `visible` `[B, T + reach]` goes into one
        more channel of the keys, so that one mask does for all blocks. A query that sees nothing visible gets something
        finite.
        """
        T, K = q.shape[1], q.shape[-1]
        reach = k.shape[1] - T
        # a longer block looks at more that it must not see, a shorter one copies more keys
        n_block = 1 if self.window is None else -(-T // max(self.window // 4, 64))
        C = -(-T // n_block)
        rest = (0, 0, 0, n_block * C - T)
        score = torch.zeros_like(visible, dtype=k.dtype).masked_fill(~visible, _HIDDEN)
        k = torch.cat([k, score[..., None, None].expand(*k.shape[:3], 1)], dim=-1)
        queries = F.pad(F.pad(q, (0, 1), value=K**0.5), (0, 0, *rest)).unflatten(1, (n_block, C)).flatten(0, 1)
        # a channel of zeros, since fast implementations want values as wide as keys
        values = F.pad(v, (0, 1))
        # unfold gives views [B, blocks, H, K, keys]
        keys, values = (F.pad(part, (0, 0, *rest)).unfold(1, C + reach, C).movedim(-1, 2) for part in (k, values))
        mask = q.new_ones(C, C + reach, dtype=torch.bool).tril(reach)
        mask = mask if self.window is None else mask.triu()
        y = attend(queries, keys.flatten(0, 1), values.flatten(0, 1), mask, scale=K**-0.5)
        return y.unflatten(0, (-1, n_block)).flatten(1, 2)[:, :T, :, :K]


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Softmax attention with the sequence first: `[B, T, H, K]`, and `[B, S, G, K]` where G divides H."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    shared = q.shape[1] != k.shape[1]
    y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal, scale=scale, enable_gqa=shared)
    return y.transpose(1, 2)


def head_width(what: str, channels: float, n_head: int) -> int:
    """Channels of one head; an InputError if they cannot be shared out evenly."""
    if n_head < 1 or channels < n_head or channels % n_head:
        raise InputError(f"n_head is {n_head}, expected a divisor of the {channels:g} channels of {what}")
    return round(channels) // n_head


def _last(rows: Tensor, n: int, lengths: Tensor | None) -> Tensor:
    """The last `n` valid rows `[B, n, H, K]`, in float32 or wider."""
    return last_valid(rows.flatten(2), n, lengths).unflatten(-1, rows.shape[2:]).to(compute_dtype(rows))
