"""Nets that see one frame at a time: a small convolutional one, pLSTM on a grid, and those of timm as an extra."""

import math
from collections.abc import Callable
from typing import Any

from helixwave.errors import InputError, nearest
from torch import Tensor, nn

from helixwave_domains.video.plstm_2d import FramePLSTM

_TIMM = "timm:"


def frame_net(name: str, channels: int) -> nn.Module:
    """A net `[N, C, H, W] -> [N, width]` that sees each frame by itself; its attribute `width` counts the features.

    Args:
        name: `small` for `SmallCNN`, `plstm` for `FramePLSTM`, or `timm:MODEL` for a model of timm with its published
            weights.
        channels: of a frame.

    Raises:
        InputError: an unknown name, or timm cannot be used.
    """
    if name.startswith(_TIMM):
        return TimmFrames(name.removeprefix(_TIMM), channels)
    if name not in _OWN:
        raise InputError(f"model: no frame net named {name!r}. {nearest(name, [*_OWN, 'timm:MODEL'])}")
    return _OWN[name](channels)


class SmallCNN(nn.Module):
    """Strided 3x3 convolutions with group norms, averaged over a grid of cells so that places are kept.

    No norm looks beyond its own frame, so that a frame's features depend on nothing else in a batch.

    Args:
        channels: of a frame.
        widths: channels behind each convolution, each of which halves height and width.
        grid: cells along height and width, whose means are the features.
    """

    def __init__(self, channels: int, *, widths: tuple[int, ...] = (16, 32, 64), grid: int = 4):
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in zip((channels, *widths), widths, strict=False):
            convolution = nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.GroupNorm(math.gcd(8, n_out), n_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(grid), nn.Flatten())
        self.width = widths[-1] * grid**2

    def forward(self, frames: Tensor) -> Tensor:  # [N, C, H, W] -> [N, width]
        return self.layers(frames)


class TimmFrames(nn.Module):
    """A model of timm without its classifier, with its published weights.

    Batch norms keep their published statistics in training too: those of a batch would mix its clips.

    Args:
        name: as timm knows it, such as `resnet18` or `vit_large_patch16_224`.
        channels: of a frame.

    Raises:
        InputError: timm is not there, cannot be imported, or cannot build the model.
    """

    def __init__(self, name: str, channels: int):
        super().__init__()
        self.net = _timm_model(name, channels)
        self.width = int(getattr(self.net, "head_hidden_size", None) or self.net.num_features)
        published: Any = self.net.pretrained_cfg
        self.size = tuple(published["input_size"][1:]) if published.get("fixed_input_size") else None

    def forward(self, frames: Tensor) -> Tensor:  # [N, C, H, W] -> [N, width]
        if self.size and tuple(frames.shape[-2:]) != self.size:
            raise InputError(
                f"this frame net reads {self.size[0]} x {self.size[1]} pixels, the frames have {frames.shape[-2]} x "
                f"{frames.shape[-1]}. Set data.size={self.size[0]}"
            )
        for module in self.net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self.net(frames)


def _timm_model(name: str, channels: int) -> Any:
    try:
        import timm
    except (ImportError, OSError, RuntimeError) as error:
        # a torchvision of another build than torch ends in an error of its libraries
        raise InputError(
            f"frame nets of timm need the package timm, whose import fails ({error}). pip install 'helixwave[timm]', "
            "or set model.frame=small"
        ) from error
    try:
        return timm.create_model(name, pretrained=True, in_chans=channels, num_classes=0)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"timm cannot build {name!r} ({error}). timm.list_models(pretrained=True) has names"
        ) from error


_OWN: dict[str, Callable[[int], nn.Module]] = {"plstm": FramePLSTM, "small": SmallCNN}
