"""Models that learn other objectives with the embedding and the backbone of a run's own model."""

from typing import Any

from torch import nn

from helixwave.checkpoint import build_model
from helixwave.errors import InputError
from helixwave.objectives import Objective
from helixwave.registry import MODELS, Config

# parts that belong to one objective alone
_OWN = ("head", "dropout")


def companion_config(model: Any) -> Config:
    """The name and arguments of the model that learns from inputs alone what `model` is then trained on.

    Its class names it in `pretrained_as`; how inputs are read is taken from its `reads`.

    Raises:
        InputError: the class names none.
    """
    named: Config | None = getattr(type(model), "pretrained_as", None)
    if named is None:
        raise InputError(
            f"training: {type(model).__name__} does not say which model pretrains it. Choose another model.name, or "
            "name one in training.self_pretrain.model"
        )
    known = MODELS.signature(named["name"]).parameters
    return {**{key: value for key, value in getattr(model, "reads", {}).items() if key in known}, **named}


def companion(model: Any, objective: Objective) -> nn.Module:
    """What learns `objective` with the parts of `model`: itself, if its outputs are what the objective asks for.

    Otherwise a model of its own head; all other parts are the same modules.

    Raises:
        InputError: there is no such model, or it cannot learn this.
    """
    config = companion_config(model)
    outputs = model.config["classes"], model.config["predicts"]
    if config["name"] == model.config["model"]["name"] and outputs == (objective.classes, objective.predicts):
        objective.check(model)
        return model
    facts = {"classes": objective.classes, "predicts": objective.predicts}
    other = build_model({**model.config, "model": config, **facts})
    _share(other, model)
    objective.check(other)
    return other


def _share(other: nn.Module, model: nn.Module) -> None:
    """Put the parts of `model` into `other`, in whose place weights that its head shares with them follow."""
    moved: dict[int, nn.Parameter] = {}
    for name, part in list(other.named_children()):
        if name.startswith(_OWN):
            continue
        its: Any = getattr(model, name, None)
        old, new = dict(part.named_parameters()), {} if its is None else dict(its.named_parameters())
        shapes = [{key: tensor.shape for key, tensor in each.items()} for each in (old, new)]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"training: {name} of {type(other).__name__} is not that of {type(model).__name__}: they cannot learn "
                "together. Choose another model.name"
            )
        moved |= {id(tensor): new[key] for key, tensor in old.items()}
        setattr(other, name, its)
    for module in other.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in moved:
                setattr(module, name, moved[id(parameter)])
