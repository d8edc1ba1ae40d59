"""The laws that every registered block obeys. A block added by any package's entry point is tested here too."""

import pytest
import torch
from helixwave.optimisation import parameter_groups
from helixwave.registry import BLOCKS
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

D = 16
LENGTHS = [1, 2, 63, 64, 257]
CAUSAL = [name for name in BLOCKS if BLOCKS[name].causal]


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return BLOCKS.build({"name": name}, d_model=D).eval()


def inputs(B: int, T: int) -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(T))


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    ratio = ((found - expected).pow(2).mean().sqrt() / expected.pow(2).mean().sqrt().clamp(min=1e-6)).item()
    assert ratio <= tolerance, f"relative error {ratio:.2e}"


def tensors_of(state: object) -> list[Tensor]:
    return [part for part in tree_leaves(state) if part is not None]


@pytest.fixture(params=list(BLOCKS))
def block(request: pytest.FixtureRequest) -> nn.Module:
    return build(request.param)


@pytest.fixture(params=CAUSAL)
def causal_block(request: pytest.FixtureRequest) -> nn.Module:
    return build(request.param)


@pytest.mark.parametrize("T", LENGTHS)
def test_keeps_shape_and_has_finite_gradients(block: nn.Module, T: int) -> None:
    x = inputs(2, T).requires_grad_()
    y, _ = block(x)
    assert y.shape == x.shape
    y.square().mean().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(("T", "split"), [(2, 1), (64, 1), (64, 63), (257, 100)])
def test_state_carry(causal_block: nn.Module, T: int, split: int) -> None:
    x = inputs(2, T)
    whole, _ = causal_block(x)
    first, state = causal_block(x[:, :split])
    second, _ = causal_block(x[:, split:], state)
    assert_close(torch.cat([first, second], dim=1), whole)


def test_state_carry_of_a_padded_batch(causal_block: nn.Module) -> None:
    """Each sequence goes on from its own end, whatever padding stood behind it."""
    x, lengths = inputs(3, 40), torch.tensor([40, 17, 1])
    _, state = causal_block(x, lengths=lengths)
    more = inputs(3, 5)
    y, _ = causal_block(more, state)
    for i, length in enumerate(lengths.tolist()):
        alone, _ = causal_block(torch.cat([x[i : i + 1, :length], more[i : i + 1]], dim=1))
        assert_close(y[i : i + 1], alone[:, length:])


@pytest.mark.parametrize("T", [130, pytest.param(512, marks=pytest.mark.slow)])
def test_streaming_equals_the_parallel_form(causal_block: nn.Module, T: int) -> None:
    """One token at a time, over several chunks, with a state that does not grow."""
    x = inputs(2, T)
    with torch.no_grad():
        whole, _ = causal_block(x)
        y, state = causal_block(x[:, :1])
        steps, sizes = [y], [tensor.shape for tensor in tensors_of(state)]
        for t in range(1, x.shape[1]):
            y, state = causal_block(x[:, t : t + 1], state)
            assert [tensor.shape for tensor in tensors_of(state)] == sizes, f"the state has grown at step {t}"
            steps.append(y)
    assert_close(torch.cat(steps, dim=1), whole, tolerance=1e-4)


def test_state_belongs_to_its_sequence(causal_block: nn.Module) -> None:
    """Every tensor of a state has the batch first, so that sequences can be picked and put in another order."""
    x = inputs(3, 20)
    _, state = causal_block(x[:, :12])
    picked = torch.tensor([2, 0])
    y, _ = causal_block(x[picked, 12:], tree_map(lambda part: None if part is None else part[picked], state))
    assert_close(y, causal_block(x)[0][picked, 12:])


def test_gradient_flows_through_the_state(causal_block: nn.Module) -> None:
    """A state that is handed over carries the exact gradient of the inputs that made it."""
    x = inputs(1, 12).requires_grad_()
    whole = torch.autograd.grad(causal_block(x)[0][:, 6:].square().sum(), x)[0]
    _, state = causal_block(x[:, :6])
    carried = torch.autograd.grad(causal_block(x[:, 6:], state)[0].square().sum(), x)[0]
    assert_close(carried, whole)


