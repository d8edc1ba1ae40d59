import pytest
import torch
import torch.nn.functional as F
from helixwave.blocks.long_conv import LongConv
from helixwave.errors import InputError
from torch import Tensor

D = 6


def build(**options: object) -> LongConv:
    torch.manual_seed(0)
    return LongConv(D, **options).double()


def inputs(B: int, T: int) -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(T), dtype=torch.float64)


def squashed(weight: float, lam: float) -> float:
    return max(abs(weight) - lam, 0.0) * (1 if weight > 0 else -1)


@pytest.mark.parametrize("smooth", [1, 3, 5])
def test_filter_is_averaged_then_squashed(smooth: int) -> None:
    block = build(l_max=12, smooth=smooth)
    with torch.no_grad():
        block.kernel.normal_(std=0.2)
    half = smooth // 2
    found = block.filter()
    assert (found == 0).any()
    for channel, weights in enumerate(block.kernel.tolist()):
        # zeros beyond the ends
        averaged = [sum(weights[max(i - half, 0) : i + half + 1]) / smooth for i in range(12)]
        expected = [squashed(weight, 0.1) for weight in averaged]
        assert found[channel].tolist() == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("lam", [0.0, 0.003, 0.1])
def test_start_is_alive_whatever_is_squashed(lam: float) -> None:
    """The same noise at every `lam`: no weight lies where it has no gradient."""
    block = build(l_max=1024, lam=lam)
    found = block.filter()
    torch.testing.assert_close(found, build(l_max=1024, lam=0.0).kernel.detach(), rtol=1e-4, atol=1e-7)
    found.sum().backward()
    assert block.kernel.grad is not None
    assert (block.kernel.grad != 0).all()


def test_start_has_energy_one_and_decays_faster_from_channel_to_channel() -> None:
    torch.manual_seed(0)
    energy = LongConv(16, l_max=4096).filter().square()
    assert energy.sum(-1).detach().tolist() == pytest.approx([1.0] * 16, abs=0.2)
    late = energy[:, 2048:].sum(-1) / energy.sum(-1)
    # the energy decays with exp(-2 rate l / l_max): rate 1 and 8 ** (15 / 16)
    assert late[0].item() == pytest.approx(1 / (1 + 2.71828), abs=0.05)
    assert late[-1].item() < 0.01


@pytest.mark.parametrize("glu", [False, True])
def test_is_a_direct_sum(glu: bool) -> None:
    """Two sequences twice as long as the filter; what is further back than `l_max` has no influence."""
    block = build(l_max=10, glu=glu)
    x = inputs(2, 20)
    u, w = x.numpy(), block.kernel.tolist()
    k = torch.tensor([[squashed(weight, 0.1) for weight in weights] for weights in w], dtype=torch.float64).numpy()
    convolved = torch.zeros_like(x)
    for t in range(20):
        convolved[:, t] = torch.from_numpy(sum(k[:, lag] * u[:, t - lag] for lag in range(min(t + 1, 10))))
    y = F.gelu(convolved + block.D * x) @ block.output_linear.weight.T + block.output_linear.bias
    if glu:
        value, gate = y.chunk(2, dim=-1)
        y = value * gate.sigmoid()
    torch.testing.assert_close(block(x)[0], y)


def test_streams_from_a_window() -> None:
    block = build(l_max=10).eval()
    x, state, steps = inputs(2, 30), None, []
    with torch.no_grad():
        for t in range(30):
            y, state = block(x[:, t : t + 1], state)
            steps.append(y)
            assert state[0].shape == (2, D, 9)
        torch.testing.assert_close(torch.cat(steps, dim=1), block(x)[0])
    torch.testing.assert_close(state[0], x[:, 21:].mT.flip(-1))


def test_the_filter_is_computed_once_for_many_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    block, computed, filter_of = build(l_max=10), [], LongConv.filter
    monkeypatch.setattr(LongConv, "filter", lambda self: computed.append(1) or filter_of(self))
    with torch.no_grad():
        _, state = block(inputs(1, 5))
        for _ in range(5):
            _, state = block(inputs(1, 1), state)
    assert len(computed) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l_max": 0}, "l_max is 0, expected at least 1"),
        ({"lam": -0.1}, "lam is -0.1, expected at least 0"),
        ({"smooth": 4}, "smooth is 4, expected an odd number"),
        ({"smooth": -1}, "smooth is -1, expected an odd number"),
    ],
)
def test_refuses_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LongConv(D, **options)
