"""Frames become inputs: size, crop, grey, scale and times."""

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.video.preprocessing import Preprocessing, preprocessing_from


def frames(n=3, height=6, width=9, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def test_the_middle_square_is_read():
    settings = Preprocessing(size=6, mean=[0.1, 0.2, 0.3], deviation=[0.5, 0.6, 0.7])
    given = frames()
    expected = np.empty((3, 3, 6, 6))
    for t in range(3):
        for c, (mean, deviation) in enumerate(zip([0.1, 0.2, 0.3], [0.5, 0.6, 0.7], strict=True)):
            expected[t, c] = (given[t, :, 1:7, c] / 255 - mean) / deviation
    made = settings.scaled(given)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, expected, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(12, 18), (18, 12), (7, 11), (3, 4)])
def test_the_shorter_side_is_resized(height, width):
    settings = Preprocessing(size=6)
    assert settings.scaled(frames(height=height, width=width)).shape == (3, 3, 6, 6)
    flat = np.full((1, height, width, 3), 77, np.uint8)
    assert (settings.resized(flat) == 77).all()


def test_grey_is_luma():
    given = frames(height=6, width=6)
    made = Preprocessing(size=6, channels=1).resized(given)
    luma = 0.299 * given[..., 0] + 0.587 * given[..., 1] + 0.114 * given[..., 2]
    assert made.shape == (3, 6, 6, 1)
    assert np.abs(made[..., 0] - luma).max() <= 0.501


def test_a_clip_reads_the_same_alone_as_among_others():
    settings, given = Preprocessing(size=5), frames(8, 17, 23)
    np.testing.assert_array_equal(
        settings.scaled(given), np.concatenate([settings.scaled(frame[None]) for frame in given])
    )


def test_config_is_read_again():
    settings = Preprocessing(n_frame=8, rate=5, sampling="dense", size=32, channels=1)
    assert preprocessing_from(settings.config(), where="here") == settings
    assert settings.seconds == 1.6
    with pytest.raises(InputError, match="here: unknown key 'sise'"):
        preprocessing_from({**settings.config(), "sise": 3}, where="here")


def test_times_follow_the_sampling():
    np.testing.assert_allclose(Preprocessing(n_frame=4).times(1, 3), [1.25, 1.75, 2.25, 2.75])
    np.testing.assert_allclose(Preprocessing(n_frame=3, rate=4, sampling="dense").times(1, 9), [1, 1.25, 1.5])
    # a clip that ends sooner has fewer frames, but one
    np.testing.assert_allclose(Preprocessing(n_frame=3, rate=4, sampling="dense").times(1, 1.5), [1, 1.25])
    np.testing.assert_allclose(Preprocessing(n_frame=3, rate=4, sampling="dense").times(1, 1), [1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_frame": 0}, "n_frame is 0, expected 1 to"),
        ({"rate": 0.0}, "rate is 0.0, expected frames a second"),
        ({"size": 0}, "size is 0, expected 1 to"),
        ({"channels": 2}, "channels is 2, expected 1 .grey. or 3"),
        ({"sampling": "all"}, "sampling is 'all', expected uniform or dense"),
        ({"mean": [0.1, 0.2]}, "mean is .0.1, 0.2., expected one number, or 3"),
        ({"deviation": [0.0]}, "deviation is .0.0., expected numbers above 0"),
    ],
)
def test_senseless_values_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        Preprocessing(**wrong)


def test_other_arrays_are_refused():
    with pytest.raises(InputError, match=r"float64 \[2, 3\], expected uint8 \[T, H, W, 3\]"):
        Preprocessing().scaled(np.zeros((2, 3)))
