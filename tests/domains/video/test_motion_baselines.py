"""Features of motion, compared with loops, and the forest on them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helixwave.errors import InputError
from helixwave_domains.video.motion_augmentation import MotionAugmentation
from helixwave_domains.video.motion_baselines import MotionFeaturesRandomForest
from helixwave_domains.video.motion_features import filled, motion_features
from helixwave_domains.video.motion_series import LabelledMotion, MotionData


def turning(n: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """A circle to the left (1) or to the right (-1), from anywhere, of any size."""
    angle = rng.uniform(0, 2 * np.pi) + side * np.linspace(0, 2 * np.pi, n)
    return (rng.uniform(0.5, 2) * np.stack([np.cos(angle), np.sin(angle)], axis=1)).astype(np.float32)


def test_gaps_are_bridged_in_a_straight_line() -> None:
    series = np.array(
        [[np.nan, np.nan], [1, np.nan], [np.nan, np.nan], [3, np.nan], [np.nan, np.nan]], dtype=np.float32
    )
    np.testing.assert_array_equal(filled(series), [[1, 0], [1, 0], [2, 0], [3, 0], [3, 0]])


def test_statistics_and_peaks_by_hand() -> None:
    time = np.arange(64)
    wave = (2 + np.sin(2 * np.pi * time / 8)).astype(np.float32)[:, None]
    (found,) = motion_features([wave], [], points=0)
    assert found[0] == pytest.approx(2, abs=1e-6)
    assert found[1] == pytest.approx(np.sqrt(0.5), abs=1e-6)
    assert found[2:4] == pytest.approx([1, 3], abs=1e-6)
    # 12 statistics, then the strongest frequency and its share of the power
    assert found[12:14] == pytest.approx([1 / 8, 1], abs=1e-6)
    # octaves of cycles a step up to 1/128, 1/64, 1/32, 1/16, 1/8, 1/4, 1/2
    assert found[14:21] == pytest.approx([0, 0, 0, 0, 1, 0, 0], abs=1e-6)


def test_a_path_turns_to_the_side_that_it_turns_to() -> None:
    rng = np.random.default_rng(0)
    for side in (1, -1):
        (found,) = motion_features([turning(17, side, rng)], [(0, 1)], points=0)
        assert found[-3] == pytest.approx(side * 2 * np.pi / 16, rel=1e-4)


@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_any_length_has_as_many_finite_features(n: int) -> None:
    series = np.random.default_rng(n).normal(size=(n, 6)).astype(np.float32)
    found = motion_features([series, np.zeros_like(series)], [(0, 1, 2), (3, 4, 5)], points=4)
    assert np.isfinite(found).all()
    assert found.shape == motion_features([series[:1]], [(0, 1, 2), (3, 4, 5)], points=4).repeat(2, 0).shape


def test_points_are_values_at_even_distances() -> None:
    series = np.array([[0.0], [1.0], [4.0]], dtype=np.float32)
    assert motion_features([series], [], points=5)[0, -5:].tolist() == [0, 0.5, 1, 2.5, 4]


def circles() -> MotionData:
    rng = np.random.default_rng(1)
    labels = np.arange(60) % 2
    series = [turning(8 + i % 5, 1 if labels[i] else -1, rng) for i in range(60)]
    motion = LabelledMotion([str(i) for i in range(60)], series, labels, ["right", "left", "never"], ["x", "y"])
    places = dict(zip(("train", "validation", "test"), np.split(np.arange(60), [30, 40]), strict=True))
    return MotionData(motion, places, augmentation=MotionAugmentation())


def test_a_forest_learns_and_knows_of_classes_that_it_never_saw() -> None:
    data = circles()
    baseline = MotionFeaturesRandomForest(trees=30, leaves=[1], points=[0, 8])
    outputs, target = baseline.predict(data)
    assert outputs.shape == (20, 3)
    assert torch.equal(target, torch.from_numpy(data.test.labels))
    assert (outputs.argmax(1) == target).float().mean() >= 0.8
    assert (outputs[:, 2] < np.log(0.01)).all()
    assert baseline.description.startswith("30 trees on statistics, spectra and ")
    assert torch.equal(MotionFeaturesRandomForest(trees=30, leaves=[1], points=[0, 8]).predict(data)[0], outputs)


def test_it_is_for_motion_alone(tmp_path: Path) -> None:
    data = circles()
    data.test = object()  # type: ignore[assignment]
    with pytest.raises(InputError, match="motion_features_random_forest is for series of motion"):
        MotionFeaturesRandomForest().predict(data)
