import pytest
import torch
from helixwave.blocks.attention import Attention
from helixwave.blocks.rotary import Rotary
from helixwave.errors import InputError
from torch import Tensor

D, K = 16, 4


def build(**options: object) -> Attention:
    torch.manual_seed(0)
    return Attention(D, **options).eval()  # type: ignore[arg-type]


def inputs(B: int, T: int) -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(T))


def turned(x: Tensor, start: int = 0, theta: float = 10000.0) -> Tensor:
    """Rotary positions by complex multiplication, `[T, H, K]`."""
    n = x.shape[-1] // 2
    angle = torch.arange(start, start + len(x), dtype=torch.float64)[:, None] * theta ** (-torch.arange(n) / n).double()
    z = torch.complex(x[..., :n], x[..., n : 2 * n]) * torch.polar(torch.ones_like(angle), angle)[:, None]
    return torch.cat([z.real, z.imag, x[..., 2 * n :]], dim=-1)


def explicit(block: Attention, x: Tensor, rotary: bool = True) -> Tensor:
    """One sequence `[T, D]`: the whole matrix of scores, in float64."""
    H, G, T = block.n_head, block.n_kv_head, len(x)
    heads = (x.double() @ block.in_proj.weight.double().T).unflatten(-1, (-1, K))
    q, k, v = heads.split([H, G, G], dim=1)
    if rotary:
        q, k = turned(q), turned(k)
    k, v = k.repeat_interleave(H // G, dim=1), v.repeat_interleave(H // G, dim=1)
    distance = torch.arange(T)[:, None] - torch.arange(T)
    window = T if block.window is None else block.window
    seen = (distance < window) & (distance > (-1 if block.causal else -window))
    scores = torch.einsum("thk,shk->hts", q, k) / K**0.5
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return torch.einsum("hts,shk->thk", weights, v).flatten(1) @ block.out_proj.weight.double().T


@pytest.mark.parametrize("mode", ["causal", "bidirectional"])
@pytest.mark.parametrize("window", [1, 2, 7, 64, 149, 150, 1024, None])
def test_is_a_masked_softmax(mode: str, window: int | None) -> None:
    block = build(mode=mode, window=window)
    x = inputs(2, 150)
    y = block(x)[0]
    for i in range(2):
        torch.testing.assert_close(y[i].double(), explicit(block, x[i]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("window", [5, 1024])
@pytest.mark.parametrize("n_kv_head", [1, 2])
def test_shared_keys(n_kv_head: int, window: int) -> None:
    block = build(n_kv_head=n_kv_head, window=window, rotary=False)
    x = inputs(1, 12)
    torch.testing.assert_close(block(x)[0][0].double(), explicit(block, x[0], rotary=False), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("window", [1, 2, 8, 200, None])
@pytest.mark.parametrize("n_kv_head", [4, 2])
def test_goes_on_from_any_cut(window: int | None, n_kv_head: int) -> None:
    """Pieces of 1 and more tokens, shorter and longer than the window; positions count on."""
    block = build(window=window, n_kv_head=n_kv_head)
    x = inputs(2, 180)
    whole, end = block(x)
    parts, state = [], None
    for piece in x.split([1, 1, 3, 20, 1, 9, 145], dim=1):
        y, state = block(piece, state)
        parts.append(y)
        assert window is None or [part.shape for part in state] == [part.shape for part in end]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-6)
    for found, expected in zip(state, end, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("window", [1, 6, None])
def test_padded_batches_go_on_from_their_own_end(window: int | None) -> None:
    block = build(window=window)
    x, more, after = inputs(3, 20), inputs(3, 12), inputs(3, 1)
    lengths, n_more = torch.tensor([20, 9, 1]), torch.tensor([3, 12, 8])
    _, state = block(x, lengths=lengths)
    middle, state = block(more, state, n_more)
    last, state = block(after, state)
    assert state[2].tolist() == [24, 22, 10]
    for i, (a, b) in enumerate(zip(lengths.tolist(), n_more.tolist(), strict=True)):
        alone = block(torch.cat([x[i, :a], more[i, :b], after[i]])[None])[0][0]
        torch.testing.assert_close(torch.cat([middle[i, :b], last[i]]), alone[a:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("window", [3, 1024])
def test_padding_has_no_influence_both_ways(window: int) -> None:
    """Also far from the last valid position, where a padded query sees nothing valid."""
    block = build(mode="bidirectional", window=window)
    x, lengths = inputs(3, 150).requires_grad_(), torch.tensor([150, 70, 1])
    y = block(x, lengths=lengths)[0]
    for i, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(y[i, :length], block(x[i : i + 1, :length])[0][0], rtol=1e-4, atol=1e-6)
    assert y.isfinite().all()
    y.square().sum().backward()
    assert x.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in block.parameters())


def test_a_query_that_sees_nothing_in_its_buffer_is_finite() -> None:
    """The first step of a stream: the buffer is full of what never was."""
    block = build(window=8)
    x = inputs(1, 3)
    state = block._nothing_seen(torch.zeros(1, 1, 4, K))
    torch.testing.assert_close(block(x, state)[0], block(x)[0])
    torch.testing.assert_close(block(x[:, :1], state)[0], block(x[:, :1])[0])


@pytest.mark.parametrize("mode", ["causal", "bidirectional"])
def test_bfloat16_within_a_window(mode: str) -> None:
    block = build(mode=mode, window=6)
    x, lengths = inputs(2, 90), torch.tensor([90, 80])
    expected, expected_end = block(x, lengths=lengths)
    with torch.autocast("cpu", torch.bfloat16):
        y, end = block(x, lengths=lengths)
    torch.testing.assert_close(y[1, :80].float(), expected[1, :80], rtol=0.05, atol=0.02)
    if mode == "causal":
        assert [part.dtype for part in end] == [torch.float32, torch.float32, torch.int64]
        assert [part.shape for part in end] == [part.shape for part in expected_end]


def test_bidirectional_keeps_no_state() -> None:
    block = build(mode="bidirectional")
    assert not block.causal
    _, state = build()(inputs(1, 4))
    assert block(inputs(1, 4))[1] is None
    with pytest.raises(ValueError, match="a state cannot be carried over"):
        block(inputs(1, 4), state)


@pytest.mark.parametrize("d_head", [8, 5, 1])
def test_rotary_is_a_complex_multiplication(d_head: int) -> None:
    x = torch.randn(2, 30, 3, d_head, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = Rotary(d_head, theta=100.0)(x, torch.tensor([[0], [100_000]]) + torch.arange(30))
    expected = torch.stack([turned(x[0], 0, 100.0), turned(x[1], 100_000, 100.0)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_rotary_knows_distances_alone_at_any_position() -> None:
    q, k = torch.randn(2, 1, 1, 1, 64, generator=torch.Generator().manual_seed(0))
    rotary = Rotary(64)
    scores = [
        (rotary(q, torch.tensor([[start + 5]])) * rotary(k, torch.tensor([[start]]))).sum().item()
        for start in (0, 1_000, 10_000_000)
    ]
    assert scores[1:] == pytest.approx([scores[0]] * 2, abs=2e-5)
    assert rotary(q, torch.tensor([[0]])).equal(q)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_head": 3}, "n_head is 3, expected a divisor of the 16 channels"),
        ({"n_head": 0}, "n_head is 0"),
        ({"n_kv_head": 3}, "n_kv_head is 3, expected a divisor of n_head, which is 4"),
        ({"n_kv_head": 0}, "n_kv_head is 0"),
        ({"window": 0}, "window is 0, expected at least 1"),
    ],
)
def test_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(**options)
