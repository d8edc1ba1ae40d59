"""What models that predict the next frame have in common: frames in and out, and a rollout without end."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from helixwave.errors import InputError
from helixwave.lengths import at_end
from torch import Tensor, nn

# logit of the share of a frame that is the last one moved, at the start
_MOSTLY_MOVED = 4.0
# channels that are normalised together are a fourth of all
GROUPS = 4

State = list[Any]
"""What each layer keeps between frames."""


class FramePredictor(nn.Module):
    """The frame behind each frame, from all frames up to it.

    An encoder makes `d_model` features of each patch of a picture, recurrent layers carry states from frame to frame,
    and a decoder moves the patches of each frame and draws what is new. A layer maps `(x, state, lengths)` to
    `(y, state)`, x and y being `[B, T, D, H, W]`.

    Args:
        layers: the recurrent layers.
        classes: names of the channels of a frame, whose values are from 0 to 1.
        d_model: channels of the layers.
        patch: side of a patch, pixels.
        reach: how far content can move from one frame to the next, pixels down and across.

    Raises:
        InputError: channels that do not come in groups, no patch, or a reach of less than nothing.
    """

    config: dict[str, Any]

    def __init__(self, layers: list[nn.Module], *, classes: list[str], d_model: int, patch: int, reach: int):
        super().__init__()
        expect_width(d_model)
        if patch < 1:
            raise InputError(f"model: patch is {patch}, expected at least 1 pixel")
        if reach < 0:
            raise InputError(f"model: reach is {reach}, expected at least 0 pixels")
        self.classes, self.patch = classes, patch
        self.encoder = Encoder(len(classes), d_model, patch)
        self.layers = nn.ModuleList(layers)
        self.decoder = Decoder(len(classes), d_model, patch=patch, reach=reach)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The frame behind each of the inputs, which are right-padded: `[B, T, C, H, W]` -> `[B, T, C, H, W]`."""
        return self.advance(inputs, lengths=lengths)[0]

    def advance(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """As `forward`, going on from the state that an earlier call returned, together with the state afterwards."""
        expect_frames(inputs, len(self.classes), self.patch)
        hidden = per_frame(self.encoder, inputs)
        states = []
        for layer, before in zip(self.layers, state or [None] * len(self.layers), strict=True):
            hidden, after = layer(hidden, before, lengths)
            states.append(after)
        predicted = self.decoder(hidden.flatten(0, 1), inputs.flatten(0, 1))
        return predicted.unflatten(0, inputs.shape[:2]), states

    def rollout(self, context: Tensor, lengths: Tensor | None = None) -> Iterator[Tensor]:
        """Frames `[B, C, H, W]` behind right-padded ones `[B, T, C, H, W]`, one after the other and without end.

        Each is predicted from the ones before it. Memory and time of a frame do not depend on how many there have been;
        no gradient is kept.
        """
        with torch.no_grad():
            predicted, state = self.advance(context, lengths=lengths)
        frame = at_end(predicted, lengths)
        while True:
            yield frame
            with torch.no_grad():
                predicted, state = self.advance(frame.unsqueeze(1), state)
            frame = predicted[:, 0]

    def predict(self, context: Tensor, n: int, lengths: Tensor | None = None) -> Tensor:
        """The `n` frames behind right-padded ones: `[B, T, C, H, W]` -> `[B, n, C, H, W]`."""
        return torch.stack(list(islice(self.rollout(context, lengths), n)), dim=1)


class Encoder(nn.Module):
    """Frames `[N, C, H, W]` as features of patches, `[N, D, H / patch, W / patch]`."""

    def __init__(self, channels: int, d_model: int, patch: int):
        super().__init__()
        self.patch = patch
        self.conv = nn.Conv2d(channels * patch**2, d_model, 3, padding=1)
        self.norm = nn.GroupNorm(GROUPS, d_model)

    def forward(self, frames: Tensor) -> Tensor:
        return F.silu(self.norm(self.conv(self.patches(frames))))

    def patches(self, frames: Tensor) -> Tensor:
        """All pixels of a patch as channels: `[N, C, H, W]` -> `[N, p p C, H / p, W / p]`."""
        patches = frames.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))  # [N, C, H', p, W', p]
        return patches.permute(0, 2, 4, 3, 5, 1).flatten(3).permute(0, 3, 1, 2)


