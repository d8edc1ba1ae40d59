"""ProbSparse attention: the queries that tell keys apart attend, the others take the mean.

Source: Zhou et al., "Informer", 2021, section 3.1 and algorithm 1, with the details of the published code.
"""

import math

import torch
from torch import Tensor, nn

# keys up to which one dense product takes less time than the sampled scores one by one
_DENSE = 512


def prob_attention(q: Tensor, k: Tensor, v: Tensor, sampled: Tensor, *, n_active: int, causal: bool = False) -> Tensor:
    """Softmax attention for the `n_active` queries of a sequence and head that score highest; a mean for the others.

    A query's score is `max - sum / L_K` of its products with the keys drawn for it. The mean is that of all values;
    if causal, it is the sum of the values up to the query, as published.

    Args:
        q: `[B, L_Q, H, K]`.
        k: `[B, L_K, H, K]`.
        v: `[B, L_K, H, V]`.
        sampled: numbers of the keys drawn for each query `[L_Q, U]`, the same for all sequences and heads.
        n_active: from 1 to `L_Q`; with `L_Q` of them this is full attention.
        causal: queries see keys up to their own place; `L_Q` and `L_K` are equal.

    Returns:
        `[B, L_Q, H, V]`.
    """
    active = _scores(q, k, sampled).topk(n_active, dim=-1, sorted=False).indices[..., None]  # [B, H, u, 1]
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    logits = q.take_along_dim(active, dim=2) @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if causal:
        logits = logits.masked_fill(torch.arange(k.shape[2], device=k.device) > active, -math.inf)
        idle = v.cumsum(2)
    else:
        idle = v.mean(2, keepdim=True).expand(-1, -1, q.shape[2], -1)
    attended = logits.softmax(-1) @ v
    return idle.scatter(2, active.expand_as(attended), attended).transpose(1, 2)


@torch.no_grad()
def _scores(q: Tensor, k: Tensor, sampled: Tensor) -> Tensor:
    """How far each query is from treating its sampled keys alike: `[B, H, L_Q]`."""
    if k.shape[1] <= _DENSE:
        products = torch.einsum("blhk,bshk->bhls", q, k)
        products = products.take_along_dim(sampled[None, None], dim=-1)
        return products.amax(-1) - products.sum(-1) / k.shape[1]
    # `largest` and `total` take no more memory than the queries
    largest, total = q.new_full(q.shape[:3], -math.inf), q.new_zeros(q.shape[:3])
    for number in sampled.unbind(1):
        product = (q * k[:, number]).sum(-1)
        largest, total = torch.maximum(largest, product), total + product
    return (largest - total / k.shape[1]).transpose(1, 2)


class ProbAttention(nn.Module):
    """ProbSparse attention over `[B, L, H, K]` with keys drawn anew in each training step.

    Draws `factor * ceil(ln L_K)` keys and lets `factor * ceil(ln L_Q)` queries attend, at least one and at most all.
    In training, keys come from torch's generator as dropout does; in evaluation from one seeded with `seed`, so that a
    forecast depends on nothing but its input.

    Args:
        factor: c in the paper.
        causal: whether queries see keys up to their own place only.
        seed: of the draws in evaluation.
    """

    def __init__(self, factor: int = 5, *, causal: bool = False, seed: int = 0):
        super().__init__()
        self.factor, self.causal, self.seed = factor, causal, seed

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        generator = None if self.training else torch.Generator().manual_seed(self.seed)
        L_Q, L_K = q.shape[1], k.shape[1]
        sampled = torch.randint(L_K, (L_Q, self._size(L_K)), generator=generator).to(q.device)
        return prob_attention(q, k, v, sampled, n_active=self._size(L_Q), causal=self.causal)

    def _size(self, L: int) -> int:
        return max(1, min(self.factor * math.ceil(math.log(L)), L))
