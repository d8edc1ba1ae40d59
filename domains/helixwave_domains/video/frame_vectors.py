"""Single frames as vectors, without a checkpoint of ours."""

from typing import Any

import torch
from torch import Tensor, nn

from helixwave_domains.video.frame_features import frame_net
from helixwave_domains.video.preprocessing import Preprocessing

# pixels that nets read which do not say how many
_SIZE = 112


class FrameVectors(nn.Module):
    """A frame net in the place of a model of clips: a window is one frame, its vector the net's features.

    Args:
        name: as for `frame_net`. `small` has weights drawn once and for all, and knows nothing of pictures.
        seconds: from one frame to the next.
    """

    def __init__(self, name: str, *, seconds: float = 1.0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net: Any = frame_net(name, 3)
        self.classes: list[str] = []
        self.config = {"preprocessing": _reading(self.net, 1 / seconds).config()}

    def embed(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Clips of one frame each, `[B, 1, C, H, W]` -> `[B, D]`."""
        return self.net(inputs[:, 0])


def _reading(net: Any, rate: float) -> Preprocessing:
    """One frame at a time, as the net was trained to read it."""
    said = getattr(getattr(net, "net", None), "pretrained_cfg", None)
    if said is None:
        return Preprocessing(n_frame=1, rate=rate, size=_SIZE, sampling="dense")
    size, mean, deviation = said["input_size"][-1], list(said["mean"]), list(said["std"])
    return Preprocessing(n_frame=1, rate=rate, size=size, mean=mean, deviation=deviation, sampling="dense")
