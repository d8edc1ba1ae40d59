"""Which parameters are trained, and each with which learning rate and weight decay."""

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.recipe import Optimizer

Settings = dict[str, float]
"""`lr`: the highest learning rate of a parameter; `weight_decay`: its own."""


def choose_trained(model: nn.Module, settings: Optimizer) -> None:
    """Freeze what the recipe names, then put adapters beside the layers that LoRA is to change.

    Raises:
        InputError: a pattern that is the name of nothing, or nothing is left to train.
    """
    freeze(model, settings.freeze or [])
    if settings.lora_rank:
        from helixwave.lora import adapt

        adapt(
            model, rank=settings.lora_rank, alpha=settings.lora_alpha, targets=settings.lora_targets or ["backbone.*"]
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(f"optimizer.freeze: {settings.freeze} leaves nothing to train. Take a pattern away")


def parameter_groups(
    model: nn.Module, *, lr: float, weight_decay: float, scale: Mapping[int, float] | None = None
) -> list[dict[str, Any]]:
    """Every trainable parameter in one group of those that share a learning rate and a weight decay.

    Decay is for matrices alone: not for biases, norms and embeddings. What a module's class says in `optimisation`
    overrides that: `{"A_log": {"lr": 1e-3, "weight_decay": 0.0}}`, with names as seen from the module. Its rate counts
    where it is less than `lr`. Where both a module and one inside it speak, the outer one is heard.

    Args:
        scale: what the learning rate of a parameter is multiplied with, by its identity; see `layer_scales`.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    own = _own_settings(model)
    # matrices first, then the rest, then what blocks ask for: the order in which saved states of optimisers count them
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(lr, weight_decay): [], (lr, 0.0): []}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        is_plain = parameter.ndim < 2 or id(parameter) in embeddings
        settings = {"lr": lr, "weight_decay": 0.0 if is_plain else weight_decay, **own.get(id(parameter), {})}
        own_lr = min(lr, settings["lr"]) * (scale or {}).get(id(parameter), 1.0)
        groups.setdefault((own_lr, settings["weight_decay"]), []).append(parameter)
    return [
        {"params": parameters, "lr": own_lr, "weight_decay": decay}
        for (own_lr, decay), parameters in groups.items()
        if parameters
    ]


def layer_scales(model: nn.Module, decay: float) -> dict[int, float]:
    """Of the learning rate of each parameter, by its identity: 1 behind the backbone, `decay` for its last layer,
    `decay^2` for the one before, and so on to what stands before the first. Source: Bao et al., "BEiT", 2022.

    Raises:
        InputError: with a decay, if the model has no backbone.
    """
    if decay == 1:
        return {}
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, Backbone):
        raise InputError(
            f"training.layer_decay: {type(model).__name__} has no backbone with layers. Set it to 1, or take another "
            "model.name"
        )
    n_layer = len(backbone.blocks)
    depths = dict.fromkeys(map(id, model.parameters()), 0)
    for number, layer in enumerate(zip(backbone.blocks, backbone.norms, strict=True), start=1):
        depths |= {id(parameter): number for module in layer for parameter in module.parameters()}
    behind = [backbone.norm, *(part for name, part in model.named_children() if name.startswith("head"))]
    # a head that shares its weight with the embedding learns as the embedding does
    early = {id(parameter) for parameter in getattr(model, "embedding", nn.Identity()).parameters()}
    depths |= {id(p): n_layer + 1 for module in behind for p in module.parameters() if id(p) not in early}
    return {number: decay ** (n_layer + 1 - depth) for number, depth in depths.items()}


def add_gradient_noise(parameters: Iterable[nn.Parameter], variance: float, step: int) -> None:
    """Add normal noise of variance `variance / (1 + step)^0.55` to every gradient, from torch's generator.

    Source: Neelakantan et al., "Adding Gradient Noise Improves Learning for Very Deep Networks", 2015, equation 1.
    """
    deviation = math.sqrt(variance / (1 + step) ** 0.55)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.add_(torch.randn_like(parameter.grad), alpha=deviation)


def freeze(model: nn.Module, patterns: list[str]) -> None:
    """Exclude parameters from training, by shell-style patterns of their names in a checkpoint: `backbone.blocks.0.*`.

    Raises:
        InputError: a pattern that is the name of nothing.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for pattern in patterns:
        for name in matching("optimizer.freeze", pattern, list(parameters)):
            parameters[name].requires_grad_(False)


def matching(where: str, pattern: str, names: list[str]) -> list[str]:
    """The names that a shell-style pattern means.

    Raises:
        InputError: there is none.
    """
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise InputError(f"{where}: {pattern!r} is the name of nothing. {_hint(pattern, names)}")
    return found


def _hint(pattern: str, names: list[str]) -> str:
    """The nearest name or group of names; all of them would fill the screen."""
    parts = [name.split(".") for name in names]
    cuts = [(path, depth) for path in parts for depth in range(1, len(path))]
    groups = {".".join(part) for path, depth in cuts for part in ([*path[:depth], "*"], ["*", *path[depth:]])}
    close = get_close_matches(pattern, sorted({*names, *groups}), n=1)
    guess = f"Did you mean {close[0]!r}? " if close else ""
    return f"{guess}Names begin with {', '.join(sorted({path[0] for path in parts}))}."


def _own_settings(model: nn.Module) -> dict[int, Settings]:
    """What modules say in `optimisation`, by the parameter's identity."""
    own: dict[int, Settings] = {}
    for module in model.modules():
        for name, settings in getattr(module, "optimisation", {}).items():
            assert settings.keys() <= {"lr", "weight_decay"}, f"{type(module).__name__}.optimisation: {settings}"
            parameter = _find(module, name)
            if parameter is not None:
                own[id(parameter)] = {**settings, **own.get(id(parameter), {})}
    return own


def _find(module: nn.Module, name: str) -> nn.Parameter | None:
    """A module's parameter by its dotted name; None where an option has left it out."""
    found: Any = module
    for part in name.split("."):
        # a layer that LoRA adapts has its own parameters one level further down
        found = getattr(found, "base_layer", found)
        assert hasattr(found, part), f"{type(module).__name__}.optimisation: there is no {name!r}"
        found = getattr(found, part)
        if found is None:
            return None
    assert isinstance(found, nn.Parameter), f"{type(module).__name__}.optimisation: {name!r} is no parameter"
    return found
