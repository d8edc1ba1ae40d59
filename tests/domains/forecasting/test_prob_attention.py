"""ProbSparse attention against loops written from its definition."""

import math

import pytest
import torch
from helixwave_domains.forecasting.prob_attention import ProbAttention, prob_attention
from torch import Tensor
from torch.testing import assert_close

CAUSAL = pytest.mark.parametrize("causal", [False, True])


def inputs(B: int, L_Q: int, L_K: int, H: int = 2, K: int = 4, V: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(B + L_Q + L_K)
    shapes = (B, L_Q, H, K), (B, L_K, H, K), (B, L_K, H, V)
    q, k, v = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return q, k, v


def keys_drawn(L_Q: int, L_K: int, U: int) -> Tensor:
    return torch.randint(L_K, (L_Q, U), generator=torch.Generator().manual_seed(7))


def direct(q: Tensor, k: Tensor, v: Tensor, sampled: Tensor, n_active: int, causal: bool) -> Tensor:
    """One sequence, head and query after the other."""
    (B, L_Q, H, K), L_K = q.shape, k.shape[1]
    y = torch.empty(B, L_Q, H, v.shape[-1], dtype=q.dtype)
    for b in range(B):
        for h in range(H):
            products = [[float(q[b, i, h] @ k[b, j, h]) for j in sampled[i].tolist()] for i in range(L_Q)]
            scores = [max(row) - sum(row) / L_K for row in products]
            active = sorted(range(L_Q), key=lambda i: -scores[i])[:n_active]
            for i in range(L_Q):
                seen = i + 1 if causal else L_K
                if i in active:
                    weights = torch.softmax(k[b, :seen, h] @ q[b, i, h] / math.sqrt(K), 0)
                    y[b, i, h] = weights @ v[b, :seen, h]
                else:
                    y[b, i, h] = v[b, :seen, h].sum(0) / (1 if causal else L_K)
    return y


@CAUSAL
@pytest.mark.parametrize(("L_Q", "U", "n_active"), [(9, 4, 3), (1, 1, 1), (12, 12, 12), (7, 20, 1)])
def test_equals_the_loop(L_Q: int, U: int, n_active: int, causal: bool) -> None:
    x = inputs(3, L_Q, L_Q)
    sampled = keys_drawn(L_Q, L_Q, U)
    y = prob_attention(*x, sampled, n_active=n_active, causal=causal)
    assert_close(y, direct(*x, sampled, n_active, causal))


@pytest.mark.parametrize(("L_Q", "L_K"), [(5, 11), (11, 5)])
def test_other_keys_than_queries(L_Q: int, L_K: int) -> None:
    x = inputs(2, L_Q, L_K)
    sampled = keys_drawn(L_Q, L_K, 4)
    assert_close(prob_attention(*x, sampled, n_active=3), direct(*x, sampled, 3, False))


@CAUSAL
def test_long_sequences_equal_the_loop(causal: bool) -> None:
    """Beyond where a dense product of all queries with all keys is made."""
    x = inputs(1, 600, 600, H=1)
    sampled = keys_drawn(600, 600, 6)
    y = prob_attention(*x, sampled, n_active=5, causal=causal)
    assert_close(y, direct(*x, sampled, 5, causal))


@CAUSAL
def test_with_all_queries_active_it_is_full_attention(causal: bool) -> None:
    q, k, v = inputs(2, 13, 13)
    y = prob_attention(q, k, v, keys_drawn(13, 13, 5), n_active=13, causal=causal)
    heads_first = [x.transpose(1, 2) for x in (q, k, v)]
    full = torch.nn.functional.scaled_dot_product_attention(*heads_first, is_causal=causal)
    assert_close(y, full.transpose(1, 2))


@CAUSAL
def test_gradients(causal: bool) -> None:
    q, k, v = (x.requires_grad_() for x in inputs(2, 6, 6))
    sampled = keys_drawn(6, 6, 3)
    assert torch.autograd.gradcheck(
        lambda q, k, v: prob_attention(q, k, v, sampled, n_active=2, causal=causal), (q, k, v)
    )


@pytest.mark.parametrize(("L", "size"), [(1, 1), (2, 2), (7, 6), (8, 8), (96, 15), (720, 21)])
def test_as_many_keys_and_queries_as_published(L: int, size: int) -> None:
    """`min(c ceil(ln L), L)` for c = 3, and at least one."""
    assert ProbAttention(3)._size(L) == size


def test_evaluation_depends_on_the_input_alone() -> None:
    x = inputs(4, 40, 40)
    attention = ProbAttention(1).eval()
    before = torch.random.get_rng_state()
    first = attention(*x)
    assert_close(attention(*x), first, rtol=0, atol=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    alone = attention(*(part[2:3] for part in x))
    assert_close(alone, first[2:3])
    assert not torch.equal(ProbAttention(1, seed=1).eval()(*x), first)


def test_training_draws_from_the_seeded_generator() -> None:
    x = inputs(1, 40, 40)
    attention = ProbAttention(1).train()

    def draw(seed: int) -> list[Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return [attention(*x), attention(*x)]

    (a, b), (again, _) = draw(0), draw(0)
    assert torch.equal(a, again)
    assert not torch.equal(a, b)
