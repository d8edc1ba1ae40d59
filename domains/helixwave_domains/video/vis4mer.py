"""State spaces on features of patches, at ever coarser steps in time."""

import torch
import torch.nn.functional as F
from helixwave.blocks.s4 import S4
from helixwave.errors import InputError
from helixwave.lengths import valid_mask
from helixwave.outputs import Predicts
from torch import Tensor, nn

from helixwave_domains.video.clip_networks import ClipNetwork


class ViS4mer(ClipNetwork):
    """ViS4mer's decoder: S4 on frozen features of patches, halving length and width in each layer.

    A layer is `gelu(linear(pairs(x + dropout(s4(norm(x))))))`, where `pairs` averages two neighbours; a last one
    without a neighbour stands for itself, which is dropped in the published code. The mean over what is left is scored.
    The published features are those of a vision transformer, 197 to a frame and 1,024 numbers each. Source: Islam and
    Bertasius, "Long Movie Clip Classification with State-Space Video Models", 2022, section 3, and its code.

    Args:
        classes: names of the outputs.
        predicts: whether these are classes, labels or numbers.
        d_input: numbers of a feature.
        d_model: channels of the first layer, a multiple of `2^n_layer`. Features of as many are taken as they are.
        n_layer: layers.
        d_state: size of the state per channel, even.
        dropout: of whole channels behind each state space.
    """

    reading = ("d_input",)

    def __init__(
        self,
        *,
        classes: list[str],
        predicts: Predicts = "class",
        d_input: int = 1024,
        d_model: int = 1024,
        n_layer: int = 3,
        d_state: int = 64,
        dropout: float = 0.2,
    ):
        super().__init__(classes=classes, predicts=predicts)
        self.d_input = d_input
        self.embedding = FeatureEmbedding(d_input, d_model)
        self.backbone = MultiScale(d_model, n_layer=n_layer, d_state=d_state, dropout=dropout)
        self.head = nn.Linear(self.backbone.width, len(classes))

    def hidden(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Hidden states of the last scale `[B, T', D]`, and how many of each are valid `[B]`."""
        return self.backbone(*self.embedding(inputs, lengths))


class FeatureEmbedding(nn.Module):
    """Features `[B, T, d_input]` as they are, or through a linear map if the model has another width."""

    def __init__(self, d_input: int, d_model: int):
        super().__init__()
        self.d_input = d_input
        self.map = nn.Identity() if d_input == d_model else nn.Linear(d_input, d_model)

    def forward(self, features: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if features.ndim != 3 or features.shape[2] != self.d_input:
            raise InputError(
                f"this model reads features [B, T, {self.d_input}], the inputs have shape {list(features.shape)}. Set "
                "model.d_input to the numbers of a feature"
            )
        return self.map(features), lengths


class MultiScale(nn.Module):
    """Layers each of which halves length and width; `width` is that behind the last one.

    Raises:
        InputError: a width that cannot be halved so often.
    """

    def __init__(self, d_model: int, *, n_layer: int, d_state: int, dropout: float):
        super().__init__()
        if n_layer < 1 or d_model < 1 or d_model % 2**n_layer:
            raise InputError(f"model: d_model is {d_model}, expected a multiple of {2 ** max(n_layer, 1)} (2^n_layer)")
        widths = [d_model // 2**i for i in range(n_layer)]
        self.layers = nn.ModuleList(ScaleLayer(width, d_state=d_state, dropout=dropout) for width in widths)
        self.width = d_model // 2**n_layer

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """`[B, T, D]` -> `[B, T / 2^n_layer, D / 2^n_layer]`, rounded up, and how many of each are valid."""
        for layer in self.layers:
            x, lengths = layer(x, lengths)
        return x, lengths

    def mixed(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """What the first state space makes of the sequence, `[B, T, D]` -> `[B, T, D]`."""
        y: Tensor = self.layers[0].mixed(x, lengths)  # type: ignore[operator]
        return y


class ScaleLayer(nn.Module):
    """One layer, see `ViS4mer`."""

    def __init__(self, d_model: int, *, d_state: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.mixer = S4(d_model, d_state=d_state)
        self.dropout = nn.Dropout1d(dropout)
        self.linear = nn.Linear(d_model, d_model // 2)

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = x + self.dropout(self.mixed(x, lengths).mT).mT
        x, lengths = mean_pairs(x, lengths)
        return F.gelu(self.linear(x)), lengths

    def mixed(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """What the state space makes of the sequence, `[B, T, D]` -> `[B, T, D]`."""
        y: Tensor = self.mixer(self.norm(x), lengths=lengths)[0]
        return y


def mean_pairs(x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The mean of positions 0 and 1, 2 and 3 and so on, as far as they are valid: `[B, T, D]` -> `[B, T / 2, D]`."""
    T = x.shape[1]
    valid = torch.full((len(x),), T, device=x.device) if lengths is None else lengths
    shown = F.pad(x.masked_fill(~valid_mask(valid, T)[..., None], 0), (0, 0, 0, T % 2))
    first = torch.arange(0, T, 2, device=x.device)
    count = 1 + (first + 1 < valid[:, None]).to(x.dtype)
    means = shown.unflatten(1, (-1, 2)).sum(2) / count[..., None]
    return means, None if lengths is None else (lengths + 1) // 2
