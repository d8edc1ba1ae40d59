"""A recipe that begins with an ECG checkpoint reads recordings as that does."""

import pytest
from helixwave.errors import InputError
from helixwave.recipe import load_recipe
from helixwave_domains.ecg.leads import LEADS

from tests.domains.ecg.tiny import BACKBONE, tiny_checkpoint


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("start"), highpass=0.5)


def test_model_backbone_and_inputs_are_the_checkpoints(place):
    config = load_recipe("ecg/finetune", [f"start={place}", "data.table=labels.csv"]).config
    assert config["start"] == {"checkpoint": str(place), "vocabulary": []}
    assert config["model"] == {
        "name": "ecg_model",
        "channels": 12,
        "widths": [8],
        "kernels": [7, 5],
        "strides": [4, 2],
    }
    assert config["backbone"] == BACKBONE
    read = {key: config["data"][key] for key in ("rate", "leads", "window", "highpass", "lowpass")}
    assert read == {"rate": 100.0, "leads": list(LEADS), "window": 5.0, "highpass": 0.5, "lowpass": None}


def test_a_resolved_recipe_does_not_look_for_the_checkpoint_again(place):
    config = load_recipe("ecg/finetune", [f"start={place}", "data.table=labels.csv"]).config
    backbone = ["backbone.d_model=8", "backbone.n_layer=1", "backbone.blocks=[{name: gru}]"]
    gone = ["start.checkpoint=gone", "start.vocabulary=[]", "data.table=labels.csv", "model.name=ecg_model"]
    again = load_recipe("ecg/finetune", [*gone, *backbone])
    assert again.config["backbone"] == config["backbone"]


def test_another_window_is_free_and_another_rate_is_refused(place):
    more = [f"start={place}", "data.table=labels.csv"]
    assert load_recipe("ecg/finetune", [*more, "data.window=2.5"]).config["data"]["window"] == 2.5
    with pytest.raises(InputError, match=r"data\.rate is 250, the checkpoint .* reads 100\.0\. Leave it out"):
        load_recipe("ecg/finetune", [*more, "data.rate=250"])
