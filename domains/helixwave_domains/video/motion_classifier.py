"""Any backbone as a classifier of motion: point tracks or movement sensors, of any lengths and with gaps."""

from typing import Any, ClassVar, Literal

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
        head: `series` scores the whole; `steps` gives numbers at each step, as for what was hidden.
        channels: C.
        patch: steps of a patch; 1 embeds each step.
        stride: steps from one patch to the next; null: as many as a patch has.
        pool: of the head `series`: the mean over patches, the maximum, both side by side, or the last patch.
        dropout: before the last linear layer.

    Raises:
        InputError: patches of no step, or strides that leave steps out.
    """

    pretrained_as: ClassVar[dict[str, Any]] = {"name": "motion_classifier", "head": "steps"}
    reading = ("channels", "patch", "stride")

    def __init__(
        self,
        *,
        backbone: Backbone,
        classes: list[str],
        predicts: Predicts = "class",
        head: Literal["series", "steps"] = "series",
        channels: int = 2,
        patch: int = 1,
        stride: int | None = None,
        pool: Literal["mean", "max", "mean_max", "last"] = "mean",
        dropout: float = 0.0,
    ):
        super().__init__(classes=classes, predicts=predicts)
        self.channels, self.patch, self.stride, self.pool = channels, patch, stride, pool
        steps = {"patch": patch, "stride": patch if stride is None else stride}
        self.embedding = SeriesPatches(channels, backbone.d_model, **steps)
        self.backbone = backbone
        if head == "steps":
            self.head: nn.Module = StepHead(backbone.d_model, len(classes), **steps, dropout=dropout)
        else:
            width = backbone.d_model * (2 if pool == "mean_max" else 1)
            self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, len(classes)))

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Scores of right-padded series `[B, T, C]`: `[B, n_class]`, at each step `[B, T, n_class]`."""
        if isinstance(self.head, StepHead):
            return self.head(*self.hidden(inputs, lengths), inputs.shape[1])
        return super().forward(inputs, lengths)

    def expect_unseen(self) -> None:
        """Raise InputError if the next value is seen before it is said."""
        if self.patch > 1:
            raise InputError(
                f"model: a patch has {self.patch} steps, and what is said of its first depends on its last. Set "
                "model.patch=1, or choose objective masked_spans"
            )
        self.backbone.expect_causal()  # type: ignore[operator]

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


class StepHead(nn.Module):
    """A linear map of the hidden state of each patch to numbers at its steps.

    Where patches overlap, the last valid one that a step is in says them.
    """

    def __init__(self, d_model: int, n_class: int, *, patch: int, stride: int, dropout: float):
        super().__init__()
        self.patch, self.stride = patch, stride
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(d_model, patch * n_class)

    def forward(self, hidden: Tensor, n_patch: Tensor | None, T: int) -> Tensor:
        """`[B, T', D]`, of which `n_patch` `[B]` are valid -> `[B, T, n_class]`."""
        said = self.linear(self.dropout(hidden)).unflatten(-1, (self.patch, -1))  # [B, T', patch, n_class]
        if n_patch is None:
            n_patch = torch.full((len(hidden),), hidden.shape[1], device=hidden.device)
        step = torch.arange(T, device=hidden.device)
        patch = torch.minimum(step // self.stride, n_patch[:, None] - 1)
        # steps of padding may lie behind the last patch
        within = (step - patch * self.stride).clamp(max=self.patch - 1)
        return said[torch.arange(len(said), device=said.device)[:, None], patch, within]


def _highest_valid(x: Tensor, lengths: Tensor | None) -> Tensor:
    """The maximum over valid positions: `[B, T, D]` -> `[B, D]`."""
    if lengths is not None:
        x = x.masked_fill(~valid_mask(lengths, x.shape[1])[..., None], -torch.inf)
    return x.amax(1)
