"""Patches of frames through bidirectional Mamba blocks, read at a class token."""

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from helixwave.backbone import Backbone
from helixwave.blocks.bimamba import BiMamba
from helixwave.errors import InputError
from helixwave.lengths import valid_mask
from helixwave.outputs import Predicts
from torch import Tensor, nn

from helixwave_domains.video.clip_networks import ClipNetwork, expect_clips

Order = Literal["spatial", "temporal", "mixed"]


class VideoMamba(ClipNetwork):
    """VideoMamba: patches in space and time, blocks that scan them both ways, a class token before all others.

    Norms, blocks and positions are as published, whose weights `load_pretrained` reads; blocks start as Mamba's do. Of
    the orders of scanning, `mixed` is ours: the paper gives one half to either order, here every other block.
    Source: Li et al., "VideoMamba: State Space Model for Efficient Video Understanding", 2024, section 3, and its code.

    Args:
        classes: names of the outputs.
        predicts: whether these are classes, labels or numbers.
        channels: of a frame.
        size: height and width of a frame in pixels.
        patch: height and width of a patch.
        tubelet: frames of a patch. A last one of fewer frames is filled with zeros.
        n_frame: frames of the longest clip that there are positions for. A shorter one has the first of them.
        d_model: channels of a token.
        n_layer: blocks.
        order: `spatial` scans frame by frame, as published; `temporal` place by place; `mixed` does both in turn.
        d_state, d_conv, expand: of each block, see `bimamba`.
        drop_path: in training, the share of clips for which the last block is skipped, less for those before.
        dropout: before the head.
        checkpointing: keep less memory in training, see `Backbone`.
    """

    reading = ("channels", "size", "patch", "tubelet", "n_frame", "order")

    def __init__(
        self,
        *,
        classes: list[str],
        predicts: Predicts = "class",
        channels: int = 3,
        size: int = 224,
        patch: int = 16,
        tubelet: int = 1,
        n_frame: int = 8,
        d_model: int = 192,
        n_layer: int = 24,
        order: Order = "spatial",
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        drop_path: float = 0.1,
        dropout: float = 0.0,
        checkpointing: bool = False,
    ):
        super().__init__(classes=classes, predicts=predicts)
        self.channels, self.size, self.patch, self.tubelet = channels, size, patch, tubelet
        self.n_frame, self.order = n_frame, order
        self.embedding = PatchEmbedding(
            d_model, channels=channels, size=size, patch=patch, tubelet=tubelet, n_frame=n_frame
        )
        block = {"name": "bimamba", "d_state": d_state, "d_conv": d_conv, "expand": expand}
        self.backbone = ScanBackbone(
            d_model,
            n_layer=n_layer,
            blocks=[block],
            drop_path=drop_path,
            checkpointing=checkpointing,
            n_place=self.embedding.n_place,
            order=order,
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(d_model, len(classes)))
        self._reset(n_layer)

    def pooled(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """The class token."""
        return hidden[:, 0]

    @torch.no_grad()
    def _reset(self, n_layer: int) -> None:
        for mixer in self.backbone.blocks:  # type: ignore[union-attr]
            assert isinstance(mixer, BiMamba)
            mixer.mamba_fwd.out_proj.weight.div_(math.sqrt(n_layer))
        linear = self.head[1]  # type: ignore[index]
        nn.init.trunc_normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)


