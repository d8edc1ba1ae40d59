"""TiRex, a zero-shot forecaster: patches of a series, a stack of sLSTM blocks, quantiles of the next patch."""

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from torch import Tensor, nn
from torch.utils._pytree import tree_map


class TiRex(nn.Module):
    """Quantiles of what follows a series, for series that it was not trained on.

    The standardised series is cut into patches; each is embedded with a mask of what is there, and from the patches up
    to it the backbone makes the quantiles of the patch behind it. Source: Auer et al., "TiRex: Zero-Shot Forecasting
    Across Long and Short Horizons with Enhanced In-Context Learning", 2025, section 3.

    Quantiles are as published: each level has its own output, and nothing keeps two of them from crossing.

    Args:
        backbone: `[B, N, D] -> [B, N, D]`, causal and with states.
        classes: the levels of the quantiles, between 0 and 1 and rising, "0.5" among them.
        patch: steps in a patch.
        context: steps that are read at most, a multiple of `patch`; published TiRex: 2048.
        d_hidden: hidden units of the embedding and of the head.
    """

    config: dict[str, Any]

    def __init__(
        self, *, backbone: Backbone, classes: list[str], patch: int = 32, context: int = 2048, d_hidden: int = 2048
    ):
        super().__init__()
        if not 1 <= patch <= context or context % patch:
            raise InputError(f"tirex: context is {context}, expected a multiple of patch, which is {patch}")
        backbone.expect_causal()
        backbone.expect_states()
        self.classes, self.patch, self.context = classes, patch, context
        self.levels = _levels(classes)
        self.input_patch_embedding = PatchMLP(2 * patch, d_hidden, backbone.d_model)
        self.backbone = backbone
        self.output_patch_embedding = PatchMLP(backbone.d_model, d_hidden, len(classes) * patch)

    def forward(self, patches: Tensor) -> Tensor:
        """What follows each patch: standardised values `[B, N, patch]`, NaN where missing -> `[B, N, patch, Q]`."""
        hidden, _ = self.backbone(self._embedded(patches))
        return self._quantiles(hidden)

    @torch.no_grad()
    def forecast(self, context: Tensor, horizon: int, *, patches_at_once: int = 1) -> Tensor:
        """Quantiles of the next steps of each series, in its units.

        The last `self.context` steps are read; what a shorter series lacks is missing on its left. Behind the first
        patch the forecast rolls on: what lies between the series and the next patch is read as missing, and the window
        moves on with it.

        Args:
            context: `[B, T]`, NaN where a value is missing; series of other lengths begin with NaN.
            horizon: steps to forecast.
            patches_at_once: patches of the horizon that one pass forecasts. As published it is 1; with more a long
                horizon takes fewer passes and comes out a little different.

        Returns:
            `[B, horizon, Q]` for the levels `self.levels`, in the dtype of `context`, in float32 at least.

        Raises:
            InputError: no such sizes, infinite values, or a series without a value in the window at the last patch.
        """
        self._expect_sizes(context, horizon, patches_at_once)
        self._expect_values(context, horizon, patches_at_once)
        n_patch = -(-horizon // self.patch)
        window = context.to(torch.promote_types(context.dtype, torch.float32))
        window = F.pad(window, (self.context, 0), value=torch.nan)
        parts: list[Tensor] = []
        for start in range(0, n_patch, patches_at_once):
            n_new = min(patches_at_once, n_patch - start)
            window = window[:, -self.context :]
            parts.append(self._following(window, n_new))
            window = F.pad(window, (0, n_new * self.patch), value=torch.nan)
        return torch.cat(parts, dim=1)[:, :horizon]

    def median(self, quantiles: Tensor) -> Tensor:
        """The point forecast, `[B, H, Q]` -> `[B, H]`: the median, which the published code returns as the mean."""
        return quantiles[..., self.levels.index(0.5)]

    def _following(self, window: Tensor, n_patch: int) -> Tensor:
        """The next patches at once, `[B, context]` -> `[B, n_patch * patch, Q]`."""
        loc, scale = _standards(window)
        patches = ((window - loc) / scale).unflatten(1, (-1, self.patch))
        patches = F.pad(patches, (0, 0, 0, n_patch - 1), value=torch.nan)
        n_empty = int(patches.isnan().all(2).all(0).int().cumprod(0).sum())
        hidden, _ = self.backbone(self._embedded(patches[:, n_empty:]), self._empty_state(patches[:, :n_empty]))
        quantiles = self._quantiles(hidden[:, -n_patch:]).flatten(1, 2)
        return quantiles.to(scale.dtype) * scale[..., None] + loc[..., None]

    def _empty_state(self, patches: Tensor) -> Any:
        """The state behind patches without a value: the same for every series, so that one alone is read."""
        if not patches.shape[1]:
            return None
        B = len(patches)
        _, state = self.backbone(self._embedded(patches[:1]))
        return tree_map(lambda part: part.expand(B, *part.shape[1:]) if isinstance(part, Tensor) else part, state)

    def _embedded(self, patches: Tensor) -> Tensor:  # [B, N, patch] -> [B, N, D]
        missing = patches.isnan()
        inputs = torch.cat([patches.masked_fill(missing, 0), ~missing], dim=-1)
        return self.input_patch_embedding(inputs.to(self.dtype))

    def _quantiles(self, hidden: Tensor) -> Tensor:  # [B, N, D] -> [B, N, patch, Q]
        return self.output_patch_embedding(hidden).unflatten(-1, (-1, self.patch)).mT

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        return self.input_patch_embedding.hidden_layer.weight.dtype

    def _expect_sizes(self, context: Tensor, horizon: int, patches_at_once: int) -> None:
        if context.ndim != 2 or not context.numel():
            raise InputError(f"tirex: context has shape {list(context.shape)}, expected [series, steps]")
        for name, value in (("horizon", horizon), ("patches_at_once", patches_at_once)):
            if value < 1:
                raise InputError(f"tirex: {name} is {value}, expected at least 1")
        step = patches_at_once * self.patch
        longest = -(-self.context // step) * step
        if horizon > longest:
            raise InputError(
                f"tirex: horizon is {horizon}, expected at most {longest}: behind that, nothing of the series is left "
                f"in the {self.context} steps that are read"
            )

    def _expect_values(self, context: Tensor, horizon: int, patches_at_once: int) -> None:
        if context.isinf().any():
            raise InputError("tirex: context holds infinite values. Expected numbers, and NaN where one is missing")
        step = patches_at_once * self.patch
        n_read = self.context - (horizon - 1) // step * step
        empty = context[:, -n_read:].isnan().all(1).nonzero()
        if len(empty):
            raise InputError(
                f"tirex: series {int(empty[0])} has no value in its last {n_read} steps, which are all that is read "
                f"for step {horizon} of the forecast. Leave it out, or choose a shorter horizon"
            )


class PatchMLP(nn.Module):
    """A hidden layer of ReLUs beside a linear map: from patches to channels, or back."""

    def __init__(self, d_in: int, d_hidden: int, d_out: int):
        super().__init__()
        self.hidden_layer = nn.Linear(d_in, d_hidden)
        self.output_layer = nn.Linear(d_hidden, d_out)
        self.residual_layer = nn.Linear(d_in, d_out)

    def forward(self, x: Tensor) -> Tensor:  # [..., d_in] -> [..., d_out]
        return self.output_layer(F.relu(self.hidden_layer(x))) + self.residual_layer(x)


def _standards(window: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the values of each series, `[B, L]` -> `[B, 1]` twice; never a deviation of 0."""
    loc = window.nanmean(1, keepdim=True)
    scale = (window - loc).square().nanmean(1, keepdim=True).sqrt()
    return loc, torch.where(scale == 0, loc.abs() + 1e-5, scale)


def _levels(classes: list[str]) -> list[float]:
    try:
        levels = [float(name) for name in classes]
    except ValueError:
        levels = []
    if 0.5 not in levels or any(a >= b for a, b in itertools.pairwise([0.0, *levels, 1.0])):
        raise InputError(f"tirex: classes are {classes}, expected rising levels between 0 and 1, 0.5 among them")
    return levels
