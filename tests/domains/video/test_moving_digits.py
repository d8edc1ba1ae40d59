import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.video.moving_digits import MovingDigits, bounced, digit_images, draw, moving_clip, trimmed


def test_borders_reflect_as_a_ball_that_turns_round_at_them():
    position, velocity, room = 7, 5, 12
    seen = []
    for _ in range(50):
        seen.append(position)
        position += velocity
        if not 0 <= position <= room:
            velocity = -velocity
            position = -position if position < 0 else 2 * room - position
    np.testing.assert_array_equal(bounced(7 + 5 * np.arange(50), np.array(room)), seen)
    assert not bounced(np.arange(5), np.array(0)).any()


def test_digit_stays_whole_on_the_canvas_and_where_it_is_said_to_be():
    images, _ = digit_images(24)["train"]
    velocities = np.array([[2.5, -3.25], [4.0, 1.0]])
    for image, velocity in zip(images[:2], velocities, strict=True):
        frames, places = moving_clip(np.random.default_rng(0), image[None], 40, velocities=velocity[None])
        np.testing.assert_allclose(frames.sum((1, 2)), image.sum(), rtol=1e-5)
        rows = (frames.sum(2) * np.arange(64)).sum(1) / image.sum()
        ink = trimmed(image)
        inner = (ink.sum(1) * np.arange(len(ink))).sum() / ink.sum()
        np.testing.assert_allclose(rows - inner, places[:, 0, 0], atol=1e-4)
        assert places.min() >= 0
        assert (places.max((0, 1)) <= 64 - np.array(ink.shape)).all()


def test_ink_reaches_the_borders():
    image = np.zeros((1, 8, 8), dtype=np.float32)
    image[0, 3:5, 2] = 1
    frames, _ = moving_clip(np.random.default_rng(0), image, 40, size=12, velocities=np.array([[1, 1]]))
    assert frames[:, :, 0].any()
    assert frames[:, -1].any()


def test_trimmed_image_has_ink_at_all_sides():
    image = np.zeros((6, 7))
    image[2:4, 3] = 0.5
    np.testing.assert_array_equal(trimmed(image), [[0.5], [0.5]])


def test_darker_ink_counts_where_digits_overlap():
    images = np.stack([np.full((8, 8), 0.25, np.float32), np.full((8, 8), 0.75, np.float32)])
    frame = draw(images, np.array([[[0, 0], [4, 0]]]), 16)[0]
    assert frame[2, 2] == 0.25
    assert frame[6, 2] == 0.75
    assert frame[10, 2] == 0.75
    assert frame[13, 2] == 0


def test_parts_share_no_image_and_have_all_digits():
    parts = digit_images(8)
    assert all(set(labels) == set(range(10)) for _, labels in parts.values())
    seen = [{image.tobytes() for image in images} for images, _ in parts.values()]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 1797


def test_clips_follow_from_what_they_are_drawn_from_alone():
    source = MovingDigits(n_digit=2, context=3, horizon=5, train_horizon=2)
    first, again = (source.train.example(0, np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(first["inputs"], again["inputs"])
    assert (source.train.example(0, np.random.default_rng(5))["inputs"] != first["inputs"]).any()
    assert first["inputs"].shape == (3, 1, 64, 64)
    assert first["target"].shape == (2, 1, 64, 64)
    assert source.test.example(7, None)["target"].shape == (5, 1, 64, 64)
    np.testing.assert_array_equal(source.test.example(7, None)["inputs"], source.test.example(7, None)["inputs"])


def test_no_digit_stands_still():
    source = MovingDigits(speed=1, context=2, digit_size=16)
    for index in range(40):
        inputs = source.train.example(index, np.random.default_rng(index))["inputs"]
        assert (inputs[0] != inputs[1]).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizon": 0}, "data: horizon is 0, expected at least 1"),
        ({"n_test": 0}, "data: n_test is 0, expected at least 1"),
        ({"n_digit": 0}, "data: n_digit is 0, expected at least 1"),
        ({"digit_size": 65}, "data: digit_size is 65, expected 8 to 64, which is data.size"),
    ],
)
def test_what_makes_no_clip_is_refused(arguments, message):
    with pytest.raises(InputError) as caught:
        MovingDigits(**arguments)
    assert str(caught.value) == message
