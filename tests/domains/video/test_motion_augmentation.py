"""Augmented motion: what changes, what stays, and that it follows from the draws."""

from typing import Any

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.video.motion_augmentation import (
    Geometry,
    MotionAugmentation,
    plane_rotation,
    space_rotation,
)
from numpy.typing import NDArray

SPACE = Geometry(vectors=[(0, 1, 2), (3, 4, 5)], mirrored=(0, 4, 5))
PLANE = Geometry(vectors=[(0, 1)])


def drawn(series: Any, seed: int = 0, geometry: Geometry = SPACE, **settings: float) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    deviation = np.ones(series.shape[1], dtype=np.float32)
    return MotionAugmentation(**settings).drawn(series, rng, geometry, deviation)


def series(n: int, channels: int) -> NDArray[np.float32]:
    return np.random.default_rng(5).normal(size=(n, channels)).astype(np.float32)


def test_without_settings_nothing_changes_and_draws_decide_all_else() -> None:
    x = series(20, 6)
    np.testing.assert_array_equal(drawn(x), x)
    settings = {"crop": 0.5, "speed": 0.3, "rotation": 40, "mirror": 0.5, "amplitude": 0.2, "jitter": 0.1}
    np.testing.assert_array_equal(drawn(x, 3, **settings), drawn(x, 3, **settings))
    assert drawn(x, 3, **settings).dtype == np.float32


@pytest.mark.parametrize(("geometry", "channels"), [(PLANE, 2), (SPACE, 6)])
def test_a_rotation_keeps_lengths_and_angles(geometry: Geometry, channels: int) -> None:
    x = series(9, channels)
    turned = drawn(x, 1, geometry, rotation=90)
    assert not np.allclose(turned, x)
    for vector in geometry.vectors:
        before, after = x[:, list(vector)], turned[:, list(vector)]
        np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-5)
    if channels == 6:
        # both vectors turn alike
        np.testing.assert_allclose(turned[:, :3] @ turned[:, 3:].T, x[:, :3] @ x[:, 3:].T, atol=1e-5)


def test_rotations_by_hand() -> None:
    np.testing.assert_allclose(plane_rotation(np.pi / 2) @ [1, 0], [0, 1], atol=1e-12)
    about_z = space_rotation(np.pi / 2, np.array([0, 0, 3.0]))
    np.testing.assert_allclose(about_z @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    assert np.linalg.det(space_rotation(0.7, np.array([1.0, 2, 3]))) == pytest.approx(1)


def test_a_mirror_image_changes_the_sign_of_its_channels_alone() -> None:
    x = series(4, 6)
    np.testing.assert_array_equal(drawn(x, mirror=1.0), x * np.array([-1, 1, 1, 1, -1, -1]))
    shown = [np.array_equal(drawn(x, seed, mirror=0.5), x) for seed in range(100)]
    assert 30 < sum(shown) < 70


def test_a_straight_line_stays_one_at_any_speed_and_gaps_stay_gaps() -> None:
    line = np.stack([np.arange(50), np.arange(50)], axis=1).astype(np.float32)
    line[20, 1] = np.nan
    lengths = set()
    for seed in range(8):
        played = drawn(line, seed, PLANE, speed=0.3)
        np.testing.assert_allclose(played[:, 0], np.linspace(0, 49, len(played)), rtol=1e-5)
        near = abs(played[:, 0] - 20) < 1 - 1e-3
        np.testing.assert_array_equal(np.isnan(played[near, 1]), True)
        assert not np.isnan(played[abs(played[:, 0] - 20) > 1 + 1e-3, 1]).any()
        lengths.add(len(played))
    assert min(lengths) < 50 < max(lengths)


def test_a_crop_is_a_stretch_of_the_series_and_never_empty() -> None:
    x = np.arange(100, dtype=np.float32)[:, None]
    for seed in range(20):
        kept = drawn(x, seed, Geometry(), crop=0.6)[:, 0]
        assert 40 <= len(kept) <= 100
        np.testing.assert_array_equal(np.diff(kept), 1)
    assert len(drawn(x[:1], 0, Geometry(), crop=0.9, speed=0.5)) == 1


def test_amplitude_and_jitter_have_the_size_that_is_asked() -> None:
    ones = np.ones((2000, 1), dtype=np.float32)
    factors = np.log([drawn(ones, seed, Geometry(), amplitude=0.3).mean() for seed in range(300)])
    assert factors.std() == pytest.approx(0.3, rel=0.15)
    assert drawn(ones, 0, Geometry(), jitter=0.2).std() == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"speed": -1}, "speed is -1, expected 0 or more"),
        ({"crop": 1}, "crop is 1, expected less than 1"),
        ({"mirror": 2}, "mirror is 2, expected a probability"),
    ],
)
def test_errors(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MotionAugmentation(**settings)