class PatchEmbedding(nn.Module):
    """A clip as a class token and one token for each patch, frame by frame, with learnt positions in space and time.

    Parameters have the published names.

    Raises:
        InputError: sizes that do not divide.
    """

    optimisation: ClassVar[dict[str, dict[str, float]]] = {
        name: {"weight_decay": 0.0} for name in ("cls_token", "pos_embed", "temporal_pos_embedding")
    }

    def __init__(self, d_model: int, *, channels: int, size: int, patch: int, tubelet: int, n_frame: int):
        super().__init__()
        for name, whole, part in (("size", size, patch), ("n_frame", n_frame, tubelet)):
            if min(whole, part) < 1 or whole % part:
                other = {"size": "patch", "n_frame": "tubelet"}[name]
                raise InputError(f"model: {name} is {whole}, expected a multiple of {other}, which is {part}")
        self.channels, self.size, self.tubelet, self.n_frame = channels, size, tubelet, n_frame
        self.n_place = (size // patch) ** 2
        kernel = (tubelet, patch, patch)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(channels, d_model, kernel, stride=kernel)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, d_model))
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, self.n_place + 1, d_model), std=0.02))
        self.temporal_pos_embedding = nn.Parameter(torch.zeros(1, n_frame // tubelet, d_model))

    def forward(self, clips: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """`[B, T, C, H, W]` -> `[B, 1 + T' n_place, D]`, and how many of these are valid."""
        self._expect(clips)
        if lengths is not None:
            clips = clips.masked_fill(~valid_mask(lengths, clips.shape[1])[..., None, None, None], 0)
        filled = F.pad(clips, (0, 0) * 3 + (0, -clips.shape[1] % self.tubelet))
        x = self.patch_embed["proj"](filled.transpose(1, 2)).flatten(3).permute(0, 2, 3, 1)  # [B, T', n_place, D]
        x = x + self.pos_embed[:, 1:] + self.temporal_pos_embedding[:, : x.shape[1], None]
        token = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        valid = None if lengths is None else 1 + -(-lengths // self.tubelet) * self.n_place
        return torch.cat([token, x.flatten(1, 2)], dim=1), valid

    def _expect(self, clips: Tensor) -> None:
        expect_clips(clips, self.channels)
        if clips.shape[-2:] != (self.size, self.size):
            raise InputError(
                f"this model reads frames of {self.size} x {self.size} pixels, these have {clips.shape[-2]} x "
                f"{clips.shape[-1]}. Set data.size or model.size"
            )
        if clips.shape[1] > self.n_frame:
            raise InputError(
                f"this model has positions for {self.n_frame} frames, a clip has {clips.shape[1]}. Give shorter clips, "
                f"train with model.n_frame, or load_pretrained(..., n_frame={clips.shape[1]})"
            )


class ScanBackbone(Backbone):
    """A backbone whose blocks read patches frame by frame or place by place, behind a token that stays the first.

    Args:
        n_place: patches of a frame.
        order: see `VideoMamba`.
    """

    def __init__(self, d_model: int, *, n_place: int, order: Order, n_layer: int, **options: Any):
        super().__init__(d_model, n_layer=n_layer, **options)
        self.n_place = n_place
        self.by_place = [order == "temporal" or (order == "mixed" and i % 2 == 1) for i in range(n_layer)]

    def _layer(self, i: int, x: Tensor, start: Any, lengths: Tensor | None) -> tuple[Tensor, Any]:
        if not self.by_place[i]:
            return super()._layer(i, x, start, lengths)
        y, end = super()._layer(i, reordered(x, self.n_place, lengths, by_place=True), start, lengths)
        return reordered(y, self.n_place, lengths, by_place=False), end


def reordered(x: Tensor, n_place: int, lengths: Tensor | None, *, by_place: bool) -> Tensor:
    """Patches from frame by frame to place by place, or back, behind a first token: `[B, 1 + T n_place, D]`.

    The valid ones of each clip stay together at the front.
    """
    token, patches = x[:, :1], x[:, 1:]
    if lengths is None:
        shape = (-1, n_place) if by_place else (n_place, -1)
        return torch.cat([token, patches.unflatten(1, shape).transpose(1, 2).flatten(1, 2)], dim=1)
    number = torch.arange(patches.shape[1], device=x.device)
    valid = lengths[:, None] - 1
    T = (valid // n_place).clamp(min=1)
    source = number % T * n_place + number // T if by_place else number % n_place * T + number // n_place
    source = torch.where(number < valid, source, number)
    return torch.cat([token, patches.gather(1, source[..., None].expand_as(patches))], dim=1)
