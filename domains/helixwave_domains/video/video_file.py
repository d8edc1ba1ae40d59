"""Video files of any container and codec, decoded by FFmpeg's libraries; only this file imports PyAV."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.errors import InputError

from helixwave_domains.video.clip import Facts, Picture, VideoStream
from helixwave_domains.video.sampling import SAME, Times

# containers whose frames lie in the file itself. Play lists such as HLS and concat are not among them: a file that
# someone sends must not make this machine open others, or addresses on a network
_CONTAINERS = (
    "3gp,aac,amr,apng,asf,av1,avi,caf,dv,flac,flv,gif,h263,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mp3,mpeg,mpegts,"
    "mpegvideo,mxf,nut,obu,ogg,rm,swf,wav,wtv,y4m,yuv4mpegpipe"
)
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}


class VideoFile:
    """A stream of frames in a file.

    Args:
        path: of the file.
        stream: index of the video stream; None: the first one.
        damaged: what can be decoded of a damaged file is read.

    Raises:
        InputError: no video file, no video in it, or no such stream.
    """

    def __init__(self, path: Path, stream: int | None = None, *, damaged: bool = False):
        self.path, self.damaged = path, damaged
        with self._open() as container:
            streams = tuple(map(_described, _videos(container)))
            chosen, notes = choose_stream(path, streams, stream, others=_others(container))
            self.facts = Facts(path, container.format.name, chosen, streams, notes)
            found = container.streams[chosen.index]
            self._start = (found.start_time or 0) * found.time_base
            self._declared_end = _declared_end(container, found)
            self._period = 1 / (chosen.rate or 25)
            # AVI has no times at which frames are shown, and what is made up for them is wrong for frames that refer to
            # later ones; those at which they are decoded are right, as frames leave the decoder in order
            self._in_order_of_file = container.format.name == "avi"

    def stamps(self) -> Times:
        """Times of all frames from the packets that hold them.

        Raises:
            InputError: packets are missing or marked as damaged.
        """
        stamps, is_whole, ends = self._scanned
        lost = (self.facts.stream.n_frame or 0) - len(stamps)
        cut = self._declared_end is not None and self._declared_end - ends > max(0.1, 3 * self._period)
        if (lost > 1 or cut or not is_whole) and not self.damaged:
            raise self._refusal()
        return stamps

    def rotation(self) -> int:
        """Of the first frame."""
        with self._open() as container:
            frames = [frame for _, frame in islice(self._whole_frames(container), 1)]
            return round(frames[0].rotation / 90) * 90 % 360 if frames else 0

    def decoded(self, start: float) -> Iterator[tuple[float, Callable[[], Picture]]]:
        """Frames from the last key frame before `start` on.

        Raises:
            InputError: a frame cannot be decoded.
        """
        back = 0.0
        while True:
            with self._open() as container:
                at = max(start - back, 0.0)
                self._seek(container, at)
                frames = self._timed(container)
                first = next(frames, None)
                # a search may lead to a key frame that is shown later: further back then
                if at > 0 and (first is None or first[0] > start + SAME):
                    back = max(1.0, 2 * back)
                    continue
                if first is not None:
                    yield first
                    yield from frames
                elif not self.damaged:
                    raise InputError(f"{self.path}: none of its frames can be decoded. It is damaged; copy it again")
                return

    def _seek(self, container: Any, at: float) -> None:
        import av

        if at > 0:
            stream = container.streams[self.facts.stream.index]
            # a stream without an index cannot be searched: it is read from its beginning
            with suppress(av.FFmpegError):
                container.seek(int((at + float(self._start)) / stream.time_base), stream=stream, backward=True)

    def _timed(self, container: Any) -> Iterator[tuple[float, Callable[[], Picture]]]:
        last = -self._period
        for time, frame in self._whole_frames(container):
            # frames of some old files have no time: one after the other
            last = last + self._period if time is None else float(time - self._start)
            yield last, partial(_upright, frame)

    def _whole_frames(self, container: Any) -> Iterator[tuple[Fraction | None, Any]]:
        """Times and frames that are decoded without a complaint; any other is refused, or left out if that is meant."""
        import av

        stream = container.streams[self.facts.stream.index]
        order: deque[int] = deque()
        for packet in container.demux(stream):
            if packet.size and self._in_order_of_file:
                order.append(packet.dts)
            try:
                frames = packet.decode()
                failed = any(frame.is_corrupt for frame in frames)
            except av.FFmpegError:
                frames, failed = [], True
            if failed and not self.damaged:
                raise self._refusal()
            for frame in frames:
                at = order.popleft() if order else frame.pts
                if not frame.is_corrupt:
                    yield None if at is None else at * stream.time_base, frame

    @cached_property
    def _scanned(self) -> tuple[Times, bool, float]:
        """Time stamps, whether no packet is marked as damaged, and where the last packet of any stream ends."""
        stamps, is_whole, ends = [], True, 0.0
        with self._open() as container:
            for packet in container.demux():
                if not packet.size:
                    continue
                at = packet.dts if packet.pts is None or self._in_order_of_file else packet.pts
                seconds = None if at is None else float(at * packet.time_base - self._start)
                length = float((packet.duration or 0) * packet.time_base)
                ends = max(ends, (seconds or 0.0) + length)
                if packet.stream.index == self.facts.stream.index and not packet.is_discard:
                    is_whole &= not packet.is_corrupt
                    stamps.append(seconds)
        return self._in_order(stamps), is_whole, ends

    def _in_order(self, stamps: list[float | None]) -> Times:
        """In order of showing, from zero; where the file has none, at its rate."""
        if any(stamp is None for stamp in stamps):
            return np.arange(len(stamps), dtype=np.float64) * self._period
        found: Times = np.sort(np.array(stamps, dtype=np.float64))
        return found - found[:1]

    def _refusal(self) -> InputError:
        """Of a damaged file: how much of it can be decoded."""
        whole = VideoFile(self.path, self.facts.stream.index, damaged=True)
        n = sum(1 for _ in whole.decoded(0.0))
        declared = self.facts.stream.n_frame
        of = "" if declared is None else f" of {declared}"
        return InputError(
            f"{self.path}: it is damaged: {n}{of} frames can be decoded. Copy it again, or read what there is with "
            "--damaged (in Python: damaged=True)"
        )

    @contextmanager
    def _open(self) -> Iterator[Any]:
        av = _av(self.path)
        try:
            with av.open(f"file:{self.path}", options=_OPTIONS) as container:
                yield container
        except av.FFmpegError as error:
            size = self.path.stat().st_size
            what = f"{error.strerror or error}" if size else "it is empty"
            raise InputError(f"{self.path}: no video that can be read, or damaged: {what}") from error


def choose_stream(
    path: Path, streams: tuple[VideoStream, ...], index: int | None, *, others: str = "nothing"
) -> tuple[VideoStream, tuple[str, ...]]:
    """The stream that is asked for, or the first, with a note where there was a choice.

    Args:
        others: what the file holds besides video, for the message.

    Raises:
        InputError: there is no video, or no video stream of this index.
    """
    listed = "; ".join(map(str, streams))
    if not streams:
        raise InputError(f"{path}: it has no video stream, only {others}")
    if index is None:
        several = f"of {len(streams)} video streams the first was read, {streams[0].index}. All: {listed}"
        return streams[0], (several,) if len(streams) > 1 else ()
    for stream in streams:
        if stream.index == index:
            return stream, ()
    raise InputError(f"{path}: {index} is no video stream of it. Its video streams: {listed}")


def _av(path: Path) -> Any:
    try:
        import av
    except ImportError as error:
        raise InputError(f"{path}: needs PyAV: pip install 'helixwave[video]'") from error
    return av


def _videos(container: Any) -> list[Any]:
    """Video streams; the cover of a song is none."""
    import av

    cover = av.stream.Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & cover]


def _others(container: Any) -> str:
    kinds = [f"{stream.type} ({stream.codec_context.name})" for stream in container.streams if stream.codec_context]
    return ", ".join(dict.fromkeys(kinds)) or "nothing"


def _described(stream: Any) -> VideoStream:
    context = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate or 0
    return VideoStream(stream.index, context.name, stream.width, stream.height, float(rate), stream.frames or None)


def _declared_end(container: Any, stream: Any) -> float | None:
    """Seconds, on the clock of the first frame, at which the file says that it ends; None: it does not say."""
    ends = []
    if stream.duration:
        ends.append(float(stream.duration * stream.time_base))
    if container.duration:
        ends.append(container.duration / 1e6)
    return min(ends) if ends else None


def _upright(frame: Any) -> Picture:
    """Pixels in RGB, turned and mirrored as the file's display matrix asks for."""
    from av.sidedata.sidedata import Type

    picture = frame.to_ndarray(format="rgb24")
    found = frame.side_data.get(Type.DISPLAYMATRIX)
    return picture if found is None else displayed(picture, np.frombuffer(found, np.int32))


def displayed(picture: Picture, matrix: Any) -> Picture:
    """A picture as it is to be shown, turned by quarters and mirrored.

    Args:
        picture: `[H, W, 3]`.
        matrix: `[9]`: the point (x, y) goes to (m0 x + m3 y, m1 x + m4 y). Source: ISO/IEC 14496-12, 6.2.2.
    """
    a, b, c, d = (int(matrix[place]) for place in (0, 1, 3, 4))
    if abs(b) > abs(a):
        picture, a, d = picture.transpose(1, 0, 2), c, b
    if a < 0:
        picture = picture[:, ::-1]
    if d < 0:
        picture = picture[::-1]
    return np.ascontiguousarray(picture)
