"""Which parameters are trained, and how fast."""

from typing import ClassVar

import pytest
import torch
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.optimisation import choose_trained, freeze, parameter_groups
from helixwave.recipe import Optimizer, load_recipe
from helixwave.task import Task
from torch import nn


class Inner(nn.Module):
    optimisation: ClassVar[dict[str, dict[str, float]]] = {
        "A": {"lr": 1e-3, "weight_decay": 0.0},
        "fast": {"lr": 1.0},
        "left_out": {"lr": 1e-3},
        "proj.bias": {"lr": 1e-4},
        "proj.weight": {"weight_decay": 0.5},
    }

    def __init__(self) -> None:
        super().__init__()
        self.A, self.fast = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
        self.left_out = None
        self.proj = nn.Linear(2, 2)


class Outer(nn.Module):
    optimisation: ClassVar[dict[str, dict[str, float]]] = {"inner.A": {"lr": 2e-3}}

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3, 2)
        self.inner = Inner()
        self.norm = nn.LayerNorm(2)
        self.head = nn.Linear(2, 3)
        self.head.weight = self.embedding.weight

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        x = self.inner.proj(self.embedding(inputs) @ self.inner.A @ self.inner.fast)
        return self.head(self.norm(x))


def settings_by_name(model: nn.Module, lr: float = 1e-2) -> dict[str, tuple[float, float]]:
    groups = parameter_groups(model, lr=lr, weight_decay=0.1)
    grouped = [(id(p), (group["lr"], group["weight_decay"])) for group in groups for p in group["params"]]
    assert len(grouped) == len(dict(grouped)), "a parameter is in two groups"
    return {name: dict(grouped)[id(p)] for name, p in model.named_parameters() if id(p) in dict(grouped)}


def test_every_parameter_has_its_rate_and_decay() -> None:
    assert settings_by_name(Outer()) == {
        "embedding.weight": (1e-2, 0),
        "inner.A": (2e-3, 0),  # the rate that the outer module asks for, the decay of the inner one
        "inner.fast": (1e-2, 0.1),  # never faster than the recipe says
        "inner.proj.weight": (1e-2, 0.5),
        "inner.proj.bias": (1e-4, 0),
        "norm.weight": (1e-2, 0),
        "norm.bias": (1e-2, 0),
        "head.bias": (1e-2, 0),
    }
    assert set(settings_by_name(Outer(), lr=1e-5).values()) == {(1e-5, 0), (1e-5, 0.1), (1e-5, 0.5)}


def test_frozen_parameters_are_in_no_group() -> None:
    model = Outer()
    freeze(model, ["inner.*", "head.weight"])
    assert set(settings_by_name(model)) == {"norm.weight", "norm.bias", "head.bias"}


def test_blocks_without_wishes_have_two_groups() -> None:
    """The order in which the states of optimisers in existing runs count parameters."""
    model = Backbone(8, n_layer=2, blocks=[{"name": "mlp"}])
    matrices, rest = parameter_groups(model, lr=1e-3, weight_decay=0.1)
    assert [id(p) for p in matrices["params"]] == [id(p) for p in model.parameters() if p.ndim == 2]
    assert [id(p) for p in rest["params"]] == [id(p) for p in model.parameters() if p.ndim == 1]


@pytest.mark.parametrize("wishes", [{"B": {"lr": 1e-3}}, {"proj": {"lr": 1e-3}}, {"A": {"rate": 1e-3}}])
def test_a_wish_for_nothing_is_our_mistake(wishes: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inner, "optimisation", wishes)
    with pytest.raises(AssertionError, match=r"Inner\.optimisation"):
        parameter_groups(Outer(), lr=1e-2, weight_decay=0.1)


def test_the_schedule_multiplies_each_rate() -> None:
    task = Task(Outer(), Objective(), Optimizer(lr=1e-2, warmup=0.5), lambda _: [], n_step=8, seed=0)
    configured = task.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(8):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    course = torch.tensor(rates)
    torch.testing.assert_close(course / course[3], (course / course[3])[:, :1].expand_as(course))
    assert sorted({round(rate, 9) for rate in rates[3]}) == [1e-4, 2e-3, 1e-2]


class Objective:
    def metrics(self) -> nn.Module:
        return nn.Identity()


def test_frozen_weights_do_not_change_by_a_bit() -> None:
    torch.manual_seed(0)
    model, settings = Outer(), Optimizer(lr=0.1, freeze=["inner.proj.*", "*.A"], ema=0.9)
    task = Task(model, Objective(), settings, lambda _: [], n_step=3, seed=0)
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimizer = task.configure_optimizers()["optimizer"]
    for _ in range(3):
        model(torch.tensor([[0, 1, 2]])).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        task.on_train_batch_end()
    frozen = {"inner.proj.weight", "inner.proj.bias", "inner.A"}
    for saved in (model, task.saved):
        changed = {name for name, p in saved.named_parameters() if not p.equal(before[name])}
        assert changed == before.keys() - frozen


def test_patterns_can_be_given_on_the_command_line() -> None:
    recipe = load_recipe("genomics/annotate", ["optimizer.freeze=[embedding.*,backbone.blocks.?.*]"])
    assert recipe.optimizer.freeze == ["embedding.*", "backbone.blocks.?.*"]
    assert load_recipe("genomics/annotate").optimizer.freeze is None


@pytest.mark.parametrize("option", [{"lora_rank": -1}, {"lora_alpha": 0}])
def test_wrong_rank(option: dict) -> None:
    with pytest.raises(
        InputError, match=rf"optimizer\.{next(iter(option))} is {next(iter(option.values()))}, expected"
    ):
        Optimizer(**option)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["iner.*"], r"optimizer\.freeze: 'iner\.\*' is the name of nothing. Did you mean 'inner\.\*'\?"),
        (["norm.*", "inner.proj.weigth"], "Did you mean 'inner.proj.weight'"),
        (["x"], "'x' is the name of nothing. Names begin with embedding, head, inner, norm"),
        (["*"], "leaves nothing to train"),
    ],
)
def test_wrong_pattern(patterns: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_trained(Outer(), Optimizer(freeze=patterns))
