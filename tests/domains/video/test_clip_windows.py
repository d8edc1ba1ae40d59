"""Windows over clips, compared with reading each window by itself."""

import itertools
import tracemalloc
from functools import partial

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.video.clip import Clip, open_clip
from helixwave_domains.video.clip_windows import Sliding, windows
from helixwave_domains.video.preprocessing import Preprocessing


@pytest.fixture
def clip(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (40, 6, 9, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", frames)
    return open_clip(tmp_path / "a.npy", rate=10)


@pytest.mark.parametrize("sampling", ["uniform", "dense"])
@pytest.mark.parametrize(("window", "stride"), [(1.0, None), (1.0, 0.33), (0.7, 1.9), (9.0, None)])
def test_each_window_reads_as_by_itself(clip, sampling, window, stride):
    sliding = Sliding(window, stride)
    settings = sliding.fitted(Preprocessing(n_frame=4, rate=6, size=6, sampling=sampling))
    starts, stops = sliding.spans(settings, clip.seconds)
    found = list(windows(clip, settings, starts, stops))
    assert len(found) == len(starts)
    assert stops[-1] == clip.seconds
    for start, stop, inputs in zip(starts, stops, found, strict=True):
        np.testing.assert_array_equal(inputs, settings.scaled(clip.read(settings.times(start, stop))))


def test_as_trained(clip):
    dense, uniform = (Preprocessing(n_frame=6, rate=5, size=6, sampling=how) for how in ("dense", "uniform"))
    np.testing.assert_allclose(Sliding().spans(dense, 4.0), [[0, 1.2, 2.4, 2.8], [1.2, 2.4, 3.6, 4.0]])
    np.testing.assert_allclose(Sliding().spans(uniform, 4.0), [[0], [4]])
    assert Sliding(window=3).fitted(dense).n_frame == 15
    assert Sliding(window=3).fitted(uniform).n_frame == 6
    with pytest.raises(InputError, match=r"stride is 2, and the model was trained to read a whole clip .* a window"):
        Sliding(stride=2).fitted(uniform)


def test_no_more_frames_are_decoded_than_the_window_needs(clip):
    settings = Preprocessing(n_frame=5, rate=10, size=6, sampling="dense")
    decoded = []
    frames = clip.footage.decoded

    class Counted:
        facts = clip.facts

        def stamps(self):
            return clip.stamps

        def decoded(self, start):
            for time, picture in frames(start):
                decoded.append(time)
                yield time, picture

    counted = type(clip)(Counted())
    first = list(itertools.islice(windows(counted, settings, *Sliding().spans(settings, clip.seconds)), 2))
    assert len(first) == 2
    assert len(decoded) <= 12


@pytest.mark.parametrize("minutes", [1, 8])
def test_memory_does_not_grow_with_the_clip(minutes):
    """Frames of 1.1 MB, of which some are alive at a time, whatever the length."""

    class Footage:
        facts = None

        def stamps(self):
            return np.arange(60 * minutes) / 1.0

        def decoded(self, start):
            for number in range(int(start), 60 * minutes):
                yield float(number), partial(np.full, (600, 600, 3), number % 256, np.uint8)

    clip, settings = Clip(Footage()), Preprocessing(n_frame=8, rate=1, size=8, sampling="dense")
    tracemalloc.start()
    n = sum(1 for _ in windows(clip, settings, *Sliding(stride=2).spans(settings, clip.seconds)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n == 30 * minutes - 3
    assert peak < 5e6


@pytest.mark.parametrize("wrong", [{"window": 0.0}, {"stride": -1.0}])
def test_windows_of_no_length_are_refused(wrong):
    with pytest.raises(InputError, match=r"expected seconds, more than 0"):
        Sliding(**wrong)
