"""Checkpoints of VideoMamba, of clips and of images."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from helixwave.checkpoint import build_model
from helixwave.errors import InputError
from helixwave.pretrained.families import Family, Plan, Published
from helixwave.pretrained.rules import Place, Rule, rule
from helixwave.pretrained.vocabulary import numbered
from torch import Tensor

from helixwave_domains.video.preprocessing import Preprocessing

_TIME = "temporal_pos_embedding"
_SPACE, _PATCHES = "pos_embed", "patch_embed.proj.weight"
# what the published training subtracts and divides by: the colours of ImageNet
_MEAN, _DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# of one direction of a block
_PARTS = ("conv1d.weight", "conv1d.bias", "x_proj.weight", "dt_proj.weight", "dt_proj.bias")
_SHARED = ("in_proj.weight", "out_proj.weight")


class PublishedVideoMamba(Family):
    """VideoMamba: Li et al., "VideoMamba: State Space Model for Efficient Video Understanding", 2024.

    All sizes follow from the tensors. Options: `n_frame` and `size`, the frames and pixels that the model is to read,
    where they are others than were trained with: positions in time are interpolated linearly, those in space
    bicubically. `tubelet`: frames of a patch, for weights of images, whose kernel becomes the centre of one in time and
    which have no positions in time. `order`: of scanning, see `video_mamba`. A checkpoint of images must be asked for,
    with `family="video_mamba"`: their names are those of Vision Mamba, which computes something else.
    """

    marks = (_TIME, "mixer.A_b_log", _PATCHES)
    options = frozenset({"n_frame", "size", "tubelet", "order"})

    def plan(self, published: Published) -> Plan:
        patches = _tensor(published, _PATCHES, 4, 5)
        tubelet = _tubelet(published, patches)
        width = _tensor(published, _SPACE, 3).shape[-1]
        if patches.ndim == 4:
            # an image is at no time
            slots = _option(published, "n_frame", tubelet) // tubelet
            published.tensors.setdefault(_TIME, torch.zeros(1, slots, width))
        model = build_model(_config(published, patches, tubelet), where=f"{published.where}: ")
        return Plan(model, _rules(published, model))


def _config(published: Published, patches: Tensor, tubelet: int) -> dict[str, Any]:
    """What the tensors' shapes and the options say."""
    d_model, channels, patch = patches.shape[0], patches.shape[1], patches.shape[-1]
    d_inner, d_state = _tensor(published, "layers.0.mixer.A_log", 2).shape
    n_frame = _option(published, "n_frame", _tensor(published, _TIME, 3).shape[1] * tubelet)
    size = _option(published, "size", _side(published) * patch)
    layers = {name.split(".")[1] for name in published.tensors if name.startswith("layers.")}
    model = {
        "name": "video_mamba",
        "channels": channels,
        "size": size,
        "patch": patch,
        "tubelet": tubelet,
        "n_frame": n_frame,
        "d_model": d_model,
        "n_layer": len(layers),
        "order": published.options.get("order", "spatial"),
        "d_state": d_state,
        "d_conv": _tensor(published, "layers.0.mixer.conv1d.weight", 3).shape[-1],
        "expand": d_inner // d_model,
    }
    shown = Preprocessing(n_frame=n_frame, size=size, channels=channels, mean=_MEAN, deviation=_DEVIATION)
    classes = numbered(len(_tensor(published, "head.weight", 2)))
    return {"model": model, "backbone": None, "classes": classes, "preprocessing": shown.config()}


