"""sLSTM is the recurrence of its paper, and starts as published."""

import pytest
import torch
import torch.nn.functional as F
from helixwave.blocks.slstm import SLSTM
from helixwave.errors import InputError
from torch import Tensor, nn

D, H = 8, 2


def build(**options: int) -> SLSTM:
    """All parameters drawn at random, so that none is without influence."""
    torch.manual_seed(0)
    block = SLSTM(D, n_head=H, **options)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


def by_the_paper(block: SLSTM, x: Tensor) -> Tensor:
    """Equations 8 to 14 one step after another, without a stabiliser, in float64."""
    p = {name: parameter.detach().double() for name, parameter in block.named_parameters()}
    x = x.double()
    c_in = x
    if block.conv1d is not None:
        padded = F.pad(x, (0, 0, block.conv1d.kernel_size[0] - 1, 0))
        taps = p["conv1d.weight"].squeeze(1).unbind(-1)
        c_in = F.silu(sum(tap * padded[:, j : j + x.shape[1]] for j, tap in enumerate(taps)) + p["conv1d.bias"])
    sources = {"i": c_in, "f": c_in, "z": x, "o": x}
    wx = {gate: source @ torch.block_diag(*p[f"{gate}gate.weight"]).T for gate, source in sources.items()}
    R = {gate: torch.block_diag(*p["R"][j]) for j, gate in enumerate("ifzo")}
    h = c = n = x.new_zeros(len(x), D)
    ys = []
    for t in range(x.shape[1]):
        raw = {gate: wx[gate][:, t] + h @ R[gate] + p["bias"][j].flatten() for j, gate in enumerate("ifzo")}
        write, keep = raw["i"].exp(), raw["f"].sigmoid()
        c, n = keep * c + write * raw["z"].tanh(), keep * n + write
        h = raw["o"].sigmoid() * c / n
        ys.append(F.layer_norm(h.unflatten(-1, (H, -1)), (D // H,), eps=1e-5).flatten(-2) * p["group_norm.weight"])
    return torch.stack(ys, dim=1)


@pytest.mark.parametrize("d_conv", [4, 0])
def test_is_the_recurrence_of_the_paper(d_conv: int) -> None:
    block = build(d_conv=d_conv)
    x = torch.randn(2, 30, D)
    torch.testing.assert_close(block(x)[0].double(), by_the_paper(block, x), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("implementation", ["reference", "chunked", "native,chunked"])
def test_padding_has_no_gradient_and_leaves_the_state(implementation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The infinities that freeze a padded step give no NaN, and the rest is as without padding."""
    monkeypatch.setenv("HELIXWAVE_IMPL", implementation)
    block = build()
    x, more, lengths = torch.randn(3, 9, D), torch.randn(3, 3, D), torch.tensor([9, 4, 1])
    for i, length in enumerate(lengths.tolist()):
        x[i, length:] = 1e3
    x.requires_grad_()
    _, state = block(x, lengths=lengths)
    (gradient,) = torch.autograd.grad(block(more, state)[0].square().sum(), x)
    for i, length in enumerate(lengths.tolist()):
        _, alone = block(x[i : i + 1, :length])
        (expected,) = torch.autograd.grad(block(more[i : i + 1], alone)[0].square().sum(), x)
        torch.testing.assert_close(gradient[i], expected[i], rtol=1e-4, atol=1e-4)
    assert gradient[1, 4:].eq(0).all()


def test_starts_as_published() -> None:
    """No recurrence, and forget biases by a power law from 5 to -7, in the last block with the exponent 1.6."""
    first, last = SLSTM(64, n_head=2, block_index=0, n_block=3), SLSTM(64, n_head=2, block_index=2, n_block=3)
    place = torch.linspace(0, 1, 32)
    for block, exponent in ((first, 0.3), (last, 1.6)):
        torch.testing.assert_close(block.bias[1], (5 - 12 * place**exponent).expand(2, 32))
        assert block.bias[[0, 2, 3]].eq(0).all()
        assert block.R.eq(0).all()
        assert block.igate.weight.std().item() == pytest.approx((2 / 5 / 64) ** 0.5, rel=0.1)


def test_the_recurrence_is_trained() -> None:
    """R starts at zero and has a gradient nevertheless."""
    block = SLSTM(D, n_head=H)
    block(torch.randn(2, 10, D))[0].pow(3).sum().backward()
    assert all(gradient.abs().max() > 0 for gradient in block.R.grad)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_head": 3}, "n_head is 3, expected a divisor of the 8 channels"),
        ({"block_index": 2, "n_block": 2}, "block_index is 2, expected 0 to 1, as n_block=2"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SLSTM(D, **options)
