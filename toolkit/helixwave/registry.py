"""Names for parts: what a recipe, a checkpoint or the command line can ask for.

A part is registered by a line in the entry points of any installed package, ours included, so there is one list and it
is read without importing anything. In a notebook or a test, `@BLOCKS.register("name")` does the same for one process.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from helixwave.errors import InputError, nearest
from helixwave.signature import Signature, accepts, read_signature, signature_of

T = TypeVar("T", bound=Callable[..., Any])
Config = dict[str, Any]


class Registry:
    """Constructors by name. A constructor's signature is its configuration.

    Args:
        kind: the word for one part in messages: `block`.
        provided: arguments that the program gives, to those that have them, and a recipe does not.
    """

    def __init__(self, kind: str, *, provided: frozenset[str] = frozenset()):
        self.kind = kind
        self.group = f"helixwave.{kind.lower().replace(' ', '_')}s"
        self.provided = provided
        self._local: dict[str, Callable[..., Any]] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Class decorator that adds a part under `name` for this process."""

        def add(constructor: T) -> T:
            if name in self:
                raise ValueError(f"there is already a {self.kind} named {name!r}")
            self._local[name] = constructor
            return constructor

        return add

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*_entry_points(self.group), *self._local}))

    def __contains__(self, name: object) -> bool:
        return name in self._local or name in _entry_points(self.group)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        """The constructor named `name`, imported now if need be."""
        found = self._find(name)
        return found.load() if isinstance(found, EntryPoint) else found

    def signature(self, name: str) -> Signature:
        """What `name` can be configured with, without importing it."""
        found = self._find(name)
        return read_signature(found.value) if isinstance(found, EntryPoint) else signature_of(found)

    def build(self, config: Mapping[str, Any], **provided: Any) -> Any:
        """Construct a part from `{"name": ..., argument: value, ...}`.

        Raises:
            InputError: unknown name, unknown or missing argument, or a value of the wrong type.
        """
        self.check(self.kind, config)
        arguments = {key: value for key, value in config.items() if key != "name"}
        known = self.signature(config["name"]).parameters
        return self[config["name"]](**arguments, **{key: value for key, value in provided.items() if key in known})

    def check(self, where: str, config: object) -> None:
        """Raise InputError if `config` cannot be built; nothing is imported."""
        if not isinstance(config, Mapping) or not isinstance(config.get("name"), str):
            raise InputError(
                f"{where}: expected {{name: ..., argument: value}} with a {self.kind}'s name, got {config!r}"
            )
        name = config["name"]
        if name not in self:
            raise InputError(f"{where}: {self._unknown(name)}")
        arguments = {key: value for key, value in config.items() if key != "name"}
        check_arguments(f"{where} ({name})", self.signature(name), arguments, self.provided)

    def _find(self, name: str) -> EntryPoint | Callable[..., Any]:
        if name not in self:
            raise InputError(self._unknown(name))
        return self._local[name] if name in self._local else _entry_points(self.group)[name]

    def _unknown(self, name: str) -> str:
        return f"no {self.kind} named {name!r}. {nearest(name, self)}"


@cache
def _entry_points(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


def check_backbone(where: str, config: Mapping[str, Any]) -> None:
    """Raise InputError if `helixwave.backbone.Backbone` cannot be built from `config`; nothing is imported."""
    check_arguments(where, read_signature("helixwave.backbone:Backbone"), config)
    for key in ("d_model", "n_layer"):
        if config[key] < 1:
            raise InputError(f"{where}: {key} is {config[key]}, expected at least 1")
    if not config["blocks"]:
        raise InputError(f"{where}: blocks is empty, expected at least one, as in [{{name: {next(iter(BLOCKS))}}}]")
    for key in ("dropout", "drop_path"):
        if not 0 <= config.get(key, 0) < 1:
            raise InputError(f"{where}: {key} is {config[key]}, expected at least 0 and less than 1")
    if not 0 < config.get("norm_eps", 1) < math.inf:
        raise InputError(f"{where}: norm_eps is {config['norm_eps']}, expected more than 0")


def check_network(where: str, config: Mapping[str, Any]) -> None:
    """Raise InputError if a model and its backbone cannot be built from `{"model": ..., "backbone": ...}`.

    A model whose constructor takes no backbone has layers of its own, and `backbone` is null.
    """
    MODELS.check(f"{where}model", config["model"])
    name = config["model"]["name"]
    if takes_backbone(name):
        check_backbone(f"{where}backbone", config["backbone"] or {})
    elif config["backbone"] is not None:
        raise InputError(f"{where}backbone: the model {name} has layers of its own. Set backbone=null")


def takes_backbone(model: str) -> bool:
    """Whether a registered model is built on a backbone; nothing is imported."""
    return "backbone" in MODELS.signature(model).parameters


def check_arguments(
    where: str, signature: Signature, arguments: Mapping[str, Any], provided: frozenset[str] = frozenset()
) -> None:
    """Raise InputError if `arguments` do not fit: an unknown or missing name, a value of the wrong type.

    Arguments annotated `BlockConfig` or `list[BlockConfig]` hold blocks and are checked as such.
    """
    known = {name: p for name, p in signature.parameters.items() if name not in provided}
    for name, value in arguments.items():
        if name not in known:
            raise InputError(f"{where}: unknown key {name!r}. {nearest(name, known)}")
        if not accepts(known[name].annotation, value):
            raise InputError(f"{where}: {name} is {value!r}, expected {known[name].type_name}")
        if value is not None and "BlockConfig" in known[name].type_name:
            for i, block in enumerate(value if isinstance(value, list) else [value]):
                BLOCKS.check(f"{where}.{name}[{i}]" if isinstance(value, list) else f"{where}.{name}", block)
    missing = [name for name, p in known.items() if p.required and name not in arguments]
    if missing:
        raise InputError(f"{where}: {missing[0]} is missing ({known[missing[0]].type_name}). Add {missing[0]}=VALUE")


BlockConfig = Config
"""A block's name and arguments, as in `{"name": "mamba", "d_state": 16}`."""

BLOCKS = Registry("block", provided=frozenset({"d_model"}))
MODELS = Registry("model", provided=frozenset({"backbone", "classes", "predicts"}))
DATA = Registry("dataset")
BASELINES = Registry("baseline")
OBJECTIVES = Registry("objective", provided=frozenset({"classes", "vocabulary"}))
FORECASTERS = Registry("forecaster")
COMMANDS = Registry("command")
