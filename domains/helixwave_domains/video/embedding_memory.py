"""How much memory it takes to embed hours of video: `python -m helixwave_domains.video.embedding_memory`."""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from helixwave_domains.video.preprocessing import Frames

_RATE = 10


@dataclass(frozen=True)
class Measured:
    """What it took.

    Args:
        hours: of video.
        frames, windows: of it.
        peak: of the whole process, in MiB.
        seconds: of cpu time, reading and embedding.
    """

    hours: float
    frames: int
    windows: int
    peak: float
    seconds: float


def measure(path: Path, *, hours: float, size: tuple[int, int] = (320, 240)) -> Measured:
    """Write a video of so many hours at `path`, and embed it in a process of its own."""
    write_video(path, round(hours * 3600 * _RATE), size)
    command = [sys.executable, "-m", "helixwave_domains.video.embedding_memory", "--embed", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Measured(hours=hours, **json.loads(done.stdout))


def write_video(path: Path, n: int, size: tuple[int, int]) -> None:
    """A square that runs over a coloured ground, in MPEG-4."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=_RATE)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number, picture in enumerate(_pictures(n, size)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, _RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _pictures(n: int, size: tuple[int, int]) -> Iterator[Frames]:
    width, height = size
    side = height // 4
    for number in range(n):
        picture = np.full((height, width, 3), (number // 100 % 256, 96, 160), np.uint8)
        left, top = number % (width - side), number // 3 % (height - side)
        picture[top : top + side, left : left + side] = 240
        yield picture


def embed(path: Path) -> dict[str, float]:
    """Embed a video in this process, as `helixwave video embed` does, with an untrained model that reads 112 pixels."""
    import torch
    from helixwave.checkpoint import build_model

    from helixwave_domains.video.clip import open_clip
    from helixwave_domains.video.predictor import Predictor
    from helixwave_domains.video.preprocessing import Preprocessing

    torch.manual_seed(0)
    backbone = {"d_model": 32, "n_layer": 1, "blocks": [{"name": "lstm"}]}
    reading = Preprocessing(n_frame=16, rate=4.0, sampling="dense").config()
    config = {"model": {"name": "lrcn"}, "backbone": backbone, "classes": ["a", "b"], "preprocessing": reading}
    predictor, clip = Predictor(build_model(config)), open_clip(path)
    began = time.process_time()
    n = sum(map(len, predictor.vectors(clip)))
    seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"frames": clip.n_frame, "windows": n, "peak": round(peak, 1), "seconds": round(seconds, 1)}


def main() -> None:
    """Print what it takes, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--embed", type=Path, help="embed this file and write none")
    asked = parser.parse_args()
    if asked.embed:
        print(json.dumps(embed(asked.embed)))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asdict(measure(Path(folder) / "long.mkv", hours=asked.hours))))


if __name__ == "__main__":
    main()
