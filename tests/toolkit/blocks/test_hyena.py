import math

import pytest
import torch
from helixwave.blocks import hyena, hyena_channels
from helixwave.blocks.hyena import Hyena, HyenaFilter
from helixwave.errors import InputError
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

D = 4


def build(**options: object) -> Hyena:
    torch.manual_seed(0)
    return Hyena(D, **options)


def inputs(B: int, T: int) -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(T))


def filter_by_hand(weights: dict[str, Tensor], l_max: int, d_position: int, shift: float) -> Tensor:
    """Position by position, `[(order - 1) D, l_max]`: features, three layers with sines, a map, a window."""
    bands = (d_position - 1) // 2
    frequencies = [1e-4 + (bands - 1 - 1e-4) * i / max(bands - 1, 1) for i in range(bands)]
    channels = len(weights["filter_fn.bias"])
    slowest, fastest = -math.log(0.01) / 1.5, -math.log(0.01) / 0.3
    rates = [slowest + (fastest - slowest) * c / (channels - 1) for c in range(channels)]
    values = []
    for l in range(l_max):  # noqa: E741
        time, phase = l / (l_max - 1), 2 * math.pi * l / l_max
        wave = [complex(math.cos(f * phase), -math.sin(f * phase)) for f in frequencies]
        z = torch.tensor([time, *(w.real for w in wave), *(w.imag for w in wave)], dtype=torch.float64)
        for layer in (0, 2, 4):
            network = f"filter_fn.implicit_filter.{layer}"
            z = weights[f"{network}.weight"] @ z + weights[f"{network}.bias"]
            z = torch.sin(weights["filter_fn.implicit_filter.1.freq"][0] * z)
        window = torch.tensor([math.exp(-rate * time) + shift for rate in rates], dtype=torch.float64)
        values.append(weights["filter_fn.implicit_filter.6.weight"] @ z * window)
    return torch.stack(values, dim=1)


def convolved(u: Tensor, kernel: Tensor, skip: Tensor) -> Tensor:
    y = torch.zeros_like(u)
    for t in range(len(u)):
        y[t] = skip * u[t] + sum(kernel[:, lag] * u[t - lag] for lag in range(min(t + 1, kernel.shape[1])))
    return y


def hyena_by_hand(block: Hyena, x: Tensor, order: int, d_position: int, shift: float) -> Tensor:
    """The recurrence `v <- x_i * conv(v)` of the paper (definition 3.1) for one sequence `[T, D]`, in float64."""
    weights = {name: tensor.double() for name, tensor in block.state_dict().items()}
    z = x.double() @ weights["in_proj.weight"].T + weights["in_proj.bias"]
    short = weights["short_filter.weight"][:, 0].flip(-1)
    z = convolved(z, short, torch.zeros(len(short))) + weights["short_filter.bias"]
    gates, v = [z[:, i * D : (i + 1) * D] for i in range(order)], z[:, order * D :]
    kernels = filter_by_hand(weights, block.l_max, d_position, shift)
    for i in range(order - 1):
        channels = slice(i * D, (i + 1) * D)
        v = convolved(v * gates[order - 1 - i], kernels[channels], weights["filter_fn.bias"][channels])
    return (v * gates[0]) @ weights["out_proj.weight"].T + weights["out_proj.bias"]


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize(("d_position", "shift"), [(5, 0.05), (7, 0.0)])
def test_is_the_recurrence_of_the_paper(order: int, d_position: int, shift: float) -> None:
    """Longer than its filter, so that the end of the filter is seen too."""
    block = build(order=order, l_max=12, d_filter=8, d_position=d_position, shift=shift)
    x = inputs(1, 20)
    expected = hyena_by_hand(block, x[0], order, d_position, shift)
    torch.testing.assert_close(block(x)[0][0].double(), expected, rtol=1e-4, atol=1e-6)


def test_published_weights_fit() -> None:
    """Every name and shape of a HyenaDNA mixer but for its tables, which follow from the sizes."""
    M = 64
    published = {
        "in_proj.weight": (3 * D, D),
        "in_proj.bias": (3 * D,),
        "out_proj.weight": (D, D),
        "out_proj.bias": (D,),
        "short_filter.weight": (3 * D, 1, 3),
        "short_filter.bias": (3 * D,),
        "filter_fn.bias": (D,),
        "filter_fn.implicit_filter.0.weight": (M, 5),
        "filter_fn.implicit_filter.2.weight": (M, M),
        "filter_fn.implicit_filter.4.weight": (M, M),
        "filter_fn.implicit_filter.6.weight": (D, M),
        **{f"filter_fn.implicit_filter.{i}.bias": (M,) for i in (0, 2, 4)},
        **{f"filter_fn.implicit_filter.{i}.freq": (1, M) for i in (1, 3, 5)},
    }
    assert {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()} == published


def test_the_three_sines_share_their_frequencies() -> None:
    """Files without the second and third name of the one tensor load all the same."""
    block, other = build(l_max=16), Hyena(D, l_max=16)
    weights = block.state_dict()
    aliases = {f"filter_fn.implicit_filter.{i}.freq" for i in (3, 5)}
    weights["filter_fn.implicit_filter.1.freq"] = weights["filter_fn.implicit_filter.1.freq"] * 2
    missing, _ = other.load_state_dict({k: v for k, v in weights.items() if k not in aliases}, strict=False)
    assert set(missing) == aliases
    found = other.state_dict()
    assert all(found[alias].equal(torch.full((1, 64), 20.0)) for alias in aliases)


def test_filter_has_no_weight_decay() -> None:
    block = build()
    network = {f"filter_fn.implicit_filter.{name}" for name, _ in block.filter_fn.implicit_filter.named_parameters()}
    assert block.optimisation == {name: {"weight_decay": 0.0} for name in network}


