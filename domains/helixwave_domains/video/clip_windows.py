"""Windows that slide over a clip of any length: it is decoded once, and no more than the windows' frames are held."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from helixwave.errors import InputError

from helixwave_domains.video.clip import Clip
from helixwave_domains.video.preprocessing import Frames, Inputs, Preprocessing
from helixwave_domains.video.sampling import Times, window_starts


@dataclass(frozen=True)
class Sliding:
    """Where windows lie.

    Args:
        window: seconds that the model reads at once; None: as it was trained, with `uniform` sampling the whole clip.
        stride: seconds from one window to the next; None: side by side.

    Raises:
        InputError: a window or stride of no length.
    """

    window: float | None = None
    stride: float | None = None

    def __post_init__(self) -> None:
        for name in ("window", "stride"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e9:
                raise InputError(f"{name} is {value}, expected seconds, more than 0")

    def fitted(self, preprocessing: Preprocessing) -> Preprocessing:
        """The preprocessing with as many frames as a `dense` window of this length has.

        Raises:
            InputError: a stride where the whole clip is one window.
        """
        if self.window is None and self.stride is not None and preprocessing.seconds is None:
            raise InputError(
                f"stride is {self.stride:g}, and the model was trained to read a whole clip at once. Give a window "
                "of so many seconds too"
            )
        if self.window is None or preprocessing.sampling == "uniform":
            return preprocessing
        return replace(preprocessing, n_frame=max(1, round(self.window * preprocessing.rate)))

    def spans(self, preprocessing: Preprocessing, seconds: float) -> tuple[Times, Times]:
        """When windows begin and end in a clip of so many seconds, `[W]` each; the last ends with it."""
        length = self.window or preprocessing.seconds or seconds
        starts = window_starts(seconds, length, self.stride or length)
        return starts, np.minimum(starts + length, seconds)


def windows(clip: Clip, preprocessing: Preprocessing, starts: Times, stops: Times) -> Iterator[Inputs]:
    """What a model reads of each window, in order: `[T, C, H, W]`.

    Args:
        clip: is decoded once from its beginning, or searched where windows lie far apart.
        starts, stops: seconds, both in order.

    Raises:
        InputError: the clip is damaged.
    """
    times = [preprocessing.times(start, stop) for start, stop in zip(starts, stops, strict=True)]
    owner = np.repeat(np.arange(len(times)), [len(each) for each in times])
    order = np.argsort(np.concatenate(times), kind="stable")
    begun: dict[int, list[Frames]] = defaultdict(list)
    seen, small = None, np.empty(0, np.uint8)
    for place, picture in zip(order, clip.seen(np.concatenate(times)[order]), strict=True):
        if picture is not seen:
            seen, small = picture, preprocessing.resized(picture[None])[0]
        window = int(owner[place])
        begun[window].append(small)
        if len(begun[window]) == len(times[window]):
            yield preprocessing.normalised(np.stack(begun.pop(window)))


def window(clip: Clip, preprocessing: Preprocessing, times: Times) -> Inputs:
    """What a model reads of the frames that are seen at times in order: `[T, C, H, W]`.

    Raises:
        InputError: the clip is damaged.
    """
    return preprocessing.normalised(np.concatenate([preprocessing.resized(each[None]) for each in clip.seen(times)]))
