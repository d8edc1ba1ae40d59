"""LoRA: linear layers learn a change of low rank beside their frozen weights (Hu et al., 2021, section 4)."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from helixwave.errors import InputError
from helixwave.optimisation import matching

try:
    from peft import LoraConfig
    from peft.tuners.lora import Linear
except ImportError as error:
    raise InputError(f"optimizer.lora_rank needs peft ({error}). Run pip install 'helixwave[lora]'") from error

_ADAPTER = "default"


class _Adapted(Linear):
    """A linear layer with its change. What a block reads from it, such as Mamba the weight of `dt_proj`, is the sum."""

    @property
    def weight(self) -> Tensor:
        return super().weight + self.get_delta_weight(_ADAPTER)


def adapt(model: nn.Module, *, rank: int, alpha: int, targets: list[str]) -> None:
    """Put a change of rank `rank`, zero at first, beside linear layers, and freeze the weights and biases they have.

    Args:
        alpha: the change is scaled by `alpha / rank`.
        targets: shell-style patterns of the layers' names.

    Raises:
        InputError: a pattern that is the name of no linear layer, or a layer that shares its weight with another one.
    """
    # a layer used twice has two names, and is one layer afterwards too
    layers = {name: m for name, m in model.named_modules(remove_duplicate=False) if type(m) is nn.Linear}
    names = [name for pattern in targets for name in matching("optimizer.lora_targets", pattern, list(layers))]
    _expect_own_weights(model, {name: layers[name] for name in names})
    config = LoraConfig(r=rank, lora_alpha=alpha)
    adapted: dict[nn.Module, nn.Module] = {}
    for name in names:
        layer = layers[name].requires_grad_(False)
        if layer not in adapted:
            adapted[layer] = _Adapted(layer, _ADAPTER, config, r=rank, lora_alpha=alpha)
    _replace(model, adapted)


def merged(model: nn.Module) -> nn.Module:
    """A copy of an adapted model with ordinary layers, their weights changed."""
    model = deepcopy(model)
    plain: dict[nn.Module, nn.Module] = {}
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, _Adapted):
                module.merge()
                plain[module] = module.get_base_layer()
    _replace(model, plain)
    return model


def _replace(model: nn.Module, new: dict[nn.Module, nn.Module]) -> None:
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child in new:
                setattr(parent, name, new[child])


def _expect_own_weights(model: nn.Module, layers: dict[str, nn.Linear]) -> None:
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    for name, layer in layers.items():
        if owners[id(layer.weight)] > 1:
            raise InputError(
                f"optimizer.lora_targets: {name} shares its weight with another layer, which would change too. "
                "Choose other layers"
            )
