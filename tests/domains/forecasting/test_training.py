"""Learning-rate schedules and what settings are refused."""

import math

import pytest
from helixwave.errors import InputError
from helixwave_domains.forecasting.training import Training, pick_device


def rates(n_step: int, **options: object) -> list[float]:
    training = Training(**options)  # type: ignore[arg-type]
    return [training.rate(step, n_step) for step in range(training.epochs * n_step)]


def test_type1_is_halved_after_the_second_epoch() -> None:
    assert rates(2, epochs=5, schedule="type1") == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]


def test_cosine_rises_and_falls() -> None:
    expected = [1 / 3, 2 / 3, 1, *(0.5 + 0.5 * math.cos(math.pi * i / 9) for i in range(9))]
    assert rates(3, epochs=4, schedule="cosine", warmup=0.2) == pytest.approx(expected)
    assert rates(3, epochs=4, schedule="cosine", warmup=0.0)[0] == 1


def test_constant() -> None:
    assert rates(2, epochs=2, schedule="constant") == [1] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0, expected at least 1"),
        ({"batch_size": 0}, "batch_size is 0, expected at least 1"),
        ({"patience": 0}, "patience is 0, expected at least 1"),
        ({"max_steps": 0}, "max_steps is 0, expected at least 1"),
        ({"min_steps": 0}, "min_steps is 0, expected at least 1"),
        ({"min_steps": 9, "max_steps": 8}, "min_steps is 9, expected at most max_steps=8"),
        ({"seed": -1}, "seed is -1, expected a whole number from 0"),
        ({"seed": 0.5}, "seed is 0.5, expected a whole number from 0"),
        ({"lr": 0.0}, "lr is 0.0, expected more than 0"),
        ({"max_norm": math.nan}, "max_norm is nan, expected more than 0"),
        ({"warmup": 1.0}, "warmup is 1.0, expected at least 0 and less than 1"),
        ({"schedule": "type2"}, "schedule is 'type2', expected 'constant', 'type1' or 'cosine'"),
    ],
)
def test_settings_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=f"training: {message}"):
        Training(**options)


@pytest.mark.parametrize("name", ["tpu0", "cuda:99", "xla"])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(InputError, match=f"there is no device '{name}' here. Pass 'cpu'"):
        pick_device(name)
    assert pick_device("cpu").type == "cpu"
