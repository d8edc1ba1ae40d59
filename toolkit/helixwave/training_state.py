"""The state of a running training as one safetensors file: what `helixwave resume` goes on from. No pickle."""

import json
from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import safe_open
from torch import Tensor

from helixwave.checkpoint import load_tensors, save_tensors


class SafetensorsIO(CheckpointIO):
    """Lightning's training state: tensors as they are, everything else as JSON in the file's metadata."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        tensors: dict[str, Tensor] = {}
        tree = json.dumps(_pack(checkpoint, tensors))
        save_tensors(tensors, Path(path), {"tree": tree})

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        tensors = load_tensors(Path(path))
        with safe_open(path, "pt") as f:
            return _unpack(json.loads(f.metadata()["tree"]), tensors)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON for nested containers; each tensor moves to `tensors` and leaves its number behind."""
    match value:
        case Tensor():
            # a copy, because a tensor with two names would otherwise share its memory
            tensors[str(len(tensors))] = value.detach().cpu().clone()
            return {"tensor": str(len(tensors) - 1)}
        case dict():
            return {"dict": [[_pack(key, tensors), _pack(inner, tensors)] for key, inner in value.items()]}
        case list():
            return {"list": [_pack(inner, tensors) for inner in value]}
        case tuple():
            return {"tuple": [_pack(inner, tensors) for inner in value]}
        case None | bool() | int() | float() | str():
            return value
    raise TypeError(f"the training state holds a {type(value).__name__}, which has no place in a safe file")


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "tensor":
        return tensors[inner]
    if kind == "dict":
        return {_unpack(key, tensors): _unpack(element, tensors) for key, element in inner}
    return {"list": list, "tuple": tuple}[kind](_unpack(element, tensors) for element in inner)
