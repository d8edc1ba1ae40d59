"""Videos for tests, written with PyAV: each frame says its number in its grey."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

STEP = 8
"""From the grey of a frame to that of the next."""


def write_video(
    path: Path,
    n: int = 20,
    *,
    codec: str = "libx264",
    width: int = 64,
    height: int = 48,
    rate: int = 10,
    times: list[float] | None = None,
    gop: int = 5,
    rotation: int = 0,
    sizes: list[tuple[int, int]] | None = None,
    noise: bool = False,
    sound: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """A video whose frame `i` is grey of `8 i`; with `sizes` a stream of each; with `times` of a variable rate."""
    with av.open(str(path), "w", options=options or {}) as container:
        streams = []
        for w, h in sizes or [(width, height)]:
            stream = container.add_stream(codec, rate=rate)
            stream.width, stream.height, stream.pix_fmt = w, h, "yuv420p"
            stream.codec_context.gop_size = gop
            stream.bit_rate = 4_000_000
            if rotation:
                stream.set_display_rotation(rotation)
            if times is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
            streams.append(stream)
        audio = container.add_stream("pcm_s16le" if path.suffix == ".avi" else "aac", rate=8000) if sound else None
        for number in range(n):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(_drawn(number, stream.height, stream.width, noise), format="rgb24")
                if times is not None:
                    frame.pts, frame.time_base = round(1000 * times[number]), Fraction(1, 1000)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
        if audio is not None:
            _add_sound(container, audio, n / rate)
    return path


def write_sound(path: Path) -> Path:
    """A file with nothing to see."""
    with av.open(str(path), "w") as container:
        _add_sound(container, container.add_stream("aac", rate=8000), 0.5)
    return path


def number_of(frame: np.ndarray) -> int:
    """Which frame it is."""
    return round(float(frame.mean()) / STEP)


def _drawn(number: int, height: int, width: int, noise: bool) -> np.ndarray:
    if noise:
        return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.full((height, width, 3), STEP * number % 256, np.uint8)


def _add_sound(container: "av.container.OutputContainer", stream: "av.AudioStream", seconds: float) -> None:
    layout, kind = "mono", "fltp" if stream.codec_context.name == "aac" else "s16"
    samples = np.zeros((1, int(8000 * seconds)), np.float32 if kind == "fltp" else np.int16)
    frame = av.AudioFrame.from_ndarray(samples, format=kind, layout=layout)
    frame.sample_rate = 8000
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
