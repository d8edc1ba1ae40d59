"""Beginning with the embedding and the backbone of a checkpoint, ours or a published one."""

import inspect
import json
from pathlib import Path
from typing import Any

from torch import nn

from helixwave.backbone import Backbone
from helixwave.checkpoint import find_checkpoint, load, named_tensors
from helixwave.errors import InputError
from helixwave.pretrained import load_pretrained
from helixwave.recipe import Start
from helixwave.registry import DATA, MODELS, Config

# arguments of a backbone that change nothing about its tensors and what is computed from them when it is not training
_FREE = {"dropout", "drop_path", "checkpointing"}
_SHOWN = 6


def read_model(place: str) -> Any:
    """The model of a checkpoint, a run's folder or a published checkpoint, in evaluation mode.

    Raises:
        InputError: there is none, it is damaged, or it is no whole model.
    """
    folder = Path(place).expanduser()
    if not folder.exists() and folder.parent != Path() and folder.parent.is_dir():
        # a slip in a path is no name on the hub, where it would be looked for at length
        raise InputError(f"start: there is no {place}. Expected the folder of a run or of a checkpoint")
    if not _is_ours(folder):
        model = load_pretrained(place)
        if not hasattr(model, "config"):
            raise InputError(f"start: {place} holds a {type(model).__name__}, expected a model with an embedding")
        return model
    return load(folder)


def resolve(name: str, config: Config) -> Config:
    """A recipe with what its checkpoint decides: the backbone, the vocabulary, and how inputs are read.

    Raises:
        InputError: the recipe says something else of the backbone.
    """
    place = config["start"]["checkpoint"]
    model = read_model(place)
    backbone = _joined(name, config.get("backbone") or {}, model.config["backbone"], place)
    reads = dict(getattr(model, "reads", {}))
    preprocessing = model.config.get("preprocessing")
    if not reads and preprocessing is None:
        raise InputError(f"{name}: start: {place} is a {type(model).__name__}, which reads neither tokens nor signals")
    folder = Path(place).expanduser()
    # signals have no vocabulary
    vocabulary = list(reads.get("vocabulary", []))
    start = {"checkpoint": str(folder.resolve()) if folder.exists() else place, "vocabulary": vocabulary}
    data = _prepared(name, config.get("data"), preprocessing or {}, place)
    model_part = _reading(config.get("model"), model.config["model"], reads)
    return {**config, "start": start, "backbone": backbone, "model": model_part, "data": data}


def take_weights(model: nn.Module, start: Start) -> str:
    """Copy what `start` names into a model: all but the head, and that too if it is one for the same classes.

    Returns:
        what was copied and what is new, for the user.

    Raises:
        InputError: a tensor of the checkpoint has no place in the model, or one of the backbone is not there.
    """
    other = read_model(start.checkpoint)
    found, wanted = named_tensors(other), named_tensors(model)
    same = type(other) is type(model) and other.classes == model.classes
    taken = {key: tensor for key, tensor in found.items() if same or not key.startswith("head.")}
    _expect_fitting(taken, wanted, start.checkpoint)
    model.load_state_dict(taken, strict=False)
    new = sorted(wanted.keys() - taken.keys())
    shown = ", ".join(new[:_SHOWN]) + f" and {len(new) - _SHOWN} more" * (len(new) > _SHOWN)
    return f"start: {len(taken)} tensors from {start.checkpoint}; new: {shown or 'none'}"


def _expect_fitting(taken: dict[str, Any], wanted: dict[str, Any], place: str) -> None:
    for key in sorted(taken.keys() - wanted.keys()):
        raise InputError(
            f"start: {place} has the tensor {key}, for which this model has no place. Change model.* so that it has"
        )
    for key in sorted(wanted.keys() - taken.keys()):
        if key.startswith(("embedding.", "backbone.")):
            raise InputError(f"start: {place} lacks the tensor {key}. Take another checkpoint or model.name")
    for key, tensor in taken.items():
        if tensor.shape != wanted[key].shape:
            raise InputError(
                f"start: {key} has shape {list(tensor.shape)} in {place}, this model needs {list(wanted[key].shape)}"
            )


def _joined(name: str, given: Config, found: Config | None, place: str) -> Config | None:
    """The checkpoint's backbone, with the recipe's dropout and the like; anything else must agree."""
    if found is None:
        # layers of its own: a backbone's dropout means nothing to them
        return {key: value for key, value in given.items() if key not in _FREE} or None
    defaults = {key: p.default for key, p in inspect.signature(Backbone).parameters.items()}
    # a whole backbone means the defaults of what it does not say
    said = [*given, *(found if "blocks" in given else [])]
    for key in dict.fromkeys(said):
        value, its = given.get(key, defaults.get(key)), found.get(key, defaults.get(key))
        if key not in _FREE and value != its:
            raise InputError(
                f"{name}: backbone.{key} is {value!r}, in the checkpoint {place} it is {its!r}. "
                f"Set it so, or take the checkpoint's whole backbone with ~backbone"
            )
    return {**found, **given}


def _prepared(name: str, given: Any, preprocessing: Config, place: str) -> Any:
    """The recipe's data with what the checkpoint says of its inputs; a recipe that says otherwise is refused."""
    if not isinstance(given, dict) or given.get("name") not in DATA:
        # the check of the recipe says what is wrong
        return given
    known = DATA.signature(given["name"]).parameters
    its = {key: value for key, value in preprocessing.items() if key in known}
    for key, value in its.items():
        if key in given and key != "window" and given[key] != value:
            raise InputError(
                f"{name}: data.{key} is {given[key]!r}, the checkpoint {place} reads {value!r}. Leave it out"
            )
    return {**its, **given}


def _reading(given: Any, model: Config, reads: Config) -> Any:
    """The recipe's model with the arguments by which the checkpoint read its inputs, unless it says otherwise.

    Where the recipe names no model it is the checkpoint's own.
    """
    if given is None or (isinstance(given, dict) and "name" not in given):
        return {**model, **(given or {})}
    if not isinstance(given, dict) or given.get("name") not in MODELS:
        # the check of the recipe says what is wrong
        return given
    known = MODELS.signature(given["name"]).parameters
    return {**given, **{key: value for key, value in reads.items() if key in known and key not in given}}


def _is_ours(folder: Path) -> bool:
    try:
        place = find_checkpoint(folder)
    except InputError:
        return False
    try:
        return "format" in json.loads((place / "config.json").read_bytes())
    except ValueError:
        # whatever reads it says what is wrong
        return False
