"""A folder of small clips in two classes."""

from pathlib import Path

import numpy as np

from tests.domains.video.video_files import av


def write_clips(folder: Path, *, count: int) -> Path:
    """Clips of 8 frames at 10 a second, whose left half grows bright in the class `up` and dark in `down`."""
    for label, direction in (("down", -1), ("up", 1)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            rng = np.random.default_rng((number, direction > 0))
            with av.open(str(folder / label / f"{number}.mp4"), "w") as container:
                stream = container.add_stream("mpeg4", rate=10)
                stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
                for t in range(8):
                    picture = rng.integers(90, 130, (24, 32, 3), dtype=np.uint8)
                    picture[:, :16] += np.uint8(direction * 10 * t % 256)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                container.mux(stream.encode(None))
    return folder
