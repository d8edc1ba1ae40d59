"""LSTM and GRU are those of torch, and heads are independent networks."""

import pytest
import torch
from helixwave.blocks.rnn import GRU, LSTM
from helixwave.errors import InputError
from torch import Tensor, nn

D = 6
BLOCKS = {"lstm": (LSTM, nn.LSTM), "gru": (GRU, nn.GRU)}


def pair(name: str, n_head: int = 1) -> tuple[nn.Module, nn.RNNBase]:
    """A block and torch's with the same weights, in float64."""
    ours, theirs = BLOCKS[name]
    torch.manual_seed(0)
    block = ours(D, n_head=n_head).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    copy = theirs(D, D, batch_first=True).double()
    with torch.no_grad():
        copy.weight_ih_l0.copy_(block.in_proj.weight)
        copy.bias_ih_l0.copy_(block.in_proj.bias)
        copy.weight_hh_l0.copy_(torch.cat([torch.block_diag(*(R_head.T for R_head in R)) for R in block.R]))
        copy.bias_hh_l0.zero_()
        if name == "gru":
            copy.bias_hh_l0[2 * D :] = block.bias_n
    return block, copy


def inputs(T: int = 20) -> Tensor:
    return torch.randn(3, T, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("n_head", [1, 2])
@pytest.mark.parametrize("name", BLOCKS)
def test_equals_torch(name: str, n_head: int) -> None:
    """Outputs, the last state and the gradients of inputs and weights."""
    block, theirs = pair(name, n_head)
    x = inputs()
    x_ours, x_theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, state = block(x_ours)
    h, end = theirs(x_theirs)
    expected = h @ block.out_proj.weight.detach().T
    torch.testing.assert_close(y, expected)
    for part, theirs_part in zip(state, end if isinstance(end, tuple) else (end,), strict=True):
        torch.testing.assert_close(part.flatten(1), theirs_part[0])
    (y**2).sum().backward()
    (expected**2).sum().backward()
    torch.testing.assert_close(x_ours.grad, x_theirs.grad)
    torch.testing.assert_close(block.in_proj.weight.grad, theirs.weight_ih_l0.grad)
    torch.testing.assert_close(block.in_proj.bias.grad, theirs.bias_ih_l0.grad)
    if name == "gru":
        torch.testing.assert_close(block.bias_n.grad, theirs.bias_hh_l0.grad[2 * D :])


@pytest.mark.parametrize("implementation", ["reference", "chunked", "native,chunked"])
@pytest.mark.parametrize("name", BLOCKS)
def test_padding_has_no_gradient_and_leaves_the_state(
    name: str, implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The infinities that freeze a padded step give no NaN, and the rest is as without padding."""
    monkeypatch.setenv("HELIXWAVE_IMPL", implementation)
    torch.manual_seed(0)
    block = BLOCKS[name][0](D)
    x, more, lengths = inputs(9).float(), inputs(3).float(), torch.tensor([9, 4, 1])
    for i, length in enumerate(lengths.tolist()):
        x[i, length:] = 1e3
    x.requires_grad_()
    _, state = block(x, lengths=lengths)
    (gradient,) = torch.autograd.grad(block(more, state)[0].square().sum(), x)
    for i, length in enumerate(lengths.tolist()):
        _, alone = block(x[i : i + 1, :length])
        (expected,) = torch.autograd.grad(block(more[i : i + 1], alone)[0].square().sum(), x)
        torch.testing.assert_close(gradient[i], expected[i])
    assert gradient[1, 4:].eq(0).all()


def test_starts_as_torch_but_for_the_biases() -> None:
    torch.manual_seed(0)
    lstm, gru = LSTM(32, n_head=2), GRU(32, expand=2)
    assert lstm.in_proj.bias.view(4, 32)[[0, 2, 3]].eq(0).all()
    assert lstm.in_proj.bias.view(4, 32)[1].eq(1).all()
    assert gru.in_proj.bias.eq(0).all()
    assert gru.bias_n.eq(0).all()
    for R, bound in ((lstm.R, 16**-0.5), (gru.R, 64**-0.5)):
        assert 0.9 * bound < R.abs().max() <= bound


def test_state_sizes() -> None:
    state = LSTM(8, n_head=2, expand=2)(torch.randn(3, 5, 8))[1]
    assert [part.shape for part in state] == [(3, 2, 8)] * 2
    assert [part.shape for part in GRU(8)(torch.randn(3, 5, 8))[1]] == [(3, 1, 8)]


@pytest.mark.parametrize("name", BLOCKS)
def test_heads_must_divide_the_channels(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: n_head is 5, expected a divisor of the 12 channels"):
        BLOCKS[name][0](6, expand=2, n_head=5)