class Decoder(nn.Module):
    """The next frame: each patch of the last one moved, and what is new in it.

    The features of a patch `[N, D, H / patch, W / patch]` say how far its content is moved, as weights of displacements
    down and across, what its pixels are otherwise, and how much of each counts. Moved by whole pixels, a frame stays
    as sharp as it is, however often. Source of the separable weights of each place: Niklaus, Mai and Liu, "Video Frame
    Interpolation via Adaptive Separable Convolution", 2017, section 3; of what is new behind a mask: Finn, Goodfellow
    and Levine, "Unsupervised Learning for Physical Interaction through Video Prediction", 2016, section 3.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, channels: int, d_model: int, *, patch: int, reach: int):
        super().__init__()
        self.patch, self.reach = patch, reach
        bands = _bands(patch, 2 * reach + 1)
        self.register_buffer("rows", bands.flatten(1), persistent=False)
        self.register_buffer("columns", bands.mT.flatten(1), persistent=False)
        self.sizes = [2 * reach + 1, 2 * reach + 1, channels * patch**2, channels * patch**2]
        self.conv = nn.Conv2d(d_model, sum(self.sizes), 1)
        with torch.no_grad():
            self.conv.bias[-self.sizes[-1] :] = _MOSTLY_MOVED  # type: ignore[index]

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        down, across, new, share = self.conv(features).permute(0, 2, 3, 1).split(self.sizes, dim=-1)
        moved = self.moved(frames, down.softmax(-1), across.softmax(-1))
        new, share = (torch.sigmoid(each).unflatten(-1, moved.shape[3:]) for each in (new, share))
        patches = new + share * (moved - new)  # [N, H', W', C, p, p]
        return patches.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)

    def moved(self, frames: Tensor, down: Tensor, across: Tensor) -> Tensor:
        """Patches `[N, H', W', C, p, p]` of what lies around them in frames, by weights `[N, H', W', 2 reach + 1]`."""
        side = self.patch + 2 * self.reach
        padded = F.pad(frames, [self.reach] * 4)
        windows = padded.unfold(2, side, self.patch).unfold(3, side, self.patch).permute(0, 2, 3, 1, 4, 5)
        rows = (down @ self.rows).unflatten(-1, (self.patch, side)).unsqueeze(3)
        columns = (across @ self.columns).unflatten(-1, (side, self.patch)).unsqueeze(3)
        return rows @ windows.contiguous() @ columns


def _bands(n: int, m: int) -> Tensor:
    """`[m, n, n + m - 1]`: weights `[m]` times it are a matrix whose row i has them from column i on."""
    weight, row, column = torch.meshgrid(*map(torch.arange, (m, n, n + m - 1)), indexing="ij")
    return (column == row + weight).float()


def per_frame(module: Callable[[Tensor], Tensor], frames: Tensor) -> Tensor:
    """What a module of pictures makes of each frame: `[B, T, C, H, W]` -> `[B, T, C', H', W']`."""
    # convolutions are faster with the channels last
    pictures = frames.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return module(pictures).unflatten(0, frames.shape[:2])


def expect_width(d_model: int) -> None:
    """Raise InputError unless channels come in groups for a norm."""
    if d_model < 1 or d_model % GROUPS:
        raise InputError(f"model: d_model is {d_model}, expected a multiple of {GROUPS}")


def expect_frames(inputs: Tensor, channels: int, multiple: int) -> None:
    """Raise InputError unless inputs are frames that can be cut into patches."""
    if inputs.ndim != 5 or inputs.shape[2] != channels:
        raise InputError(f"model: inputs have shape {list(inputs.shape)}, expected frames [B, T, {channels}, H, W]")
    if inputs.shape[3] % multiple or inputs.shape[4] % multiple:
        raise InputError(
            f"model: frames are {list(inputs.shape[3:])}, expected multiples of {multiple}. Change data.size"
        )
