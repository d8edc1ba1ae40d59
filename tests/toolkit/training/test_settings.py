"""What the section `training` refuses, before anything is loaded."""

from typing import Any

import pytest
from helixwave.errors import InputError
from helixwave.recipe import load_recipe
from helixwave.training.settings import LengthBuckets, SelfPretrain, read_training


def test_a_switch_alone_takes_its_defaults() -> None:
    training = read_training("training", {"self_pretrain": True, "length_buckets": {"least": 32}})
    assert training.self_pretrain == SelfPretrain()
    assert training.length_buckets == LengthBuckets(least=32)
    assert training.length_warmup is None


def test_every_default_is_written_out() -> None:
    recipe = load_recipe("genomics/splice_pretrain", ["training.length_warmup.start=8"])
    assert recipe.config["training"]["length_warmup"] == {"start": 8, "share": 0.5}
    assert recipe.config["training"]["layer_decay"] == 1.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"length_warmpu": {}}, "unknown key 'length_warmpu'. Did you mean 'length_warmup'"),
        ({"length_warmup": {"strat": 8}}, "training.length_warmup: unknown key 'strat'. Did you mean 'start'"),
        ({"length_warmup": True}, "start is missing"),
        (
            {"length_warmup": 8},
            "length_warmup is 8, expected a group of keys such as training.length_warmup.start=VALUE",
        ),
        ({"length_warmup": {"start": 0}}, "start is 0, expected at least 1"),
        ({"length_warmup": {"start": 8, "share": 0.0}}, "share is 0.0, expected more than 0 and at most 1"),
        ({"length_buckets": {"least": 48}}, "least is 48, expected a power of two"),
        ({"length_buckets": {"least": 64, "most": 32}}, "most is 32, expected a power of two from 64"),
        ({"length_buckets": {"curriculum": 0.5}}, "curriculum is 0.5, expected at least 1"),
        ({"length_buckets": {"cycles": 0}}, "cycles is 0, expected at least 1"),
        ({"objective_mixture": {"objectives": []}}, "objectives is .*, expected at least one"),
        (
            {"objective_mixture": {"objectives": [{"name": "maskd"}]}},
            "no objective named 'maskd'. Did you mean 'masked'",
        ),
        (
            {"objective_mixture": {"objectives": [{"name": "masked"}], "weights": [1.0]}},
            "weights is .*, expected 2 numbers above 0: the recipe's own objective first",
        ),
        (
            {"objective_mixture": {"objectives": [{"name": "masked"}], "reward": -1}},
            "reward is -1, expected at least 0",
        ),
        ({"self_pretrain": {"epochs": 0}}, "epochs is 0, expected at least 1"),
        ({"self_pretrain": {"objective": {"name": "masked", "shre": 1}}}, "unknown key 'shre'"),
        ({"self_pretrain": {"model": {"name": "tokenmodel"}}}, "no model named 'tokenmodel'"),
        ({"gradient_noise": -0.1}, "gradient_noise is -0.1, expected at least 0"),
        ({"layer_decay": 0.0}, "layer_decay is 0.0, expected more than 0 and at most 1"),
        ({"find_batch_size": "yes"}, "find_batch_size is 'yes', expected bool"),
    ],
)
def test_what_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_training("training", given)


def test_an_estimator_has_no_training() -> None:
    with pytest.raises(InputError, match=r"a recipe with an estimator has .*, and no training"):
        load_recipe("forecasting/ltsf", ["training.gradient_noise=0.1"])
