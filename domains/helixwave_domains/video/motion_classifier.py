"""Any backbone as a classifier of motion: point tracks or movement sensors, of any lengths and with gaps."""

from typing import Literal

import torch
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.lengths import at_end, valid_mask
from helixwave.outputs import Predicts
from torch import Tensor, nn

from helixwave_domains.video.clip_networks import ClipNetwork, mean_valid


class MotionClassifier(ClipNetwork):
    """Patches of a series through a linear map, a backbone over the patches, and a linear head on what is pooled.

    Inputs are right-padded `[B, T, C]`, NaN where a value is missing: the model reads a zero there, and a mask beside
    the values.

    Args:
        backbone: `[B, T, D] -> [B, T, D]`.
        classes: names of the outputs.
        predicts: whether these are classes, labels or numbers.
        channels: C.
        patch: steps of a patch; 1 embeds each step.
        stride: steps from one patch to the next; null: as many as a patch has.
        pool: the mean over patches, the maximum, both side by side, or the last patch.
        dropout: before the head.

    Raises:
        InputError: patches of no step, or strides that leave steps out.
    """

    reading = ("channels", "patch", "stride")

    def __init__(
        self,
        *,
        backbone: Backbone,
        classes: list[str],
        predicts: Predicts = "class",
        channels: int = 2,
        patch: int = 1,
        stride: int | None = None,
        pool: Literal["mean", "max", "mean_max", "last"] = "mean",
        dropout: float = 0.0,
    ):
        super().__init__(classes=classes, predicts=predicts)
        self.channels, self.patch, self.stride, self.pool = channels, patch, stride, pool
        self.embedding = SeriesPatches(
            channels, backbone.d_model, patch=patch, stride=patch if stride is None else stride
        )
        self.backbone = backbone
        width = backbone.d_model * (2 if pool == "mean_max" else 1)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, len(classes)))

    def pooled(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """What the head reads of the patches: `[B, T', D]` -> `[B, D]`, `[B, 2 D]` for `mean_max`."""
        if self.pool == "last":
            return at_end(hidden, lengths)
        kinds = {"mean": [mean_valid], "max": [_highest_valid], "mean_max": [mean_valid, _highest_valid]}
        return torch.cat([kind(hidden, lengths) for kind in kinds[self.pool]], dim=-1)


class SeriesPatches(nn.Module):
    """A linear map of each patch: of its values, and of which of them are known.

    The last patch may reach behind the end of the series, where nothing is known.
    """

    def __init__(self, channels: int, d_model: int, *, patch: int, stride: int):
        super().__init__()
        if not 1 <= stride <= patch:
            raise InputError(f"model: patch {patch} and stride {stride}, expected a stride of 1 to the patch's steps")
        self.channels, self.patch, self.stride = channels, patch, stride
        self.linear = nn.Linear(2 * channels * patch, d_model)

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """`[B, T, C]` -> `[B, T', D]`, and how many patches of each series are valid `[B]`."""
        if x.ndim != 3 or x.shape[-1] != self.channels:
            raise InputError(
                f"this model reads series [B, T, {self.channels}], the inputs have shape {list(x.shape)}. Leave "
                "model.channels out, so that it follows from the data"
            )
        known = ~x.isnan()
        if lengths is not None:
            known &= valid_mask(lengths, x.shape[1])[..., None]
        steps = torch.cat([torch.where(known, x, 0), known.to(x.dtype)], dim=-1)
        behind = -(x.shape[1] - self.patch) % self.stride if x.shape[1] > self.patch else self.patch - x.shape[1]
        patches = nn.functional.pad(steps, (0, 0, 0, behind)).unfold(1, self.patch, self.stride)
        return self.linear(patches.flatten(2)), None if lengths is None else self.n_patch(lengths)

    def n_patch(self, lengths: Tensor) -> Tensor:
        """How many patches it takes until the last step is in one."""
        return (lengths - self.patch + self.stride - 1).clamp(min=0) // self.stride + 1


def _highest_valid(x: Tensor, lengths: Tensor | None) -> Tensor:
    """The maximum over valid positions: `[B, T, D]` -> `[B, D]`."""
    if lengths is not None:
        x = x.masked_fill(~valid_mask(lengths, x.shape[1])[..., None], -torch.inf)
    return x.amax(1)
