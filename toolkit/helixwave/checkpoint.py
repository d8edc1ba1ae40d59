"""Checkpoints that cannot run code: a folder with `config.json` and `model.safetensors`.

The configuration holds names from the registries, their arguments and the classes; nothing in it is imported by path.
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from helixwave import __version__
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.files import atomic_write
from helixwave.registry import MODELS, Config, check_network

FORMAT = 1


def build_model(config: Config, *, where: str = "") -> nn.Module:
    """A model from `{"model": ..., "backbone": ..., "classes": [...]}` with fresh weights; it keeps `config`.

    `predicts` says what its outputs mean, one class out of several if it does not; `backbone` is None for a model with
    layers of its own.

    Args:
        where: the beginning of an error's message, such as the file that `config` comes from.

    Raises:
        InputError: an unknown name or an argument that does not fit.
    """
    check_network(where, config)
    model = MODELS.build(
        config["model"],
        backbone=None if config["backbone"] is None else Backbone(**config["backbone"]),
        classes=config["classes"],
        predicts=config.get("predicts", "class"),
    )
    model.config = config
    return model


def save(model: nn.Module, folder: Path | str) -> None:
    """Write `model` with its configuration into `folder`. Each file is replaced as a whole or not at all."""
    folder = Path(folder)
    config = {"format": FORMAT, "helixwave": __version__, **model.config}  # type: ignore[dict-item]
    with atomic_write(folder / "config.json") as f:
        json.dump(config, f, indent=2)
        f.write("\n")
    save_tensors(named_tensors(model), folder / "model.safetensors")


def load(folder: Path | str) -> Any:
    """The model in a checkpoint folder (or in a run's folder), in evaluation mode.

    Raises:
        InputError: no checkpoint there, a damaged file, or tensors that are missing, unexpected or of another shape.
    """
    folder = find_checkpoint(Path(folder))
    model = build_model(read_config(folder / "config.json"), where=f"{folder / 'config.json'}: ")
    restore(model, load_tensors(folder / "model.safetensors"), where=str(folder / "model.safetensors"))
    return model.eval()


def find_checkpoint(folder: Path) -> Path:
    """`folder` itself or, for a run's folder, the checkpoint in it."""
    for candidate in (folder, folder / "checkpoint"):
        if (candidate / "config.json").is_file() and (candidate / "model.safetensors").is_file():
            return candidate
    reason = "it holds no config.json with model.safetensors" if folder.is_dir() else "there is no such folder"
    raise InputError(f"{folder} is no checkpoint: {reason}. Expected the checkpoint folder of a run")


def read_config(path: Path) -> Config:
    """A checkpoint's configuration, its outline checked."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}). The checkpoint is damaged; copy it again") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else None
        raise InputError(f"{path}: checkpoint format {found!r}, this version reads format {FORMAT}")
    for key, kind in (("model", dict), ("backbone", dict | None), ("classes", list)):
        if key not in config or not isinstance(config[key], kind):
            expected = getattr(kind, "__name__", "dict or null")
            raise InputError(f"{path}: {key!r} is {config.get(key)!r}, expected a {expected}")
    return {key: value for key, value in config.items() if key not in {"format", "helixwave"}}


def restore(model: nn.Module, tensors: dict[str, Tensor], *, where: str) -> None:
    """Copy `tensors` into the model; every tensor must be there, be known and have the right shape."""
    expected = named_tensors(model)
    for problem, names in (
        ("lacks", sorted(expected.keys() - tensors.keys())),
        ("has the unexpected", sorted(tensors.keys() - expected.keys())),
    ):
        if names:
            raise InputError(
                f"{where} {problem} tensor {names[0]!r}" + (f" and {len(names) - 1} more" * (len(names) > 1))
            )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{list(tensor.shape)}, the configuration makes it {list(expected[name].shape)}"
            raise InputError(f"{where}: {name} has shape {shapes}")
    model.load_state_dict(tensors, strict=False)


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file as a whole or not at all."""
    from safetensors.torch import save as to_bytes

    with atomic_write(path, "wb") as f:
        f.write(to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: not a complete safetensors file ({error}). Copy or train it again") from error


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; a tensor with several names appears under its first."""
    first: dict[int, str] = {}
    tensors = model.state_dict(keep_vars=True)
    for name, tensor in tensors.items():
        first.setdefault(id(tensor), name)
    return {name: tensor for name, tensor in tensors.items() if first[id(tensor)] == name}
