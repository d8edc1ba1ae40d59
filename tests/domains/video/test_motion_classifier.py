"""A classifier of series of motion: patches, pools, gaps and padding."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helixwave.backbone import Backbone
from helixwave.checkpoint import build_model, load, named_tensors, save
from helixwave.errors import InputError
from helixwave.objectives.signals import NextValues
from helixwave_domains.video.motion_classifier import MotionClassifier, SeriesPatches
from torch import Tensor
from torch.testing import assert_close

BLOCKS = [{"name": "bidirectional", "block": {"name": "gru"}}]
KINDS: list[dict[str, Any]] = [
    {"pool": "mean"},
    {"pool": "max", "patch": 4},
    {"pool": "mean_max", "patch": 5, "stride": 2},
    {"pool": "last", "patch": 3, "stride": 1},
]


def classifier(**given: Any) -> MotionClassifier:
    torch.manual_seed(0)
    backbone = Backbone(d_model=8, n_layer=1, blocks=BLOCKS)
    return MotionClassifier(backbone=backbone, classes=["a", "b", "c"], channels=2, **given).eval()


def series(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
@pytest.mark.parametrize(("patch", "stride"), [(1, 1), (4, 4), (5, 2), (3, 1)])
def test_each_step_is_said_by_the_last_patch_that_it_is_in(patch: int, stride: int) -> None:
    model = classifier(head="steps", patch=patch, stride=stride)
    batch, lengths = series(6, 17, 2), torch.tensor([1, 2, 5, 6, 11, 12])
    batch[:, ::3, 0] = torch.nan
    found = model(batch, lengths)
    assert found.shape == (6, 17, 3)
    for i, length in enumerate(lengths.tolist()):
        x = batch[i : i + 1, :length]
        hidden, _ = model.hidden(x)
        said = model.head.linear(hidden)[0].unflatten(-1, (patch, 3))
        wanted = torch.zeros(length, 3)
        for number, numbers in enumerate(said):
            for step in range(number * stride, min(number * stride + patch, length)):
                wanted[step] = numbers[step - number * stride]
        assert_close(found[i, :length], wanted, rtol=1e-4, atol=1e-5)
        assert_close(model(x)[0], wanted, rtol=1e-4, atol=1e-5)


def test_next_values_are_said_before_they_are_seen() -> None:
    causal = Backbone(d_model=8, n_layer=1, blocks=[{"name": "gru"}])
    NextValues([]).check(MotionClassifier(backbone=causal, classes=["x"], head="steps"))
    with pytest.raises(InputError, match="a patch has 3 steps"):
        NextValues([]).check(MotionClassifier(backbone=causal, classes=["x"], head="steps", patch=3))
    with pytest.raises(InputError, match="reads what comes later"):
        NextValues([]).check(classifier(head="steps"))


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["pool"])
def test_scores_depend_neither_on_padding_nor_on_the_batch(kind: dict[str, Any]) -> None:
    model = classifier(**kind)
    lengths = [1, 2, 5, 6, 11, 12]
    batch = series(len(lengths), 17, 2)
    batch[:, ::3, 0] = torch.nan
    scores, vectors = model(batch, torch.tensor(lengths)), model.embed(batch, torch.tensor(lengths))
    assert scores.isfinite().all()
    for i, length in enumerate(lengths):
        assert_close(scores[i : i + 1], model(batch[i : i + 1, :length]), rtol=1e-4, atol=1e-5)
        assert_close(vectors[i : i + 1], model.embed(batch[i : i + 1, :length]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["pool"])
def test_no_gradient_reaches_padding_or_gaps(kind: dict[str, Any]) -> None:
    model, batch = classifier(**kind).train(), series(2, 9, 2)
    batch[0, 2, 1] = torch.nan
    batch.requires_grad_()
    model(batch, torch.tensor([9, 4])).square().sum().backward()
    assert batch.grad is not None
    assert batch.grad.isfinite().all()
    assert batch.grad[0, 2, 1] == 0
    assert (batch.grad[1, 4:] == 0).all()
    assert (batch.grad[1, :4] != 0).any()
    assert all(parameter.grad is not None for parameter in model.parameters())


@torch.inference_mode()
@pytest.mark.parametrize(("patch", "stride"), [(1, 1), (4, 4), (5, 2), (3, 1)])
@pytest.mark.parametrize("length", [1, 3, 4, 5, 12])
def test_patches_are_those_of_a_loop(length: int, patch: int, stride: int) -> None:
    net = SeriesPatches(2, 8, patch=patch, stride=stride)
    x = series(1, length, 2)
    x[0, 0, 1] = torch.nan
    padded = torch.cat([x, torch.full((1, 40, 2), torch.nan)], dim=1)[0]
    wanted, start = [], 0
    while True:
        rows = [torch.cat([step.nan_to_num(0), (~step.isnan()).float()]) for step in padded[start : start + patch]]
        wanted.append(torch.stack(rows, dim=1).flatten())
        if start + patch >= length:
            break
        start += stride
    found, n_patch = net(torch.cat([x, series(1, 7, 2)], dim=1), torch.tensor([length]))
    assert n_patch.tolist() == [len(wanted)]
    assert_close(found[0, : len(wanted)], net.linear(torch.stack(wanted)))


@torch.inference_mode()
def test_a_gap_is_no_zero() -> None:
    model, x = classifier(), series(1, 6, 2)
    gap, zero = x.clone(), x.clone()
    gap[0, 3], zero[0, 3] = torch.nan, 0.0
    assert not torch.allclose(model(gap), model(zero))


@torch.inference_mode()
def test_pools_by_hand() -> None:
    hidden, lengths = series(2, 4, 8), torch.tensor([4, 2])
    mean = torch.stack([hidden[0].mean(0), hidden[1, :2].mean(0)])
    highest = torch.stack([hidden[0].amax(0), hidden[1, :2].amax(0)])
    last = torch.stack([hidden[0, 3], hidden[1, 1]])
    both = torch.cat([mean, highest], dim=1)
    for pool, wanted in (("mean", mean), ("max", highest), ("last", last), ("mean_max", both)):
        assert_close(classifier(pool=pool).pooled(hidden, lengths), wanted)


def test_comes_back_from_a_checkpoint_with_the_parts_that_a_start_copies(tmp_path: Path) -> None:
    model = build_model(
        {
            "model": {"name": "motion_classifier", "channels": 3, "patch": 4, "pool": "max"},
            "backbone": {"d_model": 8, "n_layer": 1, "blocks": BLOCKS},
            "classes": ["a", "b"],
        }
    ).eval()
    save(model, tmp_path)
    loaded, batch = load(tmp_path), series(2, 9, 3)
    assert torch.equal(loaded(batch), model(batch))
    assert loaded.reads == {"channels": 3, "patch": 4, "stride": None}
    assert {name.split(".")[0] for name in named_tensors(loaded)} == {"embedding", "backbone", "head"}


def test_errors() -> None:
    with pytest.raises(InputError, match=r"reads series \[B, T, 2\], the inputs have shape \[1, 5, 3\]"):
        classifier()(series(1, 5, 3))
    for patch, stride in ((0, None), (3, 4), (3, 0)):
        with pytest.raises(InputError, match="expected a stride of 1 to the patch's steps"):
            classifier(patch=patch, stride=stride)
