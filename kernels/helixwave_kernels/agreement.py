"""How far an implementation is from its reference: in outputs, states and the gradient of each input."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map


def results(
    function: Callable[..., Any], inputs: dict[str, Any], comparable: Callable[[Any], Any] | None = None
) -> dict[str, Tensor]:
    """Outputs, states and gradients by name, as if there were more layers behind all outputs.

    Args:
        function: called with `inputs` as keywords.
        inputs: tensors, options, and states that may be tuples of tensors.
        comparable: maps what `function` returns to what has a meaning of its own, where states may differ by a factor.
    """
    inputs = tree_map(lambda value: value.clone().requires_grad_() if is_continuous(value) else value, inputs)
    outputs = function(**inputs)
    leaves = tree_leaves(outputs if comparable is None else comparable(outputs))
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(leaf.shape, generator=generator).to(leaf) for leaf in leaves]
    torch.autograd.backward(leaves, weights)
    named = {"y" if i == 0 else f"state {i}": leaf.detach() for i, leaf in enumerate(leaves)}
    gradients = {f"gradient of {name}": value.grad for name, value in continuous(inputs).items()}
    return named | {name: value for name, value in gradients.items() if value is not None}


def error(actual: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference over that of the expected value; infinite where a value is not finite."""
    if actual.numel() and not actual.isfinite().all():
        return float("inf")
    difference, size = (actual - expected).abs().double().norm().item(), expected.abs().double().norm().item()
    return difference / size if size else difference


def continuous(inputs: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors that have a gradient, by name; `state 0`, `state 1`, ... where an argument is a tuple."""
    named: dict[str, Tensor] = {}
    for name, value in inputs.items():
        leaves = tree_leaves(value)
        names = [name] if isinstance(value, Tensor) else [f"{name} {i}" for i in range(len(leaves))]
        named |= {name: leaf for name, leaf in zip(names, leaves, strict=True) if is_continuous(leaf)}
    return named


def is_continuous(value: Any) -> bool:
    """Whether a value is a tensor that has a gradient."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())
