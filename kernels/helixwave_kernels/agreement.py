"""How far an implementation is from its reference: in outputs, states and the gradient of each input."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves


def results(function: Callable[..., Any], inputs: dict[str, Any]) -> dict[str, Tensor]:
    """Outputs, states and gradients by name, as if there were more layers behind all outputs."""
    inputs = {name: value.clone().requires_grad_() if is_continuous(value) else value for name, value in inputs.items()}
    outputs = tree_leaves(function(**inputs))
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(output.shape, generator=generator).to(output) for output in outputs]
    torch.autograd.backward(outputs, weights)
    named = {"y" if i == 0 else f"state {i}": output.detach() for i, output in enumerate(outputs)}
    gradients = {f"gradient of {name}": value.grad for name, value in inputs.items() if is_continuous(value)}
    return named | {name: value for name, value in gradients.items() if value is not None}


def error(actual: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference over that of the expected value; infinite where a value is not finite."""
    if actual.numel() and not actual.isfinite().all():
        return float("inf")
    difference, size = (actual - expected).abs().double().norm().item(), expected.abs().double().norm().item()
    return difference / size if size else difference


def is_continuous(value: Any) -> bool:
    """Whether a value is a tensor that has a gradient."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())
