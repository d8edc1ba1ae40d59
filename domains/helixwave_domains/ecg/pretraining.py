"""What a model learns of ECGs without labels: which two crops are of one recording."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from helixwave.data.source import Example, Source
from helixwave.data.views import Unlabelled
from helixwave.errors import InputError
from helixwave.objectives.contrastive import Contrastive
from torch import Tensor, nn

# the stream of draws that shows a split in the same way each time it is judged
_JUDGED = 0


class ContrastiveCrops(Contrastive):
    """Which two crops are of one recording, among the crops of all recordings of a batch (SimCLR).

    Each recording is cropped twice at random places; each crop is scaled and noise is added. What the model makes of
    the crops of one recording is to be more alike than what it makes of any other two, by the loss NT-Xent: the cross
    entropy of cosines over a temperature. Reported are that loss, and how often the nearest of all other crops of the
    batch is the right one. Any model of a whole recording takes it, its head being the projection.
    Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", 2020, section 2.

    Args:
        classes: of the source; they are not looked at.
        size: numbers of a projection.
        temperature: of the cosines.
        crop: share of a recording that a crop has.
        scale: standard deviation of the logarithm of each crop's factor.
        noise: standard deviation of the noise, in the scale of the inputs.
        n_lead: how many channels, from the first, are leads, which alone are changed; null: all.

    Raises:
        InputError: a value that makes no sense.
    """

    monitor = "nt_xent"

    def __init__(
        self,
        classes: list[str],
        *,
        size: int = 64,
        temperature: float = 0.1,
        crop: float = 0.5,
        scale: float = 0.1,
        noise: float = 0.05,
        n_lead: int | None = None,
    ):
        for name, value, least in (("size", size, 1), ("scale", scale, 0), ("noise", noise, 0)):
            if value < least:
                raise InputError(f"objective: {name} is {value}, expected at least {least}")
        if temperature <= 0:
            raise InputError(f"objective: temperature is {temperature}, expected more than 0")
        _expect_share("crop", crop)
        self.classes = [f"number {i}" for i in range(1, size + 1)]
        self.temperature, self.crop, self.scale, self.noise, self.n_lead = temperature, crop, scale, noise, n_lead

    def prepare(self, source: Source) -> Source:
        """The source with two crops of each recording side by side."""
        return Unlabelled(source, self.example)

    def example(self, example: Example, index: int, rng: np.random.Generator | None) -> Example:
        """Two crops, `[T, C]` each, as `[T, 2 C]`; the target is of no meaning."""
        rng = np.random.default_rng((_JUDGED, index)) if rng is None else rng
        return {"inputs": np.concatenate([self.view(example["inputs"], rng) for _ in range(2)], axis=1), "target": 0}

    def view(self, inputs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One crop of `[T, C]`."""
        length = max(1, round(self.crop * len(inputs)))
        start = rng.integers(len(inputs) - length + 1)
        view = inputs[start : start + length].copy()
        leads = view[:, : self.n_lead]
        # a missing lead stays missing
        noise = self.noise * rng.standard_normal(leads.shape) * leads.any(axis=0)
        leads[:] = leads * np.exp(self.scale * rng.standard_normal()) + noise
        return view

    def outputs(self, model: nn.Module, inputs: Tensor, lengths: Tensor) -> Tensor:
        """What the model makes of both crops: `[B, T, 2 C]` -> `[B, 2, size]`."""
        return torch.stack([model(view, lengths) for view in inputs.chunk(2, dim=-1)], dim=1)

    def choices(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of each crop over all crops `[2 B, 2 B]`, never itself, and the number of the right one `[2 B]`."""
        if outputs.ndim != 3 or outputs.shape[1] != 2:
            raise InputError(
                f"objective: the model gives {list(outputs.shape)} for two crops, expected one vector for each. Choose "
                "a model of a whole recording, such as model.head=record"
            )
        unit = F.normalize(outputs.float().transpose(0, 1).flatten(0, 1), dim=-1)
        number = torch.arange(len(unit), device=unit.device)
        logits = (unit @ unit.mT / self.temperature).masked_fill(number[:, None] == number, -math.inf)
        return logits, (number + len(outputs)) % len(unit)


def _expect_share(name: str, share: float) -> None:
    if not 0 < share < 1:
        raise InputError(f"objective: {name} is {share}, expected more than 0 and less than 1")
