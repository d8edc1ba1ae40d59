"""Videos as frozen features of their frames, computed beforehand, and the windows of them that a model reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.data import Example, Picture
from helixwave.data.splits import PARTS
from helixwave.errors import InputError
from helixwave.files import reading, write_table
from numpy.typing import NDArray

_ENDINGS = (".npy", ".npz")


@dataclass(frozen=True)
class FeatureVideo:
    """A video and what it is labelled with.

    Args:
        name: as the table of the data set has it.
        path: of its features, `.npy` or an `.npz` of one array: `[L, D]`, or `[L, K, D]` with K patches to a frame.
        target: a class, or one number.
    """

    name: str
    path: Path
    target: int | float

    def features(self) -> NDArray[np.generic]:
        """`[L, K, D]`, read from the file where they are looked at.

        Raises:
            InputError: no such array.
        """
        found = _array(self.path)
        if found.ndim not in (2, 3) or 0 in found.shape or found.dtype.kind != "f":
            raise InputError(
                f"{self.path}: it holds {found.dtype} {list(found.shape)}, expected floating-point features [L, D] of "
                "the frames, or [L, K, D] of their patches"
            )
        return found if found.ndim == 3 else found[:, None]

    def example(self, steps: NDArray[np.int64]) -> Example:
        """The features at some frames, one patch behind the other: inputs `[n K, D]`."""
        found = np.asarray(self.features()[steps], dtype=np.float32)
        target = np.array([self.target], dtype=np.float32) if isinstance(self.target, float) else self.target
        return {"inputs": found.reshape(-1, found.shape[-1]), "target": target}


@dataclass(frozen=True)
class Listed:
    """Videos of a table whose features are there.

    Args:
        videos: with features.
        left_out: the others, and why.
    """

    videos: list[FeatureVideo]
    left_out: dict[str, str]


def with_features(folder: Path, targets: Mapping[str, int | float], *, where: Path) -> Listed:
    """The videos whose features lie in a folder as `NAME.npy` or `NAME.npz`, each looked at once.

    Args:
        folder: of the features.
        targets: of each video by name.
        where: the table that names them, for messages.

    Raises:
        InputError: a name that leads out of the folder, or no video with features.
    """
    videos, left_out = [], {}
    for name, target in targets.items():
        paths = [folder / f"{name}{ending}" for ending in _ENDINGS]
        if not paths[0].resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{where}: {name!r} leads out of {folder}. Correct the table")
        found = next((path for path in paths if path.is_file()), None)
        try:
            if found is None:
                raise InputError(f"no features {paths[0]} or {_ENDINGS[1]}")
            video = FeatureVideo(name, found, target)
            video.features()
        except InputError as error:
            left_out[name] = str(error)
        else:
            videos.append(video)
    if not videos:
        raise InputError(
            f"{where}: none of its {len(targets)} videos can be used. The first: {next(iter(left_out.values()))}. Pass "
            "data.features=FOLDER"
        )
    return Listed(videos, left_out)


class FeatureData:
    """Three parts of videos as features.

    Args:
        classes: names of the classes, or of the number.
        listed: the videos of each part.
        splits: how each part is read.
        facts: more lines for the report.

    Raises:
        InputError: features of several widths.
    """

    def __init__(
        self, classes: list[str], listed: Mapping[str, Listed], splits: Mapping[str, Any], facts: Mapping[str, Any]
    ):
        widths = {video.features().shape[-1] for each in listed.values() for video in each.videos}
        if len(widths) > 1:
            raise InputError(f"data: the features have {sorted(widths)} numbers, expected one width for all videos")
        self.classes, self.listed, self.facts = classes, listed, facts
        self.reads = {"d_input": widths.pop()}
        self.train, self.validation, self.test = (splits[name] for name in PARTS)

    def describe(self) -> dict[str, Any]:
        parts = {name: f"{len(self.listed[name].videos)} videos, {len(getattr(self, name))} examples" for name in PARTS}
        missing = {f"{name}: videos without features, left out": len(self.listed[name].left_out) for name in PARTS}
        return {**parts, **missing, **self.facts}

    def export(self, model: Any, folder: Path) -> list[Picture]:
        """A table of what was left out, if anything was."""
        rows = [(name, *row) for name in PARTS for row in self.listed[name].left_out.items()]
        if rows:
            parts, videos, reasons = zip(*rows, strict=True)
            write_table(folder / "left_out.tsv", {"part": parts, "video": videos, "reason": reasons})
        return []


class WindowVideos:
    """What `RandomWindows`, `SlidingWindows` and `SampledFrames` have in common: examples of videos `[n K, D]`."""

    padding: int | float = 0.0

    def __init__(self, videos: Sequence[FeatureVideo], window: int):
        self.videos, self.window = videos, window
        shapes = [video.features().shape for video in videos]
        self.frames, self.patches = [shape[0] for shape in shapes], [shape[1] for shape in shapes]


class RandomWindows(WindowVideos):
    """For training: in each epoch one window of each video, drawn at random; without draws the first.

    Args:
        videos: with their features.
        window: frames; a shorter video is read as a whole.
    """

    def __len__(self) -> int:
        return len(self.videos)

    def length(self, index: int) -> int:
        return min(self.window, self.frames[index]) * self.patches[index]

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        last = max(self.frames[index] - self.window, 0)
        start = 0 if rng is None else int(rng.integers(last + 1))
        return self.videos[index].example(np.arange(start, min(start + self.window, self.frames[index])))


class SlidingWindows(WindowVideos):
    """For evaluation: all windows of each video, whose probabilities or numbers are averaged.

    Args:
        videos: with their features.
        window: frames; a shorter video is one window.
        stride: frames from one window to the next.

    Attributes:
        groups: the video of each window `[M]`.
        aggregate: how the windows of a video become one.
    """

    aggregate = "mean"

    def __init__(self, videos: Sequence[FeatureVideo], window: int, *, stride: int):
        super().__init__(videos, window)
        starts = [np.arange(0, max(n - window, 0) + 1, stride) for n in self.frames]
        self.starts = np.concatenate(starts)
        self.groups = np.repeat(np.arange(len(videos)), [len(each) for each in starts])

    def __len__(self) -> int:
        return len(self.groups)

    def length(self, index: int) -> int:
        video = int(self.groups[index])
        return min(self.window, self.frames[video]) * self.patches[video]

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        video, start = int(self.groups[index]), int(self.starts[index])
        return self.videos[video].example(np.arange(start, min(start + self.window, self.frames[video])))


class SampledFrames(WindowVideos):
    """So many frames of each whole video in their order: evenly spaced, or in training drawn at random.

    Args:
        videos: with their features.
        window: frames; of a shorter video some are read twice.
    """

    def __len__(self) -> int:
        return len(self.videos)

    def length(self, index: int) -> int:
        return self.window * self.patches[index]

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        n = self.frames[index]
        steps = np.arange(self.window) * n // self.window
        if rng is not None and n > self.window:
            steps = np.sort(rng.choice(n, self.window, replace=False))
        return self.videos[index].example(steps)


def _array(path: Path) -> NDArray[Any]:
    with reading(path, "no NumPy array", "Is the file complete?"), path.open("rb") as file:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False, mmap_mode="r")
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        if len(found.files) != 1:
            raise InputError(f"{path}: it holds {len(found.files)} arrays, expected one")
        return found[found.files[0]]
