import pytest
import torch
import torch.nn.functional as F
from helixwave.blocks.gla import GLA
from helixwave.errors import InputError
from torch import Tensor

D = 16
VARIANTS = [{}, {"decay": "head"}, {"d_conv": 3}, {"n_head": 2, "expand_k": 1.0, "expand_v": 2.0, "temperature": 1.0}]


def build(**options: object) -> GLA:
    torch.manual_seed(0)
    return GLA(D, **options).eval()  # type: ignore[arg-type]


def mixed(block: GLA, joined: Tensor) -> Tensor:
    """The short convolution, tap by tap."""
    if block.conv1d is None:
        return joined
    taps = block.conv1d.weight.double()[:, 0]
    before = torch.cat([joined.new_zeros(taps.shape[1] - 1, joined.shape[1]), joined])
    return F.silu(sum(before[i : i + len(joined)] * taps[:, i] for i in range(taps.shape[1])))


def by_step(block: GLA, x: Tensor) -> Tensor:
    """One sequence `[T, D]`, the state updated step by step in float64."""
    w = {name: parameter.double() for name, parameter in block.named_parameters()}
    x, H = x.double(), block.n_head
    joined = mixed(block, torch.cat([x @ w[f"{name}_proj.weight"].T for name in "qkv"], dim=-1))
    q, k, v = (part.unflatten(-1, (H, -1)) for part in joined.split(block.widths, dim=-1))
    logits = x @ w["gk_proj.0.weight"].T @ w["gk_proj.1.weight"].T + w["gk_proj.1.bias"]
    a = (logits.sigmoid() ** (1 / block.temperature)).unflatten(-1, (H, -1)).expand_as(k)
    gate = F.silu(x @ w["g_proj.weight"].T)
    S = x.new_zeros(H, k.shape[-1], v.shape[-1])
    ys = []
    for t in range(len(x)):
        S = torch.stack([a[t, h].diag() @ S[h] + torch.outer(k[t, h], v[t, h]) for h in range(H)])
        read = torch.stack([q[t, h] @ S[h] for h in range(H)]) / k.shape[-1] ** 0.5
        normed = read / (read.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        ys.append(normed.flatten() * w["o_norm.weight"] * gate[t])
    return torch.stack(ys) @ w["o_proj.weight"].T


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_equals_the_recurrence(options: dict[str, object]) -> None:
    block = build(**options)
    x = torch.randn(2, 70, D)
    y, _ = block(x)
    for i in range(2):
        torch.testing.assert_close(y[i].double(), by_step(block, x[i]), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_padded_batches_go_on_from_their_own_end(options: dict[str, object]) -> None:
    block = build(**options)
    x, more, lengths = torch.randn(2, 20, D), torch.randn(2, 4, D), torch.tensor([20, 2])
    x[1, 2:] = 1e30
    _, state = block(x, lengths=lengths)
    y, _ = block(more, state)
    for i, length in enumerate(lengths.tolist()):
        alone = block(torch.cat([x[i, :length], more[i]])[None])[0][0]
        torch.testing.assert_close(y[i], alone[length:], rtol=1e-4, atol=1e-5)


def test_has_the_published_sizes() -> None:
    """Keys of half the width, values of the full one, four heads, rates through a map of rank 16."""
    shapes = {name: tuple(parameter.shape) for name, parameter in GLA(64).named_parameters()}
    assert shapes == {
        "q_proj.weight": (32, 64),
        "k_proj.weight": (32, 64),
        "v_proj.weight": (64, 64),
        "g_proj.weight": (64, 64),
        "gk_proj.0.weight": (16, 64),
        "gk_proj.1.weight": (32, 16),
        "gk_proj.1.bias": (32,),
        "o_norm.weight": (64,),
        "o_proj.weight": (64, 64),
    }
    assert [GLA(width).n_head for width in (16, 20, 36, 64)] == [4, 2, 2, 4]


def test_rates_start_close_to_one() -> None:
    """A logit of 0 keeps `0.5^(1/16)`, 96 percent, from one step to the next."""
    block = build()
    block.gk_proj[1].bias.data.zero_()
    S = torch.ones(1, 4, 2, 4)
    _, (kept,) = block(torch.zeros(1, 1, D), (S,))
    torch.testing.assert_close(kept, 0.5 ** (1 / 16) * S)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_head": 3}, "n_head is 3, expected a divisor of the 8 channels of the keys"),
        ({"expand_v": 1.125, "n_head": 4}, "n_head is 4, expected a divisor of the 18 channels of the values"),
        ({"expand_k": 0.3}, "the 4.8 channels of the keys"),
    ],
)
def test_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(**options)
