"""What a model of tokens learns without labels: from a short clip, which long clip it was taken from."""

import numpy as np
import torch
import torch.nn.functional as F
from helixwave.data.source import Example, Source
from helixwave.data.views import Unlabelled
from helixwave.errors import InputError
from helixwave.objectives.contrastive import Contrastive
from torch import Tensor, nn

from helixwave_domains.video.selective_s4 import SelectiveS4

# the stream of draws that shows a split in the same way each time it is judged
_JUDGED = 0


class LongShortContrastive(Contrastive):
    """Long-short masked contrastive learning (LSMCL): a short clip with hidden tokens is to tell its long one.

    Of each video a long clip and, anywhere in the video, a short one are taken. The slow copy of `selective_s4` reads
    the long one whole; the model reads the short one, a share of whose tokens, drawn at random, is left out. Their
    projections are to be more alike than those of the short clip and any other long one of the batch: the cross
    entropy of cosines over a temperature (InfoNCE), without gradient for the long ones. Reported are that loss, and
    how often the nearest long clip is the right one. From the paper's abstract are long, short, mask and momentum; the
    negatives from the batch and the shares are ours.
    Source: Wang et al., "Selective Structured State-Spaces for Long-Form Video Understanding", 2023, abstract; van den
    Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, section 2.3, for the loss.

    Args:
        classes: of the source; they are not looked at.
        size: numbers of a projection.
        temperature: of the cosines.
        long: share of a video that the long clip has.
        short: share of the long clip's length that the short one has.
        hidden: share of the short clip's tokens that are left out.

    Raises:
        InputError: a value that makes no sense.
    """

    monitor = "info_nce"

    def __init__(
        self,
        classes: list[str],
        *,
        size: int = 128,
        temperature: float = 0.1,
        long: float = 0.8,
        short: float = 0.25,
        hidden: float = 0.5,
    ):
        for name, value, allowed in (
            ("size", size, size >= 1),
            ("temperature", temperature, temperature > 0),
            ("long", long, 0 < long <= 1),
            ("short", short, 0 < short <= 1),
            ("hidden", hidden, 0 <= hidden < 1),
        ):
            if not allowed:
                raise InputError(f"objective: {name} is {value}, expected {_EXPECTED[name]}")
        self.classes = [f"number {i}" for i in range(1, size + 1)]
        self.temperature, self.long, self.short, self.hidden = temperature, long, short, hidden

    def prepare(self, source: Source) -> Source:
        """The source with a long and a short clip of each video."""
        return Unlabelled(source, self.example)

    def check(self, model: nn.Module) -> None:
        """Raise InputError unless the model has a slow copy."""
        if not isinstance(model, SelectiveS4):
            raise InputError(
                f"objective: long_short_contrastive needs a model with a slow copy, not {type(model).__name__}. Set "
                "model.name=selective_s4"
            )

    def example(self, example: Example, index: int, rng: np.random.Generator | None) -> Example:
        """Features `[T, D]` as `[T', 2 D]`: the long clip, and beside it what is shown of the short one, then zeros."""
        rng = np.random.default_rng((_JUDGED, index)) if rng is None else rng
        features = example["inputs"]
        long = _piece(features, max(1, round(self.long * len(features))), rng)
        short = _piece(features, max(1, round(self.short * len(long))), rng)
        n_shown = int(self.n_shown(torch.tensor(len(long))))
        shown = short[np.sort(rng.permutation(len(short))[:n_shown])]
        beside = np.zeros_like(long)
        beside[:n_shown] = shown
        return {"inputs": np.concatenate([long, beside], axis=1), "target": 0}

    def n_shown(self, lengths: Tensor) -> Tensor:
        """Tokens of the short clip that are shown beside long clips of these lengths."""
        n_short = (self.short * lengths.double()).round().clamp(min=1)
        return ((1 - self.hidden) * n_short).round().clamp(min=1).long()

    def outputs(self, model: nn.Module, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Projections of short and long clips: `[B, T, 2 D]` -> `[B, 2, size]`."""
        assert isinstance(model, SelectiveS4)
        if model.training and torch.is_grad_enabled():
            model.move_teacher()
        long, short = inputs.chunk(2, dim=-1)
        told = model.projected(short, self.n_shown(lengths))
        return torch.stack([told, model.projected(long, lengths, slow=True)], dim=1)

    def choices(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of each short clip over all long ones `[B, B]`, and the number of its own `[B]`."""
        short, long = F.normalize(outputs.float(), dim=-1).unbind(1)
        return short @ long.mT / self.temperature, torch.arange(len(short), device=short.device)


_EXPECTED = {
    "size": "at least 1",
    "temperature": "more than 0",
    "long": "more than 0 and at most 1",
    "short": "more than 0 and at most 1",
    "hidden": "at least 0 and less than 1",
}


def _piece(features: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    start = rng.integers(len(features) - length + 1)
    return features[start : start + length]