def test_causality(causal_block: nn.Module) -> None:
    x = inputs(1, 64)
    changed = x.clone()
    changed[:, 40:] += 1
    y, y_changed = causal_block(x)[0], causal_block(changed)[0]
    assert_close(y_changed[:, :40], y[:, :40])
    assert not torch.allclose(y_changed[:, 40:], y[:, 40:])


def test_padding_and_batch_mates_have_no_influence(block: nn.Module) -> None:
    lengths = torch.tensor([64, 63, 20, 1])
    x = inputs(4, 64)
    y, _ = block(x, lengths=lengths)
    garbage = x.clone()
    for i, length in enumerate(lengths.tolist()):
        garbage[i, length:] = 1e3
        alone, _ = block(x[i : i + 1, :length])
        assert_close(y[i : i + 1, :length], alone)
    y_garbage, _ = block(garbage, lengths=lengths)
    for i, length in enumerate(lengths.tolist()):
        assert y_garbage[i, :length].equal(y[i, :length])


def test_bfloat16_autocast(block: nn.Module) -> None:
    x = inputs(2, 63)
    expected, _ = block(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = block(x)
    assert_close(y.float(), expected, tolerance=3e-2)


def test_save_and_load(block: nn.Module, request: pytest.FixtureRequest) -> None:
    torch.manual_seed(1)
    other = BLOCKS.build({"name": request.node.callspec.params["block"]}, d_model=D).eval()
    other.load_state_dict(block.state_dict())
    x = inputs(2, 30)
    assert other(x)[0].equal(block(x)[0])


# a convolution, recurrences, a scan and attention; the operators of all others are exported on their own
EXPORTED = ["attention", "bidirectional", "deltanet", "lstm", "mamba", "s4"]


@pytest.mark.parametrize(
    "name", [name if name in EXPORTED else pytest.param(name, marks=pytest.mark.slow) for name in BLOCKS]
)
def test_export(name: str) -> None:
    block, x = build(name), inputs(2, 16)
    exported = torch.export.export(block, (x,)).module()
    assert_close(exported(x)[0], block(x)[0])


def test_says_what_it_is_and_where_it_comes_from(block: nn.Module, request: pytest.FixtureRequest) -> None:
    signature = BLOCKS.signature(request.node.callspec.params["block"])
    assert 10 <= len(signature.summary) <= 110
    assert signature.summary.endswith(".")


def test_own_settings_of_parameters_are_of_parameters(block: nn.Module) -> None:
    """What a block says in `optimisation` is found, and every parameter is in one group."""
    groups = parameter_groups(block, lr=1.0, weight_decay=0.1)
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for parameter in block.parameters())


@pytest.mark.parametrize("combine", ["add", "mean", "product", "concat"])
@pytest.mark.parametrize("tied", [False, True])
def test_bidirectional_reads_both_ways(combine: str, tied: bool) -> None:
    """With one block for both directions, reversing the input reverses the output."""
    torch.manual_seed(0)
    config = {"name": "bidirectional", "block": {"name": "mamba", "d_state": 4}, "combine": combine, "tied": tied}
    block = BLOCKS.build(config, d_model=D).eval()
    x = inputs(1, 20)
    y = block(x)[0]
    if tied and combine != "concat":
        assert_close(block(x.flip(1))[0].flip(1), y)
    early, late = x.clone(), x.clone()
    early[:, 0] += 1
    late[:, -1] += 1
    assert not torch.allclose(block(early)[0][:, -1], y[:, -1])
    assert not torch.allclose(block(late)[0][:, 0], y[:, 0])


def test_bidirectional_refuses_a_state() -> None:
    with pytest.raises(ValueError, match="a state cannot be carried over"):
        build("bidirectional")(inputs(1, 4), state=(None,))


def test_hyena_beyond_its_filter_is_a_finite_response() -> None:
    """Positions further back than `l_max` have no influence; sequences may be longer."""
    block = BLOCKS.build({"name": "hyena", "l_max": 8, "d_short": 1}, d_model=D).eval()
    x = inputs(1, 40)
    changed = x.clone()
    changed[:, 0] += 1
    y, y_changed = block(x)[0], block(changed)[0]
    assert not torch.allclose(y[:, 7], y_changed[:, 7])
    assert_close(y_changed[:, 8:], y[:, 8:])