@pytest.mark.parametrize("order", [2, 3])
def test_streams_from_windows(order: int) -> None:
    """One token at a time past the end of the filter, each window of full size from the first step on."""
    block = build(order=order, l_max=10).eval()
    x, state, steps = inputs(2, 30), None, []
    with torch.no_grad():
        for t in range(30):
            y, state = block(x[:, t : t + 1], state)
            assert [part.shape for part in state] == [(2, (order + 1) * D, 2)] + [(2, D, 9)] * (order - 1)
            steps.append(y)
        torch.testing.assert_close(torch.cat(steps, dim=1), block(x)[0], rtol=1e-4, atol=1e-5)


class Elements(TorchDispatchMode):
    """Counts the elements that operations give out: a measure of work that no other program disturbs."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        self.count += sum(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        return result


def test_a_token_costs_the_same_at_any_position() -> None:
    block, x, state, work = build(l_max=16), inputs(1, 40), None, []
    with torch.no_grad():
        for t in range(40):
            with Elements() as elements:
                _, state = block(x[:, t : t + 1], state)
            work.append(elements.count)
    assert set(work[2:]) == {work[2]}


def test_the_filter_is_computed_once_for_many_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    block, lengths, forward = build(l_max=16), [], HyenaFilter.forward
    monkeypatch.setattr(HyenaFilter, "forward", lambda self, length: lengths.append(length) or forward(self, length))
    with torch.inference_mode():
        _, state = block(inputs(1, 5))
        for _ in range(5):
            _, state = block(inputs(1, 1), state)
    assert lengths == [5, 16]


def test_a_block_without_a_state_takes_none() -> None:
    block = build(l_max=1000, stateful=False)
    x = inputs(1, 20)
    y, state = block(x, lengths=torch.tensor([20]))
    assert state is None
    torch.testing.assert_close(y, build(l_max=1000)(x)[0])
    with pytest.raises(InputError, match="keeps none"):
        block(x, build(l_max=1000)(x)[1])


@pytest.mark.parametrize("remembered", [0, 2**23])
@pytest.mark.parametrize(
    "options", [{"l_max": 40}, {"l_max": 12, "order": 3, "d_short": 1}, {"l_max": 40, "d_short": 7}]
)
def test_without_a_gradient_it_goes_by_groups_of_sequences_and_channels(
    options: dict[str, int], remembered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same function, for groups of which one is smaller, and for sequences longer than the filter."""
    monkeypatch.setattr(hyena, "_REMEMBERED", remembered)
    monkeypatch.setattr(hyena_channels, "CHANNELS", 3)
    monkeypatch.setattr(hyena, "_POSITIONS", 41)
    block, x, lengths = build(stateful=False, **options), inputs(3, 20), torch.tensor([20, 1, 9])
    expected, _ = block(x, lengths=lengths)
    for i, length in enumerate(lengths.tolist()):
        x[i, length:] = 1e3
    with torch.no_grad():
        y, state = block(x, lengths=lengths)
        whole, _ = block(inputs(3, 20))
    assert state is None
    torch.testing.assert_close(whole, block(inputs(3, 20))[0], rtol=1e-4, atol=1e-6)
    for i, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(y[i, :length], expected[i, :length], rtol=1e-4, atol=1e-6)


def test_transforms_are_kept_for_sequences_of_one_length(monkeypatch: pytest.MonkeyPatch) -> None:
    block, lengths, forward = build(l_max=16, stateful=False), [], HyenaFilter.forward
    monkeypatch.setattr(HyenaFilter, "forward", lambda self, length: lengths.append(length) or forward(self, length))
    with torch.no_grad():
        for T in (5, 5, 7, 20, 20):
            block(inputs(1, T))
        block.filter_fn.implicit_filter[6].weight.mul_(2)
        changed, _ = block(inputs(1, 20))
    assert lengths == [5, 7, 16, 16]
    torch.testing.assert_close(changed, block(inputs(1, 20))[0], rtol=1e-4, atol=1e-6)


def test_transforms_of_two_lengths_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    block, lengths, forward = build(l_max=16, stateful=False), [], HyenaFilter.forward
    monkeypatch.setattr(HyenaFilter, "forward", lambda self, length: lengths.append(length) or forward(self, length))
    with torch.no_grad():
        for T in (5, 7, 5, 7, 9, 7, 5):
            block(inputs(1, T))
    assert lengths == [5, 7, 9, 5]


@pytest.mark.parametrize("options", [{}, {"order": 3, "d_short": 1}, {"stateful": False}])
@pytest.mark.parametrize("grad", [False, True])
def test_windows_as_long_as_what_came_before(options: dict[str, int], grad: bool) -> None:
    """With a gradient by windows of the sequence, without one by groups of channels."""
    block, x = build(l_max=40, **options), inputs(3, 30)
    n_window, stateful = block.n_window, block.stateful
    with torch.set_grad_enabled(grad), hyena.keeping_inputs(nn.Sequential(block), 12):
        expected, _ = block(x)
        first, state = block(x[:, :12])
        assert [part.shape[-1] for part in state[1:]] == [12] * (block.order - 1)
        second, _ = block(x[:, 12:], state)
        padded, _ = block(x[:, 12:], state, lengths=torch.tensor([18, 18, 4]))
        one, _ = block(x[:, 12:13], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(padded[2, :4], second[2, :4], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(one, second[:, :1], rtol=1e-4, atol=1e-6)
    assert (block.n_window, block.stateful) == (n_window, stateful)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 1}, "order is 1, expected at least 2"),
        ({"l_max": 0}, "l_max is 0, expected at least 1"),
        ({"d_position": 4}, "d_position is 4, expected an odd number from 3"),
    ],
)
def test_refuses_options(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Hyena(D, **options)
