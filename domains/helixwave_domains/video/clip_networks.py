"""What models that classify a clip have in common."""

from typing import Any, ClassVar

import torch
from helixwave.errors import InputError
from helixwave.lengths import valid_mask
from helixwave.outputs import Predicts
from torch import Tensor, nn


class ClipNetwork(nn.Module):
    """Scores of a clip by an embedding, a backbone and a head.

    A subclass gives the three modules: `embedding(inputs, lengths)` returns vectors `[B, T', D]` and their valid
    lengths, `backbone(vectors, lengths=...)` as many hidden states and a state that is not looked at, `head` maps what
    `pooled` makes of them to scores. What is scored depends neither on padding nor on the rest of the batch.

    Args:
        classes: names of the outputs.
        predicts: whether these are classes, labels or numbers.
    """

    config: dict[str, Any]
    embedding: nn.Module
    backbone: nn.Module
    head: nn.Module
    # arguments that say how inputs are read, taken over with the embedding and the backbone of a checkpoint
    reading: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, classes: list[str], predicts: Predicts):
        super().__init__()
        self.classes, self.predicts = classes, predicts

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Scores of right-padded clips `[B, T, ...]`: `[B, n_class]`."""
        return self.head(self.embed(inputs, lengths))

    def embed(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """One vector of each clip: the pooled hidden states that the head looks at, `[B, D]`."""
        return self.pooled(*self.hidden(inputs, lengths))

    def hidden(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Last hidden states `[B, T', D]`, and how many of each are valid `[B]`."""
        embedded, valid = self.embedding(inputs, lengths)
        hidden, _ = self.backbone(embedded, lengths=valid)
        return hidden, valid

    def pooled(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """The mean over valid positions: `[B, T', D]` -> `[B, D]`."""
        return mean_valid(hidden, lengths)

    @property
    def reads(self) -> dict[str, Any]:
        """How inputs are read: arguments for another model that is to begin with the embedding and the backbone."""
        return {name: getattr(self, name) for name in self.reading}


class FrameEmbedding(nn.Module):
    """Each valid frame through a frame net and a linear map; padding is not computed.

    Args:
        net: `[N, C, H, W] -> [N, width]`, see `frame_net`.
        channels: of a frame.
        frozen: the net learns nothing and is used in evaluation mode; the map learns.
    """

    def __init__(self, net: nn.Module, d_model: int, *, channels: int, frozen: bool):
        super().__init__()
        self.net, self.channels, self.frozen = net, channels, frozen
        self.linear = nn.Linear(int(net.width), d_model)  # type: ignore[arg-type]
        net.requires_grad_(not frozen)

    def forward(self, clips: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """`[B, T, C, H, W]` -> `[B, T, D]`, and `lengths`."""
        expect_clips(clips, self.channels)
        if self.frozen:
            self.net.eval()
        B, T = clips.shape[:2]
        if lengths is None:
            return self.linear(self.net(clips.flatten(0, 1))).unflatten(0, (B, T)), None
        shown = valid_mask(lengths, T)
        vectors = self.linear(self.net(clips[shown]))
        x = vectors.new_zeros(B, T, vectors.shape[-1])
        x[shown] = vectors
        return x, lengths


def expect_clips(clips: Tensor, channels: int) -> None:
    """Raise InputError unless these are clips `[B, T, C, H, W]` of as many channels."""
    if clips.ndim != 5 or clips.shape[2] != channels:
        raise InputError(
            f"this model reads clips [B, T, {channels}, H, W], the inputs have shape {list(clips.shape)}. Set "
            "model.channels and data.channels to the same number"
        )


def mean_valid(x: Tensor, lengths: Tensor | None) -> Tensor:
    """The mean over valid positions: `[B, T, D]` -> `[B, D]`."""
    if lengths is None:
        return x.mean(1)
    return torch.where(valid_mask(lengths, x.shape[1])[..., None], x, 0).sum(1) / lengths[:, None]
