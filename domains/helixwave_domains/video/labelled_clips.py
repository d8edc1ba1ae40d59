"""The user's own clips in a folder for each class."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from helixwave.data import Example, Picture
from helixwave.data.splits import PARTS, given_parts, split_groups
from helixwave.errors import InputError
from helixwave.files import write_table
from numpy.typing import NDArray

from helixwave_domains.video.clip import Backend, Clip, Opening
from helixwave_domains.video.clip_cache import ClipCache
from helixwave_domains.video.clip_folders import LabelledClip, clips_in, groups_of, readable
from helixwave_domains.video.clip_windows import Sliding, window
from helixwave_domains.video.preprocessing import Preprocessing

log = logging.getLogger("helixwave")
# reasons that the report names, and clips that it shows
_SHOWN, _DRAWN = 3, 6


class LabelledClips:
    """Videos, folders of pictures and arrays of frames in a folder for each class, `FOLDER/CLASS/...`.

    With folders `train`, `validation` and `test` above those of the classes, these are the split. A clip that cannot be
    read is left out, counted, and named with its reason in `left_out.tsv`.

    Args:
        folder: of all clips.
        n_frame, rate, size, channels, mean, deviation, sampling: see `Preprocessing`.
        stride: seconds between the `dense` windows that are evaluated; null: side by side.
        aggregate: how the probabilities of a clip's windows become one.
        flip: half of the training clips are mirrored; not for classes that tell left from right.
        groups: CSV with the columns `clip` (its path from the folder) and `group`, which is in one part as a whole: for
            clips that are pieces of one recording, or show one person. null: each clip by itself.
        stream, backend, declared_rate, damaged: see `open_clip`.
        check: decode every clip before training, which costs what an epoch does, and leave out those that are damaged;
            without it a clip that turns out to be damaged ends the run.
        cache: a folder for decoded and resized frames, which are then decoded once; null: in each epoch anew.
        validation, test: shares of the groups, where no folders say the split.
        split_seed: of the split, stratified by class.
    """

    def __init__(
        self,
        *,
        folder: str,
        n_frame: int = 16,
        rate: float = 8.0,
        size: int = 112,
        channels: int = 3,
        mean: list[float] | None = None,
        deviation: list[float] | None = None,
        sampling: Literal["uniform", "dense"] = "uniform",
        stride: float | None = None,
        aggregate: Literal["mean", "max"] = "mean",
        flip: bool = False,
        groups: str | None = None,
        stream: int | None = None,
        backend: Backend = "pyav",
        declared_rate: float | None = None,
        damaged: bool = False,
        check: bool = True,
        cache: str | None = None,
        validation: float = 0.1,
        test: float = 0.2,
        split_seed: int = 0,
    ):
        settings = Preprocessing(n_frame, rate, size, channels, mean, deviation, sampling)
        opening = Opening(stream, backend, declared_rate, damaged)
        opened: Callable[[Path], Clip] = opening.open
        if cache is not None:
            opened = ClipCache(Path(cache).expanduser(), settings, opening).open
        found, self.left_out = clips_in(Path(folder).expanduser())
        clips, reasons = readable(found, opened, decode=check and cache is None)
        for name, reason in reasons.items():
            log.warning("left out: %s: %s", name, reason)
        self.left_out |= reasons
        if not clips:
            raise InputError(f"{folder}: none of its {len(found)} clips can be read. The first: {_first(reasons)}")
        self.classes = sorted({clip.label for clip in clips})
        if len(self.classes) < 2:
            raise InputError(f"{folder}: all clips are of the class {self.classes[0]!r}, nothing to learn")
        targets = np.array([self.classes.index(clip.label) for clip in clips], dtype=np.int64)
        named = [clip.part for clip in clips if clip.part is not None]
        if named:
            places = given_parts(named, where=folder)
        else:
            owners = groups_of(clips, None if groups is None else Path(groups).expanduser())
            places = split_groups(owners, targets, validation=validation, test=test, seed=split_seed)
        parts = {name: ([clips[i] for i in places[name]], targets[places[name]]) for name in PARTS}
        self.preprocessing = settings.config()
        self.reads = {"channels": channels, "n_frame": n_frame, "size": size}
        self.train = TrainingClips(*parts["train"], settings, opened, flip=flip)
        self.validation, self.test = (
            EvaluatedClips(*parts[name], settings, opened, Sliding(stride=stride), aggregate) for name in PARTS[1:]
        )

    def describe(self) -> dict[str, Any]:
        """Counts by part and class, and what was left out."""
        facts: dict[str, Any] = {}
        for name in PARTS:
            split = getattr(self, name)
            counts = Counter(self.classes[target] for target in split.targets)
            listed = ", ".join(f"{count} {label}" for label, count in sorted(counts.items()))
            absent = ", ".join(label for label in self.classes if label not in counts)
            facts[name] = f"{len(split.clips)} clips ({listed}{'; no ' * bool(absent)}{absent})"
        facts["files that could not be used, left out"] = len(self.left_out)
        for name, reason in list(self.left_out.items())[:_SHOWN]:
            facts[f"left out: {name}"] = reason
        return facts

    def export(self, model: Any, folder: Path) -> list[Picture]:
        """A table of the test clips with their classes and probabilities, and one of what was left out."""
        probabilities = self.predicted(model)
        columns: dict[str, Any] = {
            "clip": [clip.name for clip in self.test.clips],
            "true": [self.classes[target] for target in self.test.targets],
            "predicted": [self.classes[i] for i in probabilities.argmax(1)],
        }
        columns |= {f"p {name}": probabilities[:, i] for i, name in enumerate(self.classes)}
        write_table(folder / "test_predictions.tsv", columns)
        if self.left_out:
            write_table(folder / "left_out.tsv", {"file": self.left_out, "reason": self.left_out.values()})
        return [self._furthest_from_right(probabilities)]

    def _furthest_from_right(self, probabilities: NDArray[np.float32]) -> Picture:
        """Test clips as the model sees them, those first whose true class it finds least probable."""
        from helixwave_domains.video.frame_pictures import clips_picture

        of_true = probabilities[np.arange(len(probabilities)), self.test.targets]
        worst, said = np.argsort(of_true, kind="stable")[:_DRAWN], []
        for clip in worst:
            predicted = probabilities[clip].argmax()
            right = "" if predicted == self.test.targets[clip] else f", is {self.classes[self.test.targets[clip]]}"
            said.append(
                f"{self.test.clips[clip].name}: {self.classes[predicted]} ({probabilities[clip, predicted]:.2f}){right}"
            )
        caption = (
            "What the model says of the test clips that it is furthest from taking rightly, and its probability of "
            "that; frames as it reads them, of the first window."
        )
        return clips_picture([self.test.pixels(clip) for clip in worst], said, caption)

    def predicted(self, model: Any) -> NDArray[np.float32]:
        """Probabilities of each test clip `[M, n_class]`."""
        from helixwave.data import make_loader
        from helixwave.outputs import grouped_outputs
        from helixwave.recipe import Batches

        device = next(model.parameters()).device
        temperature = getattr(model, "config", {}).get("calibration", {}).get("temperature", 1.0)
        with torch.inference_mode():
            pieces = [
                model(batch["inputs"].to(device), batch["lengths"].to(device)).float().cpu() / temperature
                for batch in make_loader(self.test, Batches(size=8), seed=0)
            ]
        outputs = grouped_outputs(torch.cat(pieces), torch.from_numpy(self.test.groups), "class", self.test.aggregate)
        return outputs.softmax(-1).numpy()


class TrainingClips:
    """One window of each clip in each epoch, drawn at random; without draws the first.

    Args:
        clips: that can be read.
        targets: the class of each `[M]`.
        preprocessing: makes the inputs.
        opened: opens a file.
        flip: half of them are mirrored.
    """

    padding: int | float = 0.0

    def __init__(
        self,
        clips: Sequence[LabelledClip],
        targets: NDArray[np.int64],
        preprocessing: Preprocessing,
        opened: Callable[[Path], Clip],
        *,
        flip: bool,
    ):
        self.clips, self.targets, self.preprocessing, self.opened, self.flip = (
            clips,
            targets,
            preprocessing,
            opened,
            flip,
        )

    def __len__(self) -> int:
        return len(self.clips)

    def length(self, index: int) -> int:
        return len(self.preprocessing.times(0.0, self.clips[index].seconds))

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        clip, settings = self.clips[index], self.preprocessing
        length = settings.seconds or clip.seconds
        start = 0.0 if rng is None else rng.random() * max(clip.seconds - length, 0.0)
        times = settings.times(start, min(start + length, clip.seconds), rng)
        inputs = window(self.opened(clip.path), settings, times)
        if self.flip and rng is not None and rng.random() < 0.5:
            inputs = np.ascontiguousarray(inputs[..., ::-1])
        return {"inputs": inputs, "target": int(self.targets[index])}


class EvaluatedClips:
    """All windows of all clips.

    Args:
        clips: that can be read.
        targets: the class of each `[M]`.
        preprocessing: makes the inputs.
        opened: opens a file.
        sliding: where windows lie.
        aggregate: how the probabilities of a clip's windows become one.

    Attributes:
        groups: the clip of each window.
    """

    padding: int | float = 0.0

    def __init__(
        self,
        clips: Sequence[LabelledClip],
        targets: NDArray[np.int64],
        preprocessing: Preprocessing,
        opened: Callable[[Path], Clip],
        sliding: Sliding,
        aggregate: Literal["mean", "max"],
    ):
        self.clips, self.targets, self.preprocessing = clips, targets, preprocessing
        self.opened, self.aggregate = opened, aggregate
        spans = [sliding.spans(preprocessing, clip.seconds) for clip in clips]
        self.starts, self.stops = (np.concatenate(ends) for ends in zip(*spans, strict=True))
        self.groups = np.repeat(np.arange(len(clips)), [len(starts) for starts, _ in spans])

    def __len__(self) -> int:
        return len(self.groups)

    def length(self, index: int) -> int:
        return len(self._times(index))

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        clip = int(self.groups[index])
        inputs = window(self.opened(self.clips[clip].path), self.preprocessing, self._times(index))
        return {"inputs": inputs, "target": int(self.targets[clip])}

    def pixels(self, clip: int) -> NDArray[np.float32]:
        """Frames of the first window of a clip, `[T, C, H, W]` from 0 to 1."""
        index = int(np.searchsorted(self.groups, clip))
        return self.preprocessing.unscaled(self.example(index, None)["inputs"])

    def _times(self, index: int) -> NDArray[np.float64]:
        return self.preprocessing.times(self.starts[index], self.stops[index])


def _first(reasons: dict[str, str]) -> str:
    return next(iter(reasons.values()), "none")
