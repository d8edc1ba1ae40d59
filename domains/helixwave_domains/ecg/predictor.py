"""A checkpoint and any recording: probabilities for the whole and along its time."""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from helixwave.checkpoint import find_checkpoint, load
from helixwave.errors import InputError
from helixwave.outputs import Predicts, readable
from helixwave.registry import check_arguments
from helixwave.signature import signature_of
from numpy.typing import NDArray

from helixwave_domains.ecg.beat_detection import r_peaks
from helixwave_domains.ecg.beat_preprocessing import BeatPreprocessing
from helixwave_domains.ecg.formats import Declared, read_recording
from helixwave_domains.ecg.leads import with_leads
from helixwave_domains.ecg.preprocessing import Inputs, Prepared, Preprocessing, preprocessing_from
from helixwave_domains.ecg.recording import Recording

# windows that a model reads at once
_BATCH = 64


@dataclass(frozen=True)
class Serving:
    """How a recording is served to a model that was trained on others.

    Args:
        resample: another sampling rate is resampled, and not refused.
        missing_leads: leads that are neither there nor derived are read as zeros, or refused.
        window, stride: seconds that are read at once and from one window to the next; None: those of the checkpoint,
            and windows side by side.
        aggregate: how the windows' probabilities become the recording's.

    Raises:
        InputError: a window or stride of no length.
    """

    resample: bool = False
    missing_leads: Literal["error", "zero"] = "error"
    window: float | None = None
    stride: float | None = None
    aggregate: Literal["mean", "max"] = "mean"

    def __post_init__(self) -> None:
        for name in ("window", "stride"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e6:
                raise InputError(f"{name} is {value}, expected seconds, more than 0")


@dataclass(frozen=True)
class Prediction:
    """What a model says of a recording.

    Args:
        recording: as its file has it.
        classes: names of the classes or labels.
        predicts: one class out of several, or each label or not.
        values: probabilities `[n]` of the whole recording. Of a model of beats the mean over all beats.
        thresholds: from which probability on a label is called present `[n]`.
        starts: seconds at which windows begin, or of R peaks `[W]`.
        seconds: how long a window is; None: the rows are beats.
        timeline: probabilities of each window or beat `[W, n]`.
        notes: what was resampled, computed or read as zeros.
    """

    recording: Recording
    classes: list[str]
    predicts: Predicts
    values: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    starts: NDArray[np.float64]
    seconds: float | None
    timeline: NDArray[np.float64]
    notes: tuple[str, ...] = ()

    @property
    def probabilities(self) -> dict[str, float]:
        """Of the whole recording, by name."""
        return dict(zip(self.classes, self.values.tolist(), strict=True))

    @property
    def present(self) -> list[str]:
        """The labels that reach their thresholds, the likeliest class, or the classes of which there are beats."""
        if self.seconds is None:
            found = np.unique(self.timeline.argmax(1))
        elif self.predicts == "class":
            found = np.array([self.values.argmax()])
        else:
            found = np.flatnonzero(self.values >= self.thresholds)
        return [self.classes[i] for i in found]


class Predictor:
    """A trained model with the preprocessing, the temperature and the thresholds of its checkpoint.

    Args:
        model: with a configuration that says how its inputs are made, as training leaves it.
        serving: how recordings are served that are not as the model has them.
        where: the checkpoint, for messages.

    Raises:
        InputError: the model does not read ECGs.
    """

    def __init__(self, model: Any, serving: Serving | None = None, *, where: str = "this model"):
        self.model, self.serving = model.eval(), serving or Serving()
        config = model.config.get("preprocessing")
        if config is None:
            raise InputError(f"{where}: a {type(model).__name__} that does not say how ECGs are read. Train one first")
        self.preprocessing = _preprocessing(config, f"{where}: preprocessing")
        if self.serving.window is not None:
            if isinstance(self.preprocessing, BeatPreprocessing):
                raise InputError(f"{where}: a model of single beats has no other window. Leave out --window")
            self.preprocessing = replace(self.preprocessing, window=self.serving.window)
        self.classes, self.predicts = model.classes, model.predicts
        calibration = model.config.get("calibration", {})
        self.temperature = float(calibration.get("temperature", 1.0))
        self.thresholds = np.array(calibration.get("thresholds", [0.5] * len(self.classes)))

    @classmethod
    def load(cls, checkpoint: Path | str, **serving: Any) -> "Predictor":
        """From a checkpoint or the folder of a run; the arguments of `Serving` by name.

        Raises:
            InputError: no checkpoint of an ECG model.
        """
        folder = find_checkpoint(Path(checkpoint))
        return cls(load(folder), Serving(**serving), where=str(folder))

    @property
    def stride(self) -> int:
        """Samples from one window to the next."""
        rate, seconds = self.preprocessing.rate, self.serving.stride
        return self.windowed.length if seconds is None else max(1, round(seconds * rate))

    @cached_property
    def windowed(self) -> Preprocessing:
        """How a window is read."""
        own = self.preprocessing
        return own.window if isinstance(own, BeatPreprocessing) else own

    def predict(self, source: Recording | Path | str, declared: Declared | None = None) -> Prediction:
        """Probabilities of a recording.

        Args:
            source: a recording or a file.
            declared: what a file does not say of itself.

        Raises:
            InputError: a file that cannot be read, or leads or a rate that the model cannot be served with.
        """
        recording = source if isinstance(source, Recording) else read_recording(Path(source), declared or Declared())
        if isinstance(self.preprocessing, BeatPreprocessing):
            return self._of_beats(recording)
        prepared = self.prepared(recording)
        starts, pieces = [], []
        windows = prepared.windows(self.stride, at_once=_BATCH)
        while batch := list(islice(windows, _BATCH)):
            starts += [start for start, _ in batch]
            pieces.append(self.read(np.stack([inputs for _, inputs in batch])))
        timeline = np.concatenate(pieces)
        values = timeline.mean(0) if self.serving.aggregate == "mean" else timeline.max(0)
        seconds = min(self.preprocessing.length, prepared.n_sample) / self.preprocessing.rate
        at = np.array(starts) / self.preprocessing.rate
        return self._prediction(recording, values, at, seconds, timeline, self._notes(recording))

    def prepared(self, recording: Recording) -> Prepared:
        """A recording as the model reads it.

        Raises:
            InputError: leads or a rate that the model cannot be served with.
        """
        return Prepared(recording, self.windowed, self.serving.resample, self.serving.missing_leads)

    @torch.inference_mode()
    def read(self, inputs: Inputs) -> NDArray[np.float64]:
        """Calibrated probabilities of windows of one length, `[B, T, C]` -> `[B, n]`."""
        device = next(self.model.parameters()).device
        batch = torch.from_numpy(inputs).to(device)
        lengths = torch.full((len(batch),), batch.shape[1], device=device)
        outputs = self.model(batch, lengths).double() / self.temperature
        return readable(outputs, self.predicts).cpu().numpy()

    def _of_beats(self, recording: Recording) -> Prediction:
        peaks, origin = r_peaks(recording)
        if not len(peaks):
            raise InputError(f"{recording.source}: no heart beats were found in it, this model tells beats apart")
        pieces = [self.read(self._beats(recording, peaks, first)) for first in range(0, len(peaks), _BATCH)]
        timeline = np.concatenate(pieces)
        notes = (*self._notes(recording), f"{len(peaks)} beats: {origin}")
        return self._prediction(recording, timeline.mean(0), peaks / recording.rate, None, timeline, notes)

    def _prediction(self, recording: Recording, values: Any, *along_time: Any) -> Prediction:
        return Prediction(recording, self.classes, self.predicts, values, self.thresholds, *along_time)

    def _beats(self, recording: Recording, peaks: NDArray[np.int64], first: int) -> Inputs:
        """What the model reads of a batch of beats; with a neighbour on either side, from which intervals follow."""
        last = min(first + _BATCH, len(peaks))
        start, stop = max(first - 1, 0), min(last + 1, len(peaks))
        serving = {"resample": self.serving.resample, "missing_leads": self.serving.missing_leads}
        inputs = self.preprocessing.inputs(recording, peaks[start:stop], **serving)
        return inputs[first - start : last - start]

    def _notes(self, recording: Recording) -> tuple[str, ...]:
        """What was done to a recording to serve it."""
        wanted = self.windowed
        served = with_leads(recording, wanted.leads, self.serving.missing_leads)
        resampled = [f"resampled from {recording.rate:g} to {wanted.rate:g} Hz"] * (recording.rate != wanted.rate)
        return (*served.notes, *resampled)


def _preprocessing(config: dict[str, Any], where: str) -> Any:
    """How a checkpoint's inputs are made, of whole recordings or of beats."""
    if config.get("kind") != "beats":
        return preprocessing_from(config, where=where)
    check_arguments(where, signature_of(BeatPreprocessing), config)
    return BeatPreprocessing(**config)
