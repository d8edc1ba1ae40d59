"""Orders of scanning, what a clip's scores depend on, and how `video_mamba` starts."""

import math
from typing import Any

import pytest
import torch
from helixwave.errors import InputError
from helixwave.optimisation import parameter_groups
from helixwave_domains.video.video_mamba import VideoMamba, reordered
from torch import Tensor
from torch.testing import assert_close

ORDERS = ["spatial", "temporal", "mixed"]


def make(**arguments: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"channels": 2, "size": 8, "patch": 4, "n_frame": 4, "d_model": 8, "n_layer": 2, "d_state": 4}
    model = VideoMamba(classes=["a", "b", "c"], **{**sizes, **arguments})
    with torch.no_grad():
        for name in ("cls_token", "temporal_pos_embedding"):
            getattr(model.embedding, name).normal_()
    return model


def clips(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("tubelet", [1, 2])
@pytest.mark.parametrize("order", ORDERS)
def test_padding_and_other_clips_change_nothing(order: str, tubelet: int) -> None:
    model, lengths = make(order=order, tubelet=tubelet).eval(), [4, 3, 1]
    x = clips(3, 4, 2, 8, 8)
    spoilt = x.clone()
    for i, length in enumerate(lengths):
        spoilt[i, length:] = torch.nan
    together = model(spoilt, torch.tensor(lengths))
    for i, length in enumerate(lengths):
        assert_close(model(x[i : i + 1, :length])[0], together[i], rtol=0, atol=1e-6)
    assert_close(model.head(model.embed(x, torch.tensor(lengths))), together, rtol=0, atol=1e-6)


@pytest.mark.parametrize("lengths", [None, [13, 5, 9]])
def test_order_of_patches(lengths: list[int] | None) -> None:
    T, n = 3, 4
    where = torch.arange(T).repeat_interleave(n), torch.arange(n).repeat(T)
    x = torch.stack(where, dim=-1).expand(3, -1, -1).float()
    x = torch.cat([torch.full((3, 1, 2), 9.0), x], dim=1)
    valid = None if lengths is None else torch.tensor(lengths)
    by_place = reordered(x, n, valid, by_place=True)
    for found, length in zip(by_place.tolist(), lengths or [13] * 3, strict=True):
        moments = range((length - 1) // n)
        assert found[:length] == [[9, 9], *([t, place] for place in range(n) for t in moments)]
    assert torch.equal(reordered(by_place, n, valid, by_place=False), x)


def test_orders_differ_in_what_blocks_read() -> None:
    x = clips(1, 4, 2, 8, 8)
    scores = {order: make(order=order).eval()(x) for order in ORDERS}
    assert len({tuple(score.detach().flatten().tolist()) for score in scores.values()}) == 3
    # with one frame, or one place, there is but one order
    one = {order: make(order=order).eval()(x[:, :1]) for order in ORDERS}
    assert_close(one["spatial"], one["temporal"])
    assert_close(one["spatial"], one["mixed"])
    mixed = make(order="mixed").backbone
    assert mixed.by_place == [False, True]


@pytest.mark.parametrize("order", ORDERS)
def test_gradients_and_dropped_paths(order: str) -> None:
    model = make(order=order, drop_path=0.5, checkpointing=True).train()
    assert model.backbone.drop_paths == [0.0, 0.5]
    # some clips keep the last block
    torch.manual_seed(0)
    model(clips(8, 4, 2, 8, 8), torch.tensor([4, 3, 2, 1] * 2)).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # the class token is read first: the last block's forward scan has no past there
    assert without == ["backbone.blocks.1.mamba_fwd.A_log"]


def test_start_and_weight_decay() -> None:
    one, four = make(n_layer=1), make(n_layer=4)
    first, later = (model.backbone.blocks[0].mamba_fwd.out_proj.weight for model in (one, four))
    assert_close(later, first / math.sqrt(4))
    groups = parameter_groups(four, lr=1.0, weight_decay=0.1)
    plain = {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    names = {name for name, p in four.named_parameters() if id(p) in plain}
    wanted = {f"embedding.{name}" for name in ("cls_token", "pos_embed", "temporal_pos_embedding")}
    assert wanted | {"backbone.blocks.0.mamba_rev.A_log", "backbone.blocks.0.mamba_fwd.D"} <= names
    assert "embedding.patch_embed.proj.weight" not in names


def test_errors() -> None:
    for given, message in (
        ((1, 5, 2, 8, 8), "positions for 4 frames, a clip has 5"),
        ((1, 4, 2, 8, 4), "reads frames of 8 x 8 pixels, these have 8 x 4"),
        ((1, 4, 3, 8, 8), r"reads clips \[B, T, 2, H, W\]"),
    ):
        with pytest.raises(InputError, match=message):
            make()(torch.zeros(given))
    with pytest.raises(InputError, match="n_frame is 3, expected a multiple of tubelet, which is 2"):
        make(n_frame=3, tubelet=2)
