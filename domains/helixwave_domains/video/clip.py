"""A video of any kind as frames and the times at which they are shown; decoded only where it is read."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.video.preprocessing import Frames
from helixwave_domains.video.sampling import SAME, Times

Backend = Literal["pyav", "torchcodec"]
Picture = NDArray[np.uint8]
"""One frame, upright and in RGB: `[H, W, 3]`."""

# seconds between two wanted frames from which on the file is searched for a key frame and not decoded through
_SEEK = 4.0


@dataclass(frozen=True)
class VideoStream:
    """What a file says of one of its video streams.

    Args:
        index: by which it is chosen, counted over all streams of the file as FFmpeg does.
        codec: that it is written in.
        width, height: in pixels, before a rotation.
        rate: frames a second on average, 0 if it is not said.
        n_frame: as the file declares it; None: it does not.
    """

    index: int
    codec: str
    width: int
    height: int
    rate: float
    n_frame: int | None = None

    def __str__(self) -> str:
        frames = "" if self.n_frame is None else f", {self.n_frame} frames"
        return f"{self.index} ({self.codec}, {self.width}x{self.height}, {self.rate:.5g} frames/s{frames})"


@dataclass(frozen=True)
class Facts:
    """What is known of a video without decoding it.

    Args:
        path: of the file or folder.
        format: what kind of file it is.
        stream: the one that is read.
        streams: all video streams of the file.
        notes: what was chosen for the user.
    """

    path: Path
    format: str
    stream: VideoStream
    streams: tuple[VideoStream, ...] = ()
    notes: tuple[str, ...] = ()


class Footage(Protocol):
    """Frames that can be read; each kind of file has its own. It holds no open file, so that workers can be sent it."""

    facts: Facts

    def stamps(self) -> Times:
        """When each frame begins to be shown, in seconds from the first; nothing is decoded `[N]`."""

    def rotation(self) -> int:
        """Degrees counterclockwise by which frames are turned to stand upright."""

    def decoded(self, start: float) -> Iterator[tuple[float, Callable[[], Picture]]]:
        """Frames in order with their times, from the one that is seen at `start` or one before it."""


@dataclass(frozen=True)
class Clip:
    """A video: facts at once, time stamps when they are asked for, frames when they are read.

    Args:
        footage: reads the frames.
    """

    footage: Footage
    facts: Facts = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "facts", self.footage.facts)

    @cached_property
    def stamps(self) -> Times:
        """When each frame begins to be shown, in seconds from the first `[N]`.

        Raises:
            InputError: the file is damaged, or holds no frame.
        """
        stamps = self.footage.stamps()
        if not len(stamps):
            raise InputError(f"{self.facts.path}: it has no frames")
        return stamps

    @property
    def n_frame(self) -> int:
        """Frames, counted."""
        return len(self.stamps)

    @cached_property
    def seconds(self) -> float:
        """From the first frame to the end of the last, which is shown as long as most are."""
        return float(self.stamps[-1] + self._period)

    @property
    def rate(self) -> float:
        """Frames a second, on average."""
        return self.n_frame / self.seconds

    @cached_property
    def variable(self) -> bool:
        """Whether frames are shown for different times: more than a time stamp's rounding apart from one rate."""
        gaps = np.diff(self.stamps)
        return bool(len(gaps) and np.abs(gaps - self._period).max() > max(0.1 * self._period, 0.0015))

    @cached_property
    def rotation(self) -> int:
        """Degrees counterclockwise by which frames are turned to stand upright, as they are when they are read."""
        return self.footage.rotation()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of frames as they are read."""
        stream = self.facts.stream
        turned = self.rotation % 180 == 90
        return (stream.height, stream.width) if turned else (stream.width, stream.height)

    def frames(self) -> Iterator[tuple[float, Picture]]:
        """All frames with their times, one in memory at a time.

        Raises:
            InputError: the file is damaged.
        """
        for time, picture in self.footage.decoded(0.0):
            yield time, picture()

    def seen(self, times: Iterable[float]) -> Iterator[Picture]:
        """The frame that is seen at each time, one in memory at a time; behind the end the last.

        Args:
            times: seconds from the first frame, none before the one that precedes it.

        Raises:
            InputError: the file is damaged.
        """
        for run in _runs(times):
            yield from _seen(self.footage.decoded(run[0]), run)

    def read(self, times: Sequence[float] | Times) -> Frames:
        """The frames that are seen at times in any order: `[M]` seconds -> `[M, H, W, 3]`.

        Raises:
            InputError: the file is damaged.
        """
        wanted = np.asarray(times, dtype=np.float64)
        order = np.argsort(wanted, kind="stable")
        found = list(self.seen(wanted[order]))
        return np.stack([found[place] for place in np.argsort(order, kind="stable")])

    @cached_property
    def _period(self) -> float:
        """How long most frames are shown."""
        gaps = np.diff(self.stamps)
        if len(gaps):
            return float(np.median(gaps))
        return 1 / self.facts.stream.rate if self.facts.stream.rate else 1.0


@dataclass(frozen=True)
class Opening:
    """How files are opened, where they are many: the arguments of `open_clip` by name."""

    stream: int | None = None
    backend: Backend = "pyav"
    rate: float | None = None
    damaged: bool = False

    def open(self, path: Path | str) -> Clip:
        """The clip in a file.

        Raises:
            InputError: see `open_clip`.
        """
        return open_clip(path, stream=self.stream, backend=self.backend, rate=self.rate, damaged=self.damaged)


def open_clip(
    path: Path | str,
    *,
    stream: int | None = None,
    backend: Backend = "pyav",
    rate: float | None = None,
    damaged: bool = False,
) -> Clip:
    """A video file, a folder of pictures in their natural order, or an array in `.npy`, `.npz` or zarr.

    Args:
        path: of the file or folder.
        stream: which of several video streams, by its index in the file; None: the first.
        backend: what decodes video files.
        rate: frames a second of pictures and arrays, which do not say.
        damaged: read what can be decoded of a damaged file, and do not refuse it.

    Raises:
        InputError: it is not there, no video, or has no such stream.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if kind := _kind_without_container(path):
        if stream is not None:
            raise InputError(f"{path}: it has no streams to choose from. Leave out stream {stream}")
        return Clip(kind(path, rate))
    if backend == "torchcodec":
        from helixwave_domains.video.torchcodec_file import TorchcodecFile

        return Clip(TorchcodecFile(path, stream))
    from helixwave_domains.video.video_file import VideoFile

    return Clip(VideoFile(path, stream, damaged=damaged))


