import pytest
import torch
from helixwave.recipe import load_recipe
from helixwave_domains.video import conv_s5_speed
from helixwave_domains.video.conv_lstm import ConvLSTM
from helixwave_domains.video.moving_digits import MovingDigits
from helixwave_domains.video.moving_digits_benchmark import RECIPE, Row, changed, measure, table, untrained

TINY = [
    "data={name: moving_digits, size: 16, digit_size: 8, n_train: 1, n_validation: 1, n_test: 1, horizon: 40}",
    "model={name: conv_s5, d_model: 4, n_layer: 1, d_state: 2}",
    "trainer.max_epochs=1",
]


def test_untrained_contenders_are_black_or_the_last_frame():
    recipe = load_recipe(RECIPE, TINY)
    last, black = untrained(recipe)
    frames = torch.as_tensor(MovingDigits(size=16, digit_size=8).test.example(0, None)["target"])
    assert black.scores["psnr_10"] == pytest.approx(float(-10 * frames[9].square().mean().log10()), rel=1e-5)
    assert last.name == "last frame"
    assert set(last.scores) == set(black.scores) >= {"psnr_10", "psnr_20", "psnr_40"}


def test_peer_has_the_width_of_the_recipe(monkeypatch, tmp_path):
    """Without training: what would be run, and for how many epochs."""
    seen = []

    def trained(recipe, place):
        seen.append(recipe)
        return type("Ran", (), {"model": {}, "cpu_seconds": 10.0 if place.name == "conv_s5" else 2.4})

    monkeypatch.setattr("helixwave_domains.video.moving_digits_benchmark.trained", trained)
    rows = measure(load_recipe(RECIPE, TINY), tmp_path)
    assert [row.epochs for row in rows[:2]] == [1, 4]
    assert seen[2].config["model"] == {
        "name": "conv_lstm",
        "d_model": 4,
        "n_layer": 1,
        "patch": 8,
        "reach": 3,
    }
    assert seen[2].trainer.max_epochs == 4
    assert seen[0].config["optimizer"] == seen[2].config["optimizer"]


def test_changed_recipe_is_checked():
    recipe = load_recipe(RECIPE)
    assert changed(recipe, model={"name": "conv_lstm"}).config["model"]["name"] == "conv_lstm"
    with pytest.raises(ValueError, match="unknown key 'd_modell'"):
        changed(recipe, model={"name": "conv_lstm", "d_modell": 3})


def test_tables_hold_the_figures():
    scores = {f"{name}_{n}": 1.25 for name in ("psnr", "ssim") for n in (10, 20, 40)}
    text = table([Row("A", scores, 12.3, 4), Row("B", scores)])
    assert [cell.strip() for cell in text.splitlines()[2].split("|")[1:5]] == ["A", "12 s", "4", "1.25"]
    step = conv_s5_speed.Step(conv_s5_speed.SIZES[0], 100, 10.0, 35.0)
    rolled = conv_s5_speed.Rollout("ConvS5", 1.0, 1.01, 2048, 2048)
    assert "3.5x" in conv_s5_speed.tables([step], [rolled])
    assert "2,048" in conv_s5_speed.tables([step], [rolled])


def test_long_rollout_is_measured_where_states_are_handed_over(monkeypatch):
    monkeypatch.setattr(conv_s5_speed, "N_ROLLED", 4)
    monkeypatch.setattr(conv_s5_speed, "N_TIMED", 2)
    found = conv_s5_speed.measure_rollout(ConvLSTM(classes=["ink"], d_model=4, n_layer=2, patch=16))
    assert found.first_bytes == found.last_bytes == 2 * 2 * 4 * 16 * 4
    assert found.model == "ConvLSTM"