def _rules(published: Published, model: Any) -> list[Rule]:
    embedding = model.embedding
    rules = [
        rule("cls_token", "embedding.cls_token"),
        rule("patch_embed.proj.bias", "embedding.patch_embed.proj.bias"),
        _resized(published, _PATCHES, lambda kernel: inflated(kernel, model.tubelet)),
        _resized(published, _SPACE, lambda positions: in_space(positions, model.size // model.patch)),
        _resized(published, _TIME, lambda positions: in_time(positions, embedding.temporal_pos_embedding.shape[1])),
        rule("norm_f.weight", "backbone.norm.weight"),
        *(rule(f"head.{part}", f"head.1.{part}") for part in ("weight", "bias")),
    ]
    for i in range(len(model.backbone.blocks)):
        rules += _block_rules(f"layers.{i}", f"backbone.blocks.{i}")
        rules.append(rule(f"layers.{i}.norm.weight", f"backbone.norms.{i}.weight"))
    return rules


def _block_rules(theirs: str, ours: str) -> list[Rule]:
    mixer, ahead, behind = f"{theirs}.mixer", f"{ours}.mamba_fwd", f"{ours}.mamba_rev"
    # the letter of the backward direction stands behind the module's name
    named = [(f"{module}_b.{kind}", f"{module}.{kind}") for module, kind in (part.split(".") for part in _PARTS)]
    backward = [("A_b_log", "A_log"), ("D_b", "D"), *named]
    return [
        *(rule(f"{mixer}.{name}", f"{ahead}.{name}") for name in ("A_log", "D", *_SHARED, *_PARTS)),
        *(rule(f"{mixer}.{name}", f"{behind}.{our}") for name, our in backward),
    ]


def inflated(kernel: Tensor, tubelet: int) -> Tensor:
    """The kernel of an image as the centre of one in time: `[D, C, P, P]` -> `[D, C, tubelet, P, P]`."""
    if kernel.ndim == 5:
        return kernel
    after = tubelet - 1 - tubelet // 2
    return F.pad(kernel.unsqueeze(2), (0, 0, 0, 0, tubelet // 2, after))


def in_time(positions: Tensor, n: int) -> Tensor:
    """Positions of another number of moments, interpolated linearly: `[1, T, D]` -> `[1, n, D]`."""
    if positions.shape[1] == n:
        return positions
    return F.interpolate(positions.mT, size=n, mode="linear", align_corners=False).mT


def in_space(positions: Tensor, side: int) -> Tensor:
    """Positions of another grid, interpolated bicubically behind the class token's: `[1, 1 + n, D]`."""
    token, grid = positions[:, :1], positions[:, 1:]
    n = math.isqrt(grid.shape[1])
    if n == side:
        return positions
    picture = grid.unflatten(1, (n, n)).permute(0, 3, 1, 2)
    resized = F.interpolate(picture, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([token, resized.flatten(2).mT], dim=1)


def _resized(published: Published, name: str, convert: Callable[[Tensor], Tensor]) -> Rule:
    return Rule(name, (Place(f"embedding.{name}"),), convert, tuple(published.tensors[name].shape))


def _tensor(published: Published, name: str, *dimensions: int) -> Tensor:
    """A tensor from whose shape a size follows."""
    if name not in published.tensors:
        raise InputError(f"{published.where} lacks tensor {name!r}, without which the model's size is not known")
    tensor = published.tensors[name]
    if tensor.ndim not in dimensions:
        expected = " or ".join(map(str, dimensions))
        raise InputError(f"{published.where}: {name} has shape {list(tensor.shape)}, expected {expected} dimensions")
    return tensor


def _side(published: Published) -> int:
    """Patches along the side of a frame."""
    n = _tensor(published, _SPACE, 3).shape[1] - 1
    if n < 1 or math.isqrt(n) ** 2 != n:
        raise InputError(f"{published.where}: {_SPACE} has {n} places behind the class token's, expected a square")
    return math.isqrt(n)


def _tubelet(published: Published, patches: Tensor) -> int:
    asked = _option(published, "tubelet", 1 if patches.ndim == 4 else patches.shape[2])
    if patches.ndim == 5 and asked != patches.shape[2]:
        raise InputError(
            f"{published.where}: tubelet={asked} was asked for, these weights of clips have {patches.shape[2]}. Leave "
            "it out"
        )
    return asked


def _option(published: Published, name: str, default: int) -> int:
    value = published.options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"load_pretrained: {name} is {value!r}, expected a whole number from 1")
    return value
