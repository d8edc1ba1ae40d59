"""Learning to predict the frames that follow, judged by rollouts."""

from typing import Any

import numpy as np
import torch
from helixwave.data.source import Example, Picture, Source
from helixwave.data.views import SourceView
from helixwave.errors import InputError
from helixwave.objectives.objective import Objective
from helixwave.outputs import Predicts
from torch import Tensor, nn

from helixwave_domains.video.frame_scores import FrameScores


class FramePrediction(Objective):
    """The frames that follow: taught frame by frame, judged by how near a rollout comes to them.

    In training a model reads a whole clip and predicts the frame behind each. So that it learns to go on from its own
    frames, in a share of the batches the end of the clip, from a random frame on, is the model's own rollout, through
    which no gradient goes. Otherwise, and for all scores, it is given the inputs alone and rolls out as many frames as
    the targets have. The loss is half the mean squared and half the mean absolute error, as that of the published
    ConvS5. Own frames after Bengio et al., "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks",
    2015.

    Args:
        classes: of the source, the channels of a frame.
        share: of the training batches that end in own frames.
        horizons: frames that are also scored alone, counted from 1; 10, 20 and 40 if none are given.

    Raises:
        InputError: a number that makes no sense.
    """

    predicts: Predicts = "numbers"
    monitor, mode = "psnr", "max"

    def __init__(self, classes: list[str], *, share: float = 0.5, horizons: list[int] | None = None):
        self.classes, self.share = classes, share
        self.horizons = [10, 20, 40] if horizons is None else horizons
        self.horizon = max([1, *self.horizons])
        if not 0 <= share <= 1:
            raise InputError(f"objective: share is {share}, expected 0 to 1")
        if min([1, *self.horizons]) < 1:
            raise InputError(f"objective: horizons is {self.horizons}, expected frames counted from 1")

    def prepare(self, source: Source) -> Source:
        """The source with whole clips for training."""
        self.horizon = len(np.asarray(source.validation.example(0, None)["target"]))
        return SourceView(source, _whole_clip)

    def check(self, model: nn.Module) -> None:
        """Raise InputError if a model predicts no frames."""
        if not hasattr(model, "rollout"):
            raise InputError("objective: frame_prediction needs a model that rolls out, such as model.name=conv_s5")

    def outputs(self, model: nn.Module, inputs: Tensor, lengths: Tensor) -> Tensor:
        """The frame behind each in training `[B, T, C, H, W]`, else the frames that follow `[B, horizon, C, H, W]`."""
        if not model.training:
            predicted: Tensor = model.predict(inputs, self.horizon, lengths)  # type: ignore[operator]
            return predicted
        return model(self.own_frames(model, inputs, lengths), lengths)

    def own_frames(self, model: nn.Module, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Inputs whose end is what the model rolls out, in a share of the calls."""
        T = inputs.shape[1]
        if T < 3 or float(torch.rand(())) >= self.share:
            return inputs
        given = int(torch.randint(2, T, ()))
        rolled: Tensor = model.predict(inputs[:, :given], T - given, lengths.clamp(max=given))  # type: ignore[operator]
        return torch.cat([inputs[:, :given], rolled], dim=1)

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Half the mean squared and half the mean absolute error of what is there; NaN is not."""
        _expect_clips(outputs, target)
        known = ~target.isnan()
        error = (outputs - target.to(outputs.dtype))[known]
        return (error.square() + error.abs()).sum() / (2 * known.sum().clamp(min=1))

    def scored(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted and true frames `[M, T, C, H, W]` in float32."""
        _expect_clips(outputs, target)
        return outputs.float(), target.float()

    def metrics(self) -> FrameScores:
        return FrameScores(self.horizons)

    def defined(self, target: Tensor) -> bool:
        return len(target) > 0

    def pictures(self, outputs: Tensor, target: Tensor) -> list[Picture]:
        """Predicted frames beside true ones, and the scores by horizon, on the test split."""
        from helixwave_domains.video.frame_pictures import frames_picture, horizon_picture

        scores = self.metrics()
        scores.update(outputs, target)
        return [frames_picture(outputs.numpy(), target.numpy()), horizon_picture(scores.by_frame())]


def _whole_clip(example: Example, index: int, rng: np.random.Generator | None) -> Example:
    """For training, all frames but the last, and those one later."""
    if rng is None:
        return example
    frames = np.concatenate([example["inputs"], np.asarray(example["target"])])
    return {"inputs": frames[:-1], "target": frames[1:]}


def _expect_clips(outputs: Tensor, target: Any) -> None:
    if outputs.shape != target.shape or outputs.ndim != 5:
        raise InputError(
            f"objective: the model gives {list(outputs.shape)}, the data have targets {list(target.shape)}, expected "
            "frames [B, T, C, H, W] of both. Choose another model.name or data.name"
        )
