"""Video files decoded by torchcodec; only this file imports it."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.errors import InputError

from helixwave_domains.video.clip import Picture
from helixwave_domains.video.sampling import Times, frames_at
from helixwave_domains.video.video_file import VideoFile


class TorchcodecFile:
    """A stream of frames in a file. What it holds is found out as for PyAV, so that streams are chosen the same way.

    Args:
        path: of the file.
        stream: index of the video stream; None: the first one.

    Raises:
        InputError: torchcodec cannot be imported, or the file is no video, or has no such stream.
    """

    def __init__(self, path: Path, stream: int | None = None):
        _decoder(path)
        self.file = VideoFile(path, stream)
        self.facts = self.file.facts

    def stamps(self) -> Times:
        """Times of all frames from the packets that hold them."""
        return self.file.stamps()

    def rotation(self) -> int:
        """Of the first frame."""
        return self.file.rotation()

    def decoded(self, start: float) -> Iterator[tuple[float, Callable[[], Picture]]]:
        """Frames from the one that is seen at `start` on; torchcodec turns them upright.

        Raises:
            InputError: a frame cannot be decoded.
        """
        path, index = self.facts.path, self.facts.stream.index
        first = int(frames_at(self.stamps(), np.array([start]))[0])
        try:
            decoder = _decoder(path)(str(path), stream_index=index, dimension_order="NHWC")
            begins = decoder.get_frame_at(0).pts_seconds
            for number in range(first, len(decoder)):
                frame = decoder.get_frame_at(number)
                yield frame.pts_seconds - begins, partial(np.asarray, frame.data)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{path}: torchcodec cannot decode it: {error}") from error


def _decoder(path: Path) -> Any:
    try:
        from torchcodec.decoders import VideoDecoder
    # without FFmpeg's libraries, or with those of a GPU that is not there, it ends in any of these
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{path}: torchcodec cannot be imported ({reason}). Leave out --backend for PyAV, or "
            "pip install 'helixwave[torchcodec]' and FFmpeg"
        ) from error
    return VideoDecoder
