import math

import pytest
import torch
import torch.nn.functional as F
from helixwave.blocks.sgconv import SGConv
from helixwave.errors import InputError
from torch import Tensor

D = 6


def build(**options: object) -> SGConv:
    torch.manual_seed(0)
    return SGConv(D, **options).double()


def inputs(B: int, T: int) -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(T), dtype=torch.float64)


def stretched(weights: list[float], factor: int) -> list[float]:
    """Linear interpolation between weights in the middle of `factor` positions each, constant at the ends."""
    values = []
    for position in range(len(weights) * factor):
        place = min(max((position + 0.5) / factor - 0.5, 0.0), len(weights) - 1.0)
        left = math.floor(place)
        right = min(left + 1, len(weights) - 1)
        values.append(weights[left] + (place - left) * (weights[right] - weights[left]))
    return values


def filter_by_hand(block: SGConv, channel: int, decay: float) -> list[float]:
    """Scale by scale: 1, 1, 2, 4, ... positions a weight, each `decay` times weaker than the one before."""
    joined: list[float] = []
    for i, weights in enumerate(block.kernel_list):
        factor = 1 if i == 0 else 2 ** (i - 1)
        joined += [value / decay**i for value in stretched(weights[channel].tolist(), factor)]
    return joined


@pytest.mark.parametrize(("l_max", "kernel_dim", "n_scale"), [(32, 4, 4), (20, 4, 4), (8, 4, 2), (4, 4, 1), (3, 4, 1)])
def test_filter_has_several_scales(l_max: int, kernel_dim: int, n_scale: int) -> None:
    block = build(l_max=l_max, kernel_dim=kernel_dim, decay_min=2, decay_max=3)
    assert len(block.kernel_list) == n_scale
    found = block.filter()
    assert found.shape == (D, l_max)
    for channel in range(D):
        by_hand = filter_by_hand(block, channel, decay=2 + channel / (D - 1))
        norm = math.sqrt(sum(value**2 for value in by_hand))
        assert found[channel].tolist() == pytest.approx([value / norm for value in by_hand[:l_max]], rel=1e-5, abs=1e-7)


def test_starts_as_published() -> None:
    block = SGConv(D)
    assert len(block.kernel_list) == 1 + math.log2(1024 / 64)
    assert {weights.shape for weights in block.kernel_list} == {(D, 64)}
    torch.testing.assert_close(block.filter().norm(dim=-1), torch.ones(D))
    energy = block.filter()[:, :512].square().sum(), block.filter()[:, 512:].square().sum()
    assert energy[0] > 10 * energy[1]


def test_norm_stays_that_of_the_start() -> None:
    """A step of training changes the norm of the filter; saving and loading does not restore it to one."""
    block = build(l_max=32, kernel_dim=4)
    with torch.no_grad():
        for weights in block.kernel_list:
            weights *= 3
    torch.testing.assert_close(block.filter().norm(dim=-1), torch.full((D,), 3.0, dtype=torch.float64))
    other = build(l_max=32, kernel_dim=4)
    with torch.no_grad():
        other(inputs(1, 4))
        other.load_state_dict(block.state_dict())
        assert other(inputs(1, 4))[0].equal(block(inputs(1, 4))[0])


@pytest.mark.parametrize("glu", [False, True])
def test_is_a_direct_sum(glu: bool) -> None:
    """Two sequences twice as long as the filter; what is further back than `l_max` has no influence."""
    block = build(l_max=10, kernel_dim=4, glu=glu)
    x = inputs(2, 20)
    u, k = x.numpy(), block.filter().detach().numpy()
    convolved = torch.zeros_like(x)
    for t in range(20):
        convolved[:, t] = torch.from_numpy(sum(k[:, lag] * u[:, t - lag] for lag in range(min(t + 1, 10))))
    y = F.gelu(convolved + block.D * x) @ block.output_linear.weight.T + block.output_linear.bias
    if glu:
        value, gate = y.chunk(2, dim=-1)
        y = value * gate.sigmoid()
    torch.testing.assert_close(block(x)[0], y)


def test_streams_from_a_window() -> None:
    block = build(l_max=10, kernel_dim=4).eval()
    x, state, steps = inputs(2, 30), None, []
    with torch.no_grad():
        for t in range(30):
            y, state = block(x[:, t : t + 1], state)
            steps.append(y)
            assert state[0].shape == (2, D, 9)
        torch.testing.assert_close(torch.cat(steps, dim=1), block(x)[0])
    torch.testing.assert_close(state[0], x[:, 21:].mT.flip(-1))


def test_the_filter_is_computed_once_for_many_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    block, computed, filter_of = build(l_max=10, kernel_dim=4), [], SGConv.filter
    monkeypatch.setattr(SGConv, "filter", lambda self: computed.append(1) or filter_of(self))
    with torch.no_grad():
        _, state = block(inputs(1, 5))
        for _ in range(5):
            _, state = block(inputs(1, 1), state)
    assert len(computed) == 1


def test_learning_rates_name_the_filter() -> None:
    block = build(l_max=32, kernel_dim=4)
    assert set(block.optimisation) == {name for name, _ in block.named_parameters() if name.startswith("kernel_list")}


@pytest.mark.parametrize("options", [{"l_max": 0}, {"kernel_dim": 0}])
def test_refuses_empty_filters(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected both to be at least 1"):
        SGConv(D, **options)