def _kind_without_container(path: Path) -> Callable[[Path, float | None], Any] | None:
    """What reads a folder of pictures or an array; None for video files."""
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz", ".zarr") or (path / "zarr.json").is_file() or (path / ".zarray").is_file():
        from helixwave_domains.video.frame_arrays import FrameArray

        return FrameArray
    if path.is_dir():
        from helixwave_domains.video.frame_folder import FrameFolder

        return FrameFolder
    return None


def expect_rate(path: Path, rate: float | None, what: str) -> float:
    """The declared frame rate of what has none of its own.

    Raises:
        InputError: it is not given, or no rate.
    """
    if rate is None:
        raise InputError(f"{path}: {what} has no frame rate of its own. Pass --rate (in Python: rate=25)")
    if not 0 < rate < 1e6:
        raise InputError(f"{path}: rate is {rate}, expected frames a second, more than 0")
    return rate


def _runs(times: Iterable[float]) -> Iterator[list[float]]:
    """Times in pieces, between which the file is searched."""
    run: list[float] = []
    for time in times:
        if run and time - run[-1] > _SEEK:
            yield run
            run = []
        run.append(time)
    if run:
        yield run


def _seen(decoded: Iterator[tuple[float, Callable[[], Picture]]], times: Sequence[float]) -> Iterator[Picture]:
    """Of frames with their times, the last whose time has come at each of `times`; the first before all."""
    following = next(decoded, None)
    made: Picture | None = None
    current: Callable[[], Picture] | None = None
    for time in times:
        while following is not None and (current is None or following[0] <= time + SAME):
            current, made = following[1], None
            following = next(decoded, None)
        assert current is not None, "no frames"
        made = current() if made is None else made
        yield made
