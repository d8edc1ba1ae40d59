"""Digits that move in one of eight directions."""

import numpy as np
import pytest
import torch
from helixwave.errors import InputError
from helixwave_domains.video.direction_baseline import FrameDifferenceLogisticRegression
from helixwave_domains.video.moving_digits_direction import DIRECTIONS, MovingDigitsDirection

SMALL = {"n_train": 60, "n_validation": 20, "n_test": 60}


def places(frames: np.ndarray) -> np.ndarray:
    """The centre of the ink of each frame `[T, 2]`, down and to the right."""
    ink = frames[:, 0]
    grid = np.indices(ink.shape[1:])
    return np.stack([(ink * axis).sum((1, 2)) / ink.sum((1, 2)) for axis in grid], axis=1)


def test_the_ink_moves_by_whole_pixels_in_the_direction_of_the_label() -> None:
    data = MovingDigitsDirection(speed=3, n_frame=6, **SMALL)
    seen, inks = set(), []
    for i in range(60):
        example = data.test.example(i, None)
        frames, label = example["inputs"], int(example["target"])
        steps = np.diff(places(frames), axis=0)
        direction = np.array(list(DIRECTIONS.values())[label])
        speed = np.round(abs(steps).max())
        np.testing.assert_allclose(steps, np.tile(speed * direction, (5, 1)), atol=1e-3)
        assert 1 <= speed <= 3
        seen.add(label)
        inks.append(frames.sum((1, 2, 3)))
    assert seen == set(range(8))
    # nothing is ever cut off at a border
    np.testing.assert_allclose(inks, np.array(inks)[:, :1].repeat(6, 1), rtol=1e-4)


def test_training_is_drawn_anew_and_the_rest_stays() -> None:
    data = MovingDigitsDirection(**SMALL)
    again = MovingDigitsDirection(**SMALL)
    np.testing.assert_array_equal(data.test.example(3, None)["inputs"], again.test.example(3, None)["inputs"])
    one, other = (data.train.example(3, np.random.default_rng(seed))["inputs"] for seed in (0, 1))
    assert one.shape == (8, 1, 32, 32)
    assert one.dtype == np.float32
    assert not np.array_equal(one, other)
    assert data.reads == {"channels": 1, "n_frame": data.n_frame, "size": data.size}
    shown = {part: {image.tobytes() for image in images} for part, images in data.images.items()}
    assert not shown["train"] & shown["test"]


def test_the_baseline_is_a_linear_model_of_differences() -> None:
    data = MovingDigitsDirection(size=16, digit_size=8, n_frame=4, n_train=100, n_validation=20, n_test=40)
    baseline = FrameDifferenceLogisticRegression(strengths=[0.1])
    outputs, target = baseline.predict(data)
    assert outputs.shape == (40, 8)
    torch.testing.assert_close(outputs.exp().sum(1), torch.ones(40))
    assert (outputs.argmax(1) == target).float().mean() > 0.3
    assert target.tolist() == [data.test.example(i, None)["target"] for i in range(40)]
    data.test.example = lambda index, rng: {"inputs": np.zeros((index + 2, 1, 4, 4)), "target": 0}  # type: ignore
    with pytest.raises(InputError, match="is for clips of one length and size"):
        baseline.predict(data)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"speed": 0}, "speed is 0, expected at least 1"),
        ({"n_test": 0}, "n_test is 0, expected at least 1"),
        ({"n_frame": 12}, r"n_frame is 12, expected 2 to 11, in which a digit of data.speed=2 crosses the 20 pixels"),
        ({"digit_size": 40}, "digit_size is 40, expected 8 to 32"),
    ],
)
def test_errors(given: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MovingDigitsDirection(**given)
