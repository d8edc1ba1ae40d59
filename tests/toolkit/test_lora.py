"""Low-rank changes beside frozen weights; what is saved is an ordinary checkpoint."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helixwave.checkpoint import build_model, load, save
from helixwave.errors import InputError
from helixwave.recipe import Optimizer
from helixwave.registry import MODELS
from helixwave.task import Task
from helixwave.token_model import TokenModel
from helixwave.training_state import SafetensorsIO
from torch import nn

IDS, LENGTHS = torch.tensor([[0, 1, 2, 1], [2, 1, 1, 0]]), torch.tensor([4, 2])
BLOCKS = [{"name": "bidirectional", "block": {"name": "mamba", "d_state": 4}, "tied": True}, {"name": "mlp"}]


class Objective:
    def metrics(self) -> nn.Module:
        return nn.Identity()


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft", reason="the extra lora is not installed")
    monkeypatch.setattr(MODELS, "_local", {"token_model": TokenModel})


def build(*, tie: bool = False) -> nn.Module:
    torch.manual_seed(0)
    backbone = {"d_model": 8, "n_layer": 2, "blocks": BLOCKS}
    return build_model({"model": {"name": "token_model", "tie": tie}, "backbone": backbone, "classes": ["a", "b", "c"]})


def make_task(model: nn.Module, **options: Any) -> Task:
    return Task(
        model, Objective(), Optimizer(**{"lr": 0.05, "lora_rank": 2, **options}), lambda _: [], n_step=9, seed=0
    )


def train(task: Task, optimizer: Any, steps: int) -> None:
    for _ in range(steps):
        task.model(IDS, LENGTHS).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        task.on_train_batch_end()


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_the_checkpoint_is_an_ordinary_one_that_predicts_the_same(
    ema: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = build()
    before, names = fresh(IDS, LENGTHS), set(fresh.state_dict())
    task = make_task(build(), ema=ema)
    torch.testing.assert_close(task.model(IDS, LENGTHS), before)
    train(task, task.configure_optimizers()["optimizer"], 3)
    save(task.saved, tmp_path)
    monkeypatch.setitem(sys.modules, "peft", None)
    again = load(tmp_path)
    assert set(again.state_dict()) == names
    expected = task.evaluated.eval()(IDS, LENGTHS)
    torch.testing.assert_close(again(IDS, LENGTHS), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, before, rtol=0.1)
    # a layer used in both directions is still one
    assert again.backbone.blocks[0].forwards is again.backbone.blocks[0].backwards


def test_each_change_learns_and_base_weights_stay() -> None:
    """Also where a block reads a layer's weight instead of calling it, as Mamba does with `dt_proj`."""
    model = build()
    before = {name: p.clone() for name, p in model.named_parameters()}
    task = make_task(model, freeze=["embedding.*", "backbone.norm*", "*.A_log", "*.D", "*conv1d*"])
    optimizer = task.configure_optimizers()["optimizer"]
    adapters = [name for name, p in model.named_parameters() if p.requires_grad]
    assert {name.split(".")[-3] for name in adapters if name != "head.weight"} == {"lora_A", "lora_B"}
    train(task, optimizer, 2)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            assert p.abs().max() > 0, name
    saved = dict(task.saved.named_parameters())
    changed = {name for name, p in before.items() if not saved[name].equal(p)}
    assert changed == {"head.weight"} | {n for n in before if n.endswith(("proj.weight", "fc1.weight", "fc2.weight"))}
    unmerged = {name.replace("base_layer.", ""): p for name, p in model.named_parameters()}
    assert all(unmerged[name].equal(p) for name, p in before.items() if name != "head.weight")


def test_targets_choose_the_layers() -> None:
    model = build()
    make_task(model, lora_targets=["*.fc1", "head"], lora_alpha=5)
    adapted = {name.partition(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A" in name}
    assert adapted == {"backbone.blocks.1.fc1", "head"}
    assert model.head.scaling == {"default": 2.5}
    assert model.backbone.blocks[1].fc2.weight.requires_grad


def test_a_resumed_run_goes_on_exactly(tmp_path: Path) -> None:
    task = make_task(build())
    optimizer = task.configure_optimizers()["optimizer"]
    train(task, optimizer, 2)
    state = {"task": task.state_dict(), "optimizer": optimizer.state_dict()}
    SafetensorsIO().save_checkpoint(state, tmp_path / "state")
    other = make_task(build())
    other_optimizer = other.configure_optimizers()["optimizer"]
    state = SafetensorsIO().load_checkpoint(tmp_path / "state")
    other.load_state_dict(state["task"])
    other_optimizer.load_state_dict(state["optimizer"])
    for each, its_optimizer in ((task, optimizer), (other, other_optimizer)):
        train(each, its_optimizer, 2)
    expected = task.saved.state_dict()
    assert all(tensor.equal(expected[name]) for name, tensor in other.saved.state_dict().items())


def test_wrong_targets() -> None:
    with pytest.raises(
        InputError, match=r"optimizer\.lora_targets: '\*\.fc3' is the name of nothing. Did you mean '\*\.fc"
    ):
        make_task(build(), lora_targets=["*.fc3"])
    with pytest.raises(InputError, match="head shares its weight with another layer"):
        make_task(build(tie=True), lora_targets=["head"])


def test_without_peft_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.delitem(sys.modules, "helixwave.lora", raising=False)
    with pytest.raises(InputError, match=r"optimizer\.lora_rank needs peft .* Run pip install 'helixwave\[lora\]'"):
        make_task(build())
