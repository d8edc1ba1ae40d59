"""S4D layers as published on their own."""

from typing import Any

from torch import Tensor, nn

from helixwave.errors import InputError
from helixwave.pretrained.families import Family, Plan, Published
from helixwave.pretrained.rules import Rule, same_names
from helixwave.registry import BLOCKS

_MARK = "kernel.log_A_real"


class S4D(Family):
    """S4D standalone layers: Gu et al., "On the Parameterization and Initialization of Diagonal State Space Models".

    One layer becomes a block, several an `nn.ModuleList` of blocks in their order. Option `prefix`: what the names of
    the layers to read begin with; other tensors are not looked at then.
    """

    marks = (_MARK, "kernel.A_imag", "kernel.C", "output_linear.0.weight")
    options = frozenset({"prefix"})

    def plan(self, published: Published) -> Plan:
        prefix = published.options.get("prefix", "")
        for name in list(published.tensors):
            if not name.startswith(prefix):
                del published.tensors[name]
        layers = sorted(
            (name.removesuffix(_MARK) for name in published.tensors if name.endswith(_MARK)), key=_by_number
        )
        if not layers:
            raise InputError(f"{published.where} has no S4D layer: no tensor is called {prefix}...{_MARK}")
        blocks = [_block(published, layer) for layer in layers]
        _expect_only(published, layers)
        if len(blocks) == 1:
            return Plan(blocks[0], same_names(blocks[0], layers[0], ""))
        rules: list[Rule] = []
        for i, (block, layer) in enumerate(zip(blocks, layers, strict=True)):
            rules += same_names(block, layer, f"{i}.")
        return Plan(nn.ModuleList(blocks), rules)


def _block(published: Published, layer: str) -> nn.Module:
    A: Tensor = published.tensors[layer + _MARK]
    if A.ndim != 2:
        raise InputError(
            f"{published.where}: {layer}{_MARK} has shape {list(A.shape)}, expected [d_model, d_state / 2]"
        )
    d_model, half = A.shape
    block: nn.Module = BLOCKS.build({"name": "s4d", "d_state": 2 * half}, d_model=d_model)
    return block


def _expect_only(published: Published, layers: list[str]) -> None:
    """Layers inside a larger model are read on request alone, so that nothing is dropped in silence."""
    outside = sorted(name for name in published.tensors if not name.startswith(tuple(layers)))
    if outside:
        raise InputError(
            f"{published.where} has the unexpected tensor {outside[0]!r} beside S4D layers. "
            f"To read a layer alone, pass prefix={layers[0]!r}"
        )


def _by_number(name: str) -> list[Any]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]
