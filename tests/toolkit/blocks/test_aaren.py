import pytest
import torch
from helixwave.blocks.aaren import Aaren
from helixwave.errors import InputError
from torch import Tensor

D = 16


def build() -> Aaren:
    torch.manual_seed(0)
    return Aaren(D, n_head=2)


def explicit(block: Aaren, x: Tensor) -> Tensor:
    """The softmax over each prefix of `[T, D]`, in float64."""
    query = block.query.double()
    k = (x.double() @ block.k_proj.weight.double().T).unflatten(-1, (2, 8))
    v = (x.double() @ block.v_proj.weight.double().T).unflatten(-1, (2, 8))
    scores = (k * query).sum(-1) / 8**0.5
    ys = []
    for t in range(len(x)):
        weights = scores[: t + 1].softmax(0)
        ys.append((weights[..., None] * v[: t + 1]).sum(0).flatten())
    return torch.stack(ys) @ block.out_proj.weight.double().T


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_is_a_softmax_over_the_prefix(scale: float) -> None:
    """Scores of a hundred and more do not overflow."""
    block = build()
    x = scale * torch.randn(2, 45, D)
    y, _ = block(x)
    for i in range(2):
        torch.testing.assert_close(y[i].double(), explicit(block, x[i]), rtol=1e-4, atol=1e-5 * scale)


def test_the_state_is_a_maximum_and_two_sums() -> None:
    block = build()
    x, lengths = torch.randn(2, 30, D), torch.tensor([30, 11])
    x[1, 11:] = 1e3
    _, (m, u, w) = block(x, lengths=lengths)
    assert m.shape == u.shape == (2, 2)
    assert w.shape == (2, 2, 8)
    for i, length in enumerate(lengths.tolist()):
        scores = (block.k_proj(x[i, :length]).unflatten(-1, (2, 8)) * block.query).sum(-1) / 8**0.5
        v = block.v_proj(x[i, :length]).unflatten(-1, (2, 8))
        mean = (scores.softmax(0)[..., None] * v).sum(0)
        torch.testing.assert_close(u[i].log() + m[i], scores.logsumexp(0))
        torch.testing.assert_close(w[i] / u[i, :, None], mean, rtol=1e-4, atol=1e-6)


def test_errors() -> None:
    with pytest.raises(InputError, match="n_head is 5, expected a divisor of the 16 channels of the model"):
        Aaren(D, n_head=5)
