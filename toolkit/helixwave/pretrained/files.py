"""A published checkpoint on this disk: its configuration and its tensors. Nothing in it is ever executed."""

import json
import pickle
import re
import warnings
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from helixwave.checkpoint import load_tensors
from helixwave.errors import InputError

LIGHTNING = ("weights.ckpt", "model.ckpt")
"""What Lightning's files of weights are called: of the first HyenaDNA models, of TiRex."""
WEIGHTS = (
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json"),
    *LIGHTNING,
)
"""What the weights are called, in the order in which they are looked for."""
TORCH_ENDINGS = (".bin", ".pt", ".pth", ".ckpt")
NEEDED = "config.json and one of model.safetensors (or its shards with model.safetensors.index.json), pytorch_model.bin"
# where a training program puts the weights among its other things, and the names that wrap a model
_INNER = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.", "model.")
_NUMBERED = re.compile(r"model_\d+\.safetensors")


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint, and what Lightning keeps beside them: the arguments that the model was made with.

    Args:
        path: a file of weights or a folder with one.

    Raises:
        InputError: there are no weights, more than one candidate, or a file that is damaged or holds code.
    """
    tensors: dict[str, Tensor] = {}
    arguments: dict[str, Any] = {}
    for file in weight_files(path):
        if file.suffix == ".safetensors":
            tensors |= load_tensors(file)
        else:
            content = _load_torch(file)
            tensors |= _state_dict(content, file)
            arguments |= _arguments(content)
    return tensors, arguments


def weight_files(path: Path) -> list[Path]:
    """The files that hold the weights of `path`, which is one of them or a folder."""
    return [path] if path.is_file() else _weights_in(path)


def read_config(folder: Path) -> tuple[dict[str, Any], str]:
    """The configuration in `folder` and where it comes from; no entries if there is none."""
    for name, parse in (("config.json", _parse_json), ("config.yaml", yaml.safe_load)):
        path = folder / name
        if path.is_file():
            try:
                config = parse(path.read_text(encoding="utf-8"))
            except (ValueError, yaml.YAMLError) as error:
                kind = path.suffix[1:].upper()
                raise InputError(f"{path}: not valid {kind} ({error}). It is damaged; copy it again") from error
            if not isinstance(config, dict):
                raise InputError(f"{path}: holds a {type(config).__name__}, expected the entries of a configuration")
            return config, str(path)
    return {}, f"{folder} (which has no config.json)"


def shards(index: Path) -> list[str]:
    """The files that an index spreads the tensors over."""
    try:
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index}: not an index of shards ({error!r}). It is damaged; copy it again") from error
    for file in files:
        if not isinstance(file, str) or Path(file).name != file or file.endswith(".index.json"):
            raise InputError(f"{index}: names {file!r}, expected files of weights beside it")
    return files


def _weights_in(folder: Path) -> list[Path]:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return _shard_files(folder / name) if name.endswith(".index.json") else [folder / name]
    found = sorted(path for path in folder.iterdir() if path.suffix in {".safetensors", *TORCH_ENDINGS})
    # the package xlstm numbers its shards and has no index
    if len(found) == 1 or (found and all(_NUMBERED.fullmatch(path.name) for path in found)):
        return found
    if found:
        names = ", ".join(path.name for path in found)
        raise InputError(f"{folder} holds several files of weights ({names}). Name one: load_pretrained(FOLDER/FILE)")
    raise InputError(f"{folder} holds no weights. Expected {NEEDED}, or a single file *.pt or *.ckpt")


def _shard_files(index: Path) -> list[Path]:
    files = [index.parent / name for name in shards(index)]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file} is missing: {index.name} names it. Put it into the folder")
    return files


def _parse_json(text: str) -> Any:
    return json.loads(text, object_hook=_number)


def _number(entry: dict[str, Any]) -> Any:
    # how transformers 5 writes what JSON has no word for
    return float(entry["__float__"]) if entry.keys() == {"__float__"} else entry


def _load_torch(path: Path) -> Any:
    with path.open("rb") as f:
        begins = f.read(2)
    # a zip archive or a binary pickle
    if begins != b"PK" and begins[:1] != b"\x80":
        raise InputError(
            f"{path} is no checkpoint: it begins with {begins!r}, as no torch file does. Name a .safetensors, .pt, "
            ".bin or .ckpt file, or the folder of a model"
        )
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_settings_classes()):
            # about the pickle protocol of files that are refused all the same
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message begins and ends with advice, the first of which is to run the file
        reason = (str(error).split("\n\n")[1:] or ["it is no pickle of tensors"])[0].strip().rstrip(".")
        raise InputError(
            f"{path} is refused: it holds more than tensors ({reason}), and to read that would be to run its code. "
            "Nothing was run. Ask its authors for a safetensors file or for a plain state dict"
        ) from error
    except (RuntimeError, EOFError, ValueError, LookupError, OSError) as error:
        reason = repr(error).split("\\n")[0]
        raise InputError(f"{path}: not a complete torch file ({reason}). Copy it again") from error


def _settings_classes() -> list[Any]:
    """What Lightning keeps of a run that Hydra configured: containers, which nothing resolves here."""
    from omegaconf import DictConfig, ListConfig
    from omegaconf.base import ContainerMetadata, Metadata
    from omegaconf.nodes import AnyNode

    return [DictConfig, ListConfig, AnyNode, ContainerMetadata, Metadata, defaultdict, dict, list, int, Any]


def _arguments(content: Mapping[str, Any]) -> dict[str, Any]:
    kept = content.get("hyper_parameters")
    # the containers of Hydra may refer to the environment
    return kept if isinstance(kept, dict) else {}


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for key in _INNER:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path}: holds a {type(content).__name__}, expected a state dict (tensors by name)")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(f"{path}: {name!r} is a {type(value).__name__}, expected a state dict (tensors by name)")
    return _unwrapped(dict(content))


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors
