"""What can be learnt of signals without labels: values that are hidden, or the next ones."""

import math
from typing import Any

import numpy as np
from sklearn.metrics import r2_score
from torch import Tensor, nn

from helixwave.data.source import Example, Picture, Source
from helixwave.data.views import Unlabelled
from helixwave.errors import InputError
from helixwave.objectives.collected import Collected
from helixwave.objectives.regression import Regression

# the stream of draws that shows a split in the same way each time it is judged
_JUDGED = 0


class _OfChannels(Regression):
    """Numbers of each channel at each position, from what the source shows; its labels are not looked at.

    Args:
        n_channel: how many channels, from the first, are predicted; None: all.
    """

    def __init__(self, classes: list[str], n_channel: int | None):
        super().__init__(classes, monitor="mse")
        self.n_channel = n_channel

    def prepare(self, source: Source) -> Source:
        """The source with other targets; its channels are what is predicted."""
        inputs = source.train.example(0, None)["inputs"]
        if inputs.ndim != 2 or not np.issubdtype(inputs.dtype, np.floating):
            raise InputError(
                f"objective: the inputs have shape {list(inputs.shape)} in {inputs.dtype}, expected a signal [T, C] in "
                "float32. For tokens choose objective.name=masked or causal"
            )
        n_channel = self.n_channel or inputs.shape[1]
        self.classes = [f"channel {number}" for number in range(1, n_channel + 1)]
        return Unlabelled(source, self.example)

    def example(self, example: Example, index: int, rng: np.random.Generator | None) -> Example:
        """Inputs and targets from the inputs of an example."""
        raise NotImplementedError

    def metrics(self) -> Collected:
        return Collected({"mse": _mse, "r2": _r2})

    def pictures(self, outputs: Tensor, target: Tensor) -> list[Picture]:
        return []


class MaskedSpans(_OfChannels):
    """Samples that are hidden in all channels at once, from both sides.

    An example is cut into spans at a random offset, a share of them is hidden: zeros in the place of all channels, so
    that none can be had from the others. The loss is the mean squared error of the hidden samples alone, in the scale
    of the inputs; a channel that is zero throughout is missing and not scored. What is hidden follows from the run's
    seed, the epoch and the example's number. It takes a model that gives numbers at each sample, such as
    `signal_model`. Source: Devlin et al., "BERT", 2019, section 3.1, for spans of a signal.

    Args:
        classes: of the source; they are not looked at.
        span: samples.
        share: of the spans that are hidden; one at least is, and one is not.
        n_channel: how many channels, from the first, are hidden and predicted, such as the leads of an ECG that has
            other channels behind them; null: all.

    Raises:
        InputError: a span of no samples, or no share.
    """

    def __init__(self, classes: list[str], *, span: int = 50, share: float = 0.4, n_channel: int | None = None):
        super().__init__(classes, n_channel)
        if span < 1:
            raise InputError(f"objective: span is {span}, expected at least 1 sample")
        if not 0 < share < 1:
            raise InputError(f"objective: share is {share}, expected more than 0 and less than 1")
        self.span, self.share = span, share

    def example(self, example: Example, index: int, rng: np.random.Generator | None) -> Example:
        """Inputs `[T, C]` without the hidden samples, and these: `[T, n_channel]`, NaN where nothing is scored."""
        inputs, n_channel = example["inputs"], len(self.classes)
        hidden = self.hidden(len(inputs), np.random.default_rng((_JUDGED, index)) if rng is None else rng)
        channels, rest = inputs[:, :n_channel], inputs[:, n_channel:]
        shown = np.concatenate([np.where(hidden[:, None], 0, channels), rest], axis=1)
        scored = hidden[:, None] & channels.any(axis=0)
        return {"inputs": shown.astype(inputs.dtype), "target": np.where(scored, channels, np.nan).astype(np.float32)}

    def hidden(self, T: int, rng: np.random.Generator) -> np.ndarray:
        """Which of T samples are hidden."""
        span = min(self.span, max(T // 2, 1))
        number = (np.arange(T) + rng.integers(span)) // span
        n_span = number[-1] + 1
        chosen = rng.permutation(n_span)[: min(max(round(self.share * n_span), 1), max(n_span - 1, 1))]
        return np.isin(number, chosen)


class NextValues(_OfChannels):
    """The next sample of each channel, from those before it: the mean squared error in the scale of the inputs.

    It takes a causal model that gives numbers at each sample. A channel that is zero throughout is missing and not
    scored. Source: Amos et al., "Never Train from Scratch", 2024, section 3.1, for numbers.

    Args:
        classes: of the source; they are not looked at.
        n_channel: how many channels, from the first, are predicted; null: all.
    """

    def __init__(self, classes: list[str], *, n_channel: int | None = None):
        super().__init__(classes, n_channel)

    def check(self, model: nn.Module) -> None:
        expect_unseen: Any = getattr(model, "expect_unseen", None)
        if expect_unseen is None:
            raise InputError(
                f"objective: {type(model).__name__} may see a value before it says it. Choose objective masked_spans, "
                "or another model.name, such as signal_model"
            )
        expect_unseen()

    def example(self, example: Example, index: int, rng: np.random.Generator | None) -> Example:
        """Inputs `[T, C]` as they are, and the following ones: `[T, n_channel]`, NaN where there is none."""
        channels = example["inputs"][:, : len(self.classes)].astype(np.float32)
        target = np.full_like(channels, np.nan)
        target[:-1] = np.where(channels.any(axis=0), channels[1:], np.nan)
        return {"inputs": example["inputs"], "target": target}


def _mse(outputs: np.ndarray, target: np.ndarray) -> float:
    return float(np.square(outputs - target).mean()) if len(target) else math.nan


def _r2(outputs: np.ndarray, target: np.ndarray) -> float:
    return float(r2_score(target, outputs)) if len(target) > 1 else math.nan
