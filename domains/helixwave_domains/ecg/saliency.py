"""What a model looked at: how much each sample of each lead moved its output."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from helixwave.outputs import Predicts
from numpy.typing import NDArray
from torch import Tensor, nn

from helixwave_domains.ecg.preprocessing import Inputs, Prepared

Floats = NDArray[np.float32]

# points of the path that go through the model at once
_AT_ONCE = 8


@dataclass(frozen=True)
class Saliency:
    """How much a model looked at each moment of a recording.

    Args:
        values: not negative, `[T, C]`.
        leads: of the columns; None: one column that holds for all leads.
        rate: values a second.
        start: of the first value in the recording, in seconds.
        what: the label that it speaks of.
    """

    values: Floats
    leads: Sequence[str] | None
    rate: float
    start: float
    what: str

    def at(self, lead: str, seconds: NDArray[np.floating]) -> Floats | None:
        """Values at times of the recording `[n]`, from 0 to 1, the largest of all; None: nothing is known of `lead`."""
        if self.leads is not None and lead not in self.leads:
            return None
        column = self.values[:, 0 if self.leads is None else list(self.leads).index(lead)]
        times = self.start + (np.arange(len(column)) + 0.5) / self.rate
        found = np.interp(seconds, times, column, left=0, right=0) / max(float(self.values.max(initial=0)), 1e-30)
        return found.astype(np.float32)

    def strongest(self, seconds: float, whole: float) -> float:
        """Where the page of so many seconds begins that has the most of it, in a recording of `whole` seconds."""
        total = np.concatenate([[0.0], np.cumsum(self.values.sum(1, dtype=np.float64))])
        n = min(round(seconds * self.rate), len(self.values))
        best = int(np.argmax(total[n:] - total[: len(total) - n]))
        return float(max(min(self.start + best / self.rate, whole - seconds), 0.0))


def explain(model: Any, prepared: Prepared, class_number: int, *, first: int = 0) -> Saliency:
    """What a model from a checkpoint looked at in the window of a recording that begins at sample `first`."""
    config, preprocessing = model.config, prepared.preprocessing
    window = prepared.read(first, min(first + preprocessing.length, prepared.n_sample))
    predicts = config.get("predicts", "class")
    values = saliency(model, preprocessing.scaled(window), class_number, rate=preprocessing.rate, predicts=predicts)
    rate = preprocessing.rate
    return Saliency(values, preprocessing.leads, rate, first / rate, config["classes"][class_number])


def saliency(
    model: nn.Module,
    inputs: Inputs,
    class_number: int,
    *,
    rate: float,
    predicts: Predicts = "labels",
    smoothing: float = 0.1,
    steps: int = 32,
) -> Floats:
    """How much each sample counted for one class: the size of its attribution, averaged over a moment.

    Args:
        model: as for `attributions`.
        inputs: one window `[T, C]`.
        class_number: of which output.
        rate: samples a second.
        predicts: what the outputs mean.
        smoothing: the moment in seconds; about one QRS complex.
        steps: of the path, see `attributions`.

    Returns:
        `[T, C]`, not negative.
    """
    size = torch.from_numpy(np.abs(attributions(model, inputs, class_number, predicts=predicts, steps=steps)))
    width = 2 * round(smoothing * rate / 2) + 1
    # only what is inside the window is averaged
    mean = F.avg_pool1d(size.T[None], width, stride=1, padding=width // 2, count_include_pad=False)
    return mean[0].T.contiguous().numpy()


def attributions(
    model: nn.Module, inputs: Inputs, class_number: int, *, predicts: Predicts = "labels", steps: int = 32
) -> Floats:
    """Integrated gradients from zeros to `inputs`: what each sample adds to the log-odds of a class.

    They sum to the difference between the log-odds of `inputs` and those of zeros, which is what a model reads where
    nothing is known. A saturated output has no gradient where it stands but has one on the way; nothing is random.
    Source: Sundararajan et al., "Axiomatic Attribution for Deep Networks", 2017, equation 1, by the midpoint rule.

    Args:
        model: `forward(inputs [B, T, C], lengths [B]) -> logits [B, n_class]`; neither its weights nor their gradients
            nor its mode change.
        inputs: one window `[T, C]`.
        class_number: of which output.
        predicts: one class out of several, or labels of their own.
        steps: points of the path.

    Returns:
        `[T, C]`.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with torch.inference_mode(False), torch.enable_grad(), _evaluated(model):
        x = torch.tensor(inputs, dtype=torch.float32, device=device)
        total = torch.zeros_like(x)
        for part in ((torch.arange(steps, device=device) + 0.5) / steps).split(_AT_ONCE):
            path = (part[:, None, None] * x).requires_grad_()
            outputs = model(path, torch.full((len(path),), len(x), device=device))
            (gradient,) = torch.autograd.grad(_log_odds(outputs, class_number, predicts).sum(), path)
            total += gradient.sum(0)
    return (x * total / steps).cpu().numpy()


def _log_odds(outputs: Tensor, class_number: int, predicts: Predicts) -> Tensor:  # [B, n_class] -> [B]
    if predicts != "class":
        return outputs[:, class_number]
    others = torch.arange(outputs.shape[1], device=outputs.device) != class_number
    return outputs[:, class_number] - outputs[:, others].logsumexp(1)


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; each part has its own mode again afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
