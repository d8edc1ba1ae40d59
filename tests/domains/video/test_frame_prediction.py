import base64
import io
import math

import numpy as np
import pytest
import torch
from helixwave.data import make_loader
from helixwave.errors import InputError
from helixwave.recipe import Batches
from helixwave_domains.video.conv_s5 import ConvS5
from helixwave_domains.video.frame_baselines import CopyLastFrame
from helixwave_domains.video.frame_pictures import frames_picture
from helixwave_domains.video.frame_prediction import FramePrediction
from helixwave_domains.video.frame_scores import FrameScores, psnr, ssim
from helixwave_domains.video.moving_digits import MovingDigits
from PIL import Image
from torch import nn


@pytest.fixture(scope="module")
def source():
    return MovingDigits(
        size=16, digit_size=8, context=3, horizon=4, train_horizon=2, n_train=2, n_validation=2, n_test=3
    )


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ConvS5(classes=["ink"], d_model=4, n_layer=1, d_state=2)


def batch(split, epoch=None):
    return next(iter(make_loader(split, Batches(size=2), seed=0, epoch=epoch)))


def test_training_asks_for_the_frame_behind_each_and_scores_for_a_rollout(source, model):
    objective = FramePrediction(source.classes, share=0.0)
    seen = objective.prepare(source)
    taught = batch(seen.train, epoch=0)
    torch.testing.assert_close(taught["inputs"][:, 1:], taught["target"][:, :-1])
    assert taught["inputs"].shape == (2, 4, 1, 16, 16)
    torch.testing.assert_close(
        objective.outputs(model.train(), taught["inputs"], taught["lengths"]), model(taught["inputs"])
    )
    judged = batch(seen.validation)
    rolled = objective.outputs(model.eval(), judged["inputs"], judged["lengths"])
    assert rolled.shape == judged["target"].shape == (2, 4, 1, 16, 16)
    torch.testing.assert_close(rolled, model.predict(judged["inputs"], 4))


def test_own_frames_are_those_of_a_rollout(model):
    torch.manual_seed(0)
    inputs, lengths = torch.rand(2, 6, 1, 16, 16), torch.tensor([6, 3])
    frames = FramePrediction(["ink"], share=1.0).own_frames(model, inputs, lengths)
    given = next(t for t in range(6) if (frames[:, t] != inputs[:, t]).any())
    assert given >= 2
    torch.testing.assert_close(frames[:1, given:], model.predict(inputs[:1, :given], 6 - given))
    assert not frames.requires_grad
    assert FramePrediction(["ink"], share=0.0).own_frames(model, inputs, lengths) is inputs


def test_loss_is_half_squared_and_half_absolute_error_of_what_is_there():
    objective = FramePrediction(["ink"])
    target = torch.tensor([0.0, 1.0, math.nan, 0.5]).view(1, 4, 1, 1, 1)
    outputs = torch.tensor([0.5, 0.5, 0.5, 0.5]).view(1, 4, 1, 1, 1).requires_grad_()
    loss = objective.loss(outputs, target)
    assert float(loss.detach()) == pytest.approx((0.25 + 0.25 + 0.5 + 0.5) / (2 * 3))
    loss.backward()
    assert outputs.grad.isfinite().all()


def test_scores_are_means_over_clips_of_each_frame():
    torch.manual_seed(0)
    true, predicted = torch.rand(5, 3, 1, 16, 16), torch.rand(5, 3, 1, 16, 16)
    scores = FrameScores([1, 3, 40])
    scores.update(predicted[:2], true[:2])
    scores.update(predicted[2:], true[2:])
    found = scores.compute()
    by_hand = [
        [10 * math.log10(1 / float((predicted[m, t] - true[m, t]).square().mean())) for t in range(3)] for m in range(5)
    ]
    assert float(found["psnr"]) == pytest.approx(np.mean(by_hand), rel=1e-5)
    assert float(found["psnr_3"]) == pytest.approx(np.mean([row[2] for row in by_hand]), rel=1e-5)
    assert float(found["ssim_1"]) == pytest.approx(float(ssim(predicted[:, :1], true[:, :1]).mean()))
    assert set(found) == {"psnr", "ssim", "psnr_1", "psnr_3", "ssim_1", "ssim_3"}


def test_equal_frames_have_the_highest_scores():
    frames = torch.rand(1, 2, 1, 16, 16)
    assert psnr(frames, frames).tolist() == [[100.0, 100.0]]
    torch.testing.assert_close(ssim(frames, frames), torch.ones(1, 2))


def test_copying_the_last_frame(source):
    outputs, target = CopyLastFrame().predict(FramePrediction(source.classes).prepare(source))
    assert outputs.shape == target.shape == (3, 4, 1, 16, 16)
    for index in range(3):
        example = source.test.example(index, None)
        np.testing.assert_array_equal(target[index], example["target"])
        assert all((frame.numpy() == example["inputs"][-1]).all() for frame in outputs[index])


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_show_what_is_true_above_what_is_predicted(channels):
    true, predicted = np.ones((2, 5, channels, 8, 8)), np.zeros((2, 5, channels, 8, 8))
    picture = frames_picture(predicted, true)
    frames = picture.frames
    assert frames.shape[:3] == (5, 2 * 9 * 3, 2 * 9 * 3)
    assert (frames[:, :24, :24] == 255).all()
    assert (frames[:, 27:51, :24] == 0).all()
    names = [text.get_ylabel() for text in picture.figure.axes if text.get_ylabel()]
    assert names == ["true", "predicted", "true", "predicted"]


def test_report_pictures_hold_numbers_for_each_horizon():
    torch.manual_seed(0)
    true, predicted = torch.rand(2, 3, 1, 16, 16), torch.rand(2, 3, 1, 16, 16)
    strip, curves = FramePrediction(["ink"]).pictures(predicted, true)
    assert strip.frames is not None
    assert curves.table["frame"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(curves.table["psnr"], psnr(predicted, true).mean(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 1.5}, "objective: share is 1.5, expected 0 to 1"),
        ({"horizons": [0]}, "objective: horizons is [0], expected frames counted from 1"),
    ],
)
def test_what_makes_no_objective_is_refused(arguments, message):
    with pytest.raises(InputError) as caught:
        FramePrediction(["ink"], **arguments)
    assert str(caught.value) == message


def test_model_without_rollouts_is_refused():
    with pytest.raises(InputError, match="needs a model that rolls out, such as"):
        FramePrediction(["ink"]).check(nn.Linear(1, 1))


def test_other_outputs_are_refused():
    with pytest.raises(InputError, match=r"the model gives \[2, 3\], the data have targets \[2\], expected frames"):
        FramePrediction(["ink"]).loss(torch.rand(2, 3), torch.rand(2))


def test_animation_is_a_png_of_all_frames():
    from helixwave.pictures import as_animation

    frames = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    data = base64.b64decode(as_animation(frames, rate=10).removeprefix("data:image/png;base64,"))
    image = Image.open(io.BytesIO(data))
    assert image.n_frames == 3
    for number in range(3):
        image.seek(number)
        np.testing.assert_array_equal(np.asarray(image.convert("L")), frames[number])
        assert image.info["duration"] == 100
