"""A checkpoint and any clip: probabilities for the whole and along its time, and vectors of its windows."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from helixwave.checkpoint import find_checkpoint, load
from helixwave.errors import InputError
from helixwave.outputs import Predicts, readable
from numpy.typing import NDArray
from torch import Tensor

from helixwave_domains.video.clip import Clip
from helixwave_domains.video.clip_windows import Sliding, windows
from helixwave_domains.video.preprocessing import Inputs, Preprocessing, preprocessing_from
from helixwave_domains.video.sampling import Times

Aggregate = Literal["mean", "max"]

# frames that a model reads at once, in as many windows as that are
_FRAMES = 64


@dataclass(frozen=True)
class Prediction:
    """What a model says of a clip.

    Args:
        clip: that was read.
        classes: names of the classes or labels.
        predicts: one class out of several, or each label or not.
        values: probabilities `[n]` of the whole clip.
        thresholds: from which probability on a label is called present `[n]`.
        starts, stops: seconds of the windows `[W]`.
        timeline: probabilities of each window `[W, n]`.
    """

    clip: Clip
    classes: list[str]
    predicts: Predicts
    values: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    starts: Times
    stops: Times
    timeline: NDArray[np.float64]

    @property
    def probabilities(self) -> dict[str, float]:
        """Of the whole clip, by name."""
        return dict(zip(self.classes, self.values.tolist(), strict=True))

    @property
    def present(self) -> list[str]:
        """The labels that reach their thresholds, or the likeliest class; none where numbers are predicted."""
        if self.predicts == "class":
            return [self.classes[int(self.values.argmax())]]
        if self.predicts == "numbers":
            return []
        return [self.classes[i] for i in np.flatnonzero(self.values >= self.thresholds)]


def chosen_device(device: str) -> torch.device:
    """A device by its name, or with `auto` a GPU if there is one.

    Raises:
        InputError: no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device!r} cannot be used: {str(error).partition('. ')[0]}. Try cpu") from error


class Predictor:
    """A trained model with the preprocessing, the temperature and the thresholds of its checkpoint.

    Args:
        model: with a configuration that says how its clips are read, as training leaves it.
        sliding: where windows lie.
        aggregate: how the windows' probabilities become the clip's.
        where: the checkpoint, for messages.

    Raises:
        InputError: the model reads no clips.
    """

    def __init__(
        self,
        model: Any,
        *,
        sliding: Sliding = Sliding(),  # noqa: B008
        aggregate: Aggregate = "mean",
        where: str = "this model",
    ):
        self.model, self.sliding, self.aggregate, self.where = model.eval(), sliding, aggregate, where
        config = model.config.get("preprocessing")
        if config is None:
            raise InputError(f"{where}: a {type(model).__name__} that does not say how clips are read. Train one first")
        self.preprocessing: Preprocessing = sliding.fitted(preprocessing_from(config, where=f"{where}: preprocessing"))
        self.classes, self.predicts = model.classes, model.config.get("predicts", "class")
        calibration = model.config.get("calibration", {})
        self.temperature = float(calibration.get("temperature", 1.0))
        self.thresholds = np.array(calibration.get("thresholds", [0.5] * len(self.classes)))

    @classmethod
    def load(cls, checkpoint: Path | str, device: str = "cpu", **serving: Any) -> "Predictor":
        """From a checkpoint or the folder of a run; the arguments of the constructor by name.

        Args:
            device: where to compute; `auto` takes a GPU if there is one.

        Raises:
            InputError: no checkpoint of a model of clips.
        """
        folder = find_checkpoint(Path(checkpoint))
        return cls(load(folder).to(chosen_device(device)), where=str(folder), **serving)

    def predict(self, clip: Clip) -> Prediction:
        """Probabilities of a clip.

        Raises:
            InputError: it is damaged, or the model does not read it.
        """
        starts, stops = self.spans(clip)
        timeline = np.concatenate([self._probabilities(batch) for batch in self._batches(clip, starts, stops)])
        values = timeline.mean(0) if self.aggregate == "mean" else timeline.max(0)
        if self.predicts == "class":
            values = values / values.sum()
        return Prediction(clip, self.classes, self.predicts, values, self.thresholds, starts, stops, timeline)

    def spans(self, clip: Clip) -> tuple[Times, Times]:
        """When windows begin and end, `[W]` each."""
        return self.sliding.spans(self.preprocessing, clip.seconds)

    @torch.inference_mode()
    def vectors(self, clip: Clip) -> Iterator[NDArray[np.float32]]:
        """Vectors of the windows in batches `[B, D]`; no more than a batch of windows is in memory.

        Raises:
            InputError: the clip is damaged, or the model has no vectors.
        """
        if not hasattr(self.model, "embed"):
            raise InputError(f"{self.where}: a {type(self.model).__name__} gives no vectors of clips")
        for batch in self._batches(clip, *self.spans(clip)):
            yield self.model.embed(*self._padded(batch)).float().cpu().numpy()

    def _batches(self, clip: Clip, starts: Times, stops: Times) -> Iterator[list[Inputs]]:
        found = windows(clip, self.preprocessing, starts, stops)
        while batch := list(islice(found, max(1, _FRAMES // self.preprocessing.n_frame))):
            yield batch

    @torch.inference_mode()
    def _probabilities(self, batch: list[Inputs]) -> NDArray[np.float64]:
        outputs = self.model(*self._padded(batch)).double() / self.temperature
        if outputs.shape != (len(batch), len(self.classes)):
            raise InputError(
                f"{self.where}: a {type(self.model).__name__} predicts something else than classes of clips"
            )
        return readable(outputs, self.predicts).cpu().numpy()

    def _padded(self, batch: list[Inputs]) -> tuple[Tensor, Tensor]:
        """Windows `[B, T, C, H, W]`, right-padded, and how many frames each has `[B]`."""
        device = next(self.model.parameters()).device
        frames = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(each) for each in batch], batch_first=True)
        return frames.to(device), torch.tensor([len(each) for each in batch], device=device)
