"""The residual stack: norms, steps, stochastic depth and activation checkpointing."""

import pytest
import torch
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.registry import check_backbone
from torch import Tensor, nn

MAMBA, MLP = {"name": "mamba", "d_state": 4}, {"name": "mlp"}
HYBRID = [MAMBA, MLP, {"name": "hyena", "l_max": 16, "d_filter": 8}, {"name": "swiglu"}]


def backbone(blocks: list[dict] = HYBRID, n_layer: int = 4, **options: object) -> Backbone:
    torch.manual_seed(0)
    return Backbone(16, n_layer=n_layer, blocks=blocks, **options)  # type: ignore[arg-type]


def inputs(B: int, T: int) -> Tensor:
    return torch.randn(B, T, 16, generator=torch.Generator().manual_seed(T))


def test_a_pattern_is_repeated() -> None:
    model = backbone([MAMBA, MLP, MLP], n_layer=5)
    assert [type(block).__name__ for block in model.blocks] == ["Mamba", "MLP", "MLP", "Mamba", "MLP"]


@pytest.mark.parametrize(
    ("options", "norms"),
    [
        ({}, {"norms.0.weight", "norm.weight"}),
        ({"norm": "layer"}, {"norms.0.weight", "norms.0.bias", "norm.weight", "norm.bias"}),
        ({"norm": "layer", "norm_bias": False}, {"norms.0.weight", "norm.weight"}),
        ({"norm_position": "post"}, {"norms.0.weight"}),
    ],
)
def test_names_in_a_checkpoint(options: dict, norms: set[str]) -> None:
    names = set(backbone([MLP], 1, **options).state_dict())
    assert names == norms | {f"blocks.0.{name}" for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")}


def test_norm_before_the_block_or_after_the_sum() -> None:
    x = inputs(2, 3)
    pre, post = backbone([MLP], 1, norm_eps=0.1), backbone([MLP], 1, norm_eps=0.1, norm_position="post")

    def normed(x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 0.1)

    torch.testing.assert_close(pre(x)[0], normed(x + pre.blocks[0](normed(x))[0]))
    torch.testing.assert_close(post(x)[0], normed(x + post.blocks[0](x)[0]))


@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_step_equals_forward(norm_position: str) -> None:
    model = backbone(norm_position=norm_position).eval()
    x = inputs(2, 30)
    whole, end = model(x)
    _, state = model(x[:, :10])
    for t in range(10, 30):
        y, state = model.step(x[:, t], state)
        torch.testing.assert_close(y, whole[:, t], rtol=1e-4, atol=1e-5)
    for a, b in zip(state[0], end[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_what_reads_ahead_has_no_steps() -> None:
    model = backbone([MLP, {"name": "bidirectional", "block": MAMBA}], 2)
    assert not model.causal
    assert backbone().causal
    with pytest.raises(InputError, match=r"block 1 \(Bidirectional\) reads what comes later"):
        model.step(inputs(1, 1)[:, 0], None)


def test_a_state_of_another_depth_is_refused() -> None:
    _, state = backbone()(inputs(1, 4))
    with pytest.raises(ValueError, match="zip"):
        backbone(n_layer=5)(inputs(1, 4), state)


def test_drop_path_grows_with_depth() -> None:
    assert backbone([MLP], 4, drop_path=0.3).drop_paths == pytest.approx([0, 0.1, 0.2, 0.3])
    assert backbone([MLP], 1, drop_path=0.3).drop_paths == [0.3]


def test_drop_path_skips_whole_blocks_and_keeps_the_expectation() -> None:
    model = backbone([MLP], 1, drop_path=0.4)
    model.norm = nn.Identity()
    x = inputs(1, 3).expand(4000, 3, 16)
    gained = model.train()(x)[0] - x
    torch.manual_seed(1)
    expected = model.eval()(x)[0] - x
    ratio = (gained / expected).flatten(1)
    kept = ratio.mean(1) > 0.5
    torch.testing.assert_close(ratio[kept], torch.full_like(ratio[kept], 1 / 0.6), rtol=1e-2, atol=0)
    assert (gained[~kept] == 0).all()
    assert abs((~kept).float().mean() - 0.4) < 4 * (0.4 * 0.6 / 4000) ** 0.5


def test_in_evaluation_nothing_is_dropped() -> None:
    x = inputs(2, 9)
    plain = backbone().eval()(x)[0]
    assert backbone(drop_path=0.5, dropout=0.5, checkpointing=True).eval()(x)[0].equal(plain)


def test_checkpointing_has_the_same_gradients() -> None:
    """With dropout, stochastic depth, a state to begin with and padding, through the outputs and the last state."""
    lengths, results = torch.tensor([12, 7, 1]), []
    for checkpointing in (False, True):
        model = backbone(dropout=0.2, drop_path=0.5, checkpointing=checkpointing).train()
        calls = []
        for block in model.blocks:
            block.register_forward_hook(lambda *_: calls.append(1))  # noqa: B023
        x = inputs(3, 12).requires_grad_()
        torch.manual_seed(3)
        _, state = model(x)
        y, end = model(x, state, lengths)
        (y.square().sum() + end[0][1].sum()).backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        results.append([y, x.grad, *gradients])
        # the last layer of the first call has no part in the loss
        assert len(calls) == (15 if checkpointing else 8)
        calls.clear()
        with torch.no_grad():
            model(x)
        assert len(calls) == 4
    for plain, checkpointed in zip(*results, strict=True):
        torch.testing.assert_close(checkpointed, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"drop_path": 1.0}, "drop_path is 1.0, expected at least 0 and less than 1"),
        ({"dropout": -0.1}, "dropout is -0.1, expected at least 0 and less than 1"),
        ({"norm_eps": 0}, "norm_eps is 0, expected more than 0"),
        ({"norm_position": "middle"}, "norm_position is 'middle', expected Literal"),
        ({"checkpointing": 1}, "checkpointing is 1, expected bool"),
    ],
)
def test_wrong_option(option: dict, message: str) -> None:
    with pytest.raises(InputError, match=f"recipe: {message}"):
        check_backbone("recipe", {"d_model": 8, "n_layer": 1, "blocks": [MLP], **option})


def test_a_layer_is_a_block_that_mixes_positions_with_those_behind_it() -> None:
    assert backbone(HYBRID, 8).layer_ends == [2, 4, 6, 8]
    assert backbone([MAMBA, MAMBA, MLP], 5).layer_ends == [1, 3, 4, 5]
    assert backbone([MLP], 2).layer_ends == [2]


def test_residual_is_what_the_last_norm_reads() -> None:
    model, x = backbone(mirrored=True).eval(), inputs(2, 9)
    lengths = torch.tensor([9, 4])
    assert torch.equal(model.norm(model.residual(x, 4, lengths)), model(x, lengths=lengths)[0])
    assert torch.equal(model.residual(x, 0), x)


def test_mirrored_layers_read_backwards_in_turn() -> None:
    model, plain = backbone([MAMBA], 3, mirrored=True).eval(), backbone([MAMBA], 3).eval()
    x, lengths = inputs(2, 7), torch.tensor([7, 3])
    y = model(x, lengths=lengths)[0]
    for i, n in enumerate(lengths):
        expected = x[i : i + 1, :n]
        for block, norm in zip(plain.blocks, plain.norms, strict=True):
            expected = expected.flip(1, 2)
            expected = expected + block(norm(expected))[0]
        torch.testing.assert_close(y[i : i + 1, :n], plain.norm(expected))
    assert not model.causal
    with pytest.raises(InputError, match="mirrored"):
        model.step(x[:, 0], None)
