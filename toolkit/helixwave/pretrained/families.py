"""What is published, and the families of layouts that can be read."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

from torch import Tensor, nn

from helixwave.errors import InputError, nearest
from helixwave.pretrained.rules import Rule
from helixwave.pretrained.settings import Settings
from helixwave.registry import Registry

OWN = "It is a checkpoint of HelixWave itself: helixwave.load reads it"


@dataclass(frozen=True)
class Published:
    """A checkpoint as it was found.

    Args:
        where: the folder, for messages.
        settings: the configuration; without entries if there was no file.
        tensors: by published name.
        options: what the caller asked for beside the configuration, of what the family knows as its `options`.
    """

    where: str
    settings: Settings
    tensors: dict[str, Tensor]
    options: dict[str, Any]


class Checkpoint(NamedTuple):
    """A published checkpoint that a family can read.

    Args:
        name: on the hub.
        parameters: how many our model has.
        context: the longest input that it was made for; None: any.
    """

    name: str
    parameters: int
    context: int | None = None


class Plan(NamedTuple):
    """A model of ours with fresh weights, and where each of them comes from."""

    model: nn.Module
    rules: list[Rule]


class Family:
    """One way in which a kind of model is published. Registered under what configurations call it, `model_type`.

    A third-party package adds one with a class of this form and a line in its `pyproject.toml`:

        [project.entry-points."helixwave.pretrained"]
        my_model = "my_package.pretrained:MyModel"
    """

    marks: ClassVar[tuple[str, ...]]
    """Endings of tensor names by which the layout is known when the configuration does not say."""
    options: ClassVar[frozenset[str]] = frozenset()
    """What a caller of `load_pretrained` may add for this family."""
    checkpoints: ClassVar[tuple[Checkpoint, ...]] = ()
    """What is known to be published in this layout, for `helixwave pretrained list`."""

    def plan(self, published: Published) -> Plan:
        """The model for a published checkpoint, and a rule for each published tensor.

        What is in the file but is no part of the model, such as another program's metrics, is taken out of
        `published.tensors` here; what is left must have a rule.

        Raises:
            InputError: the configuration lacks something, or asks for what cannot be built.
        """
        raise NotImplementedError


class Families(Registry):
    """Families by name, from the entry points in the group `helixwave.pretrained`."""

    def __init__(self) -> None:
        super().__init__("published family")
        self.group = "helixwave.pretrained"


FAMILIES = Families()


def family_of(asked: str | None, settings: Settings, names: Iterable[str], where: str) -> str:
    """The name of the family: what was asked for, what the configuration says, or what the tensors' names tell."""
    named = asked or settings.get("model_type")
    if named is not None:
        if named not in FAMILIES:
            raise InputError(f"{where}: no published family named {named!r}. {nearest(named, FAMILIES)}")
        return str(named)
    if is_own(settings):
        raise InputError(f"{where}: no published layout. {OWN}")
    names = sorted(names)
    found = [family for family in FAMILIES if _has_marks(family_named(family).marks, names)]
    if len(found) == 1:
        return found[0]
    problem = f"fit {' and '.join(found)} alike" if found else "are those of no known family"
    raise InputError(
        f"{where}: the configuration has no model_type, and the tensors' names ({', '.join(names[:3])}, ...) "
        f"{problem}. Pass family=NAME. Known: {', '.join(FAMILIES)}."
    )


def is_own(settings: Settings) -> bool:
    """Whether a configuration is one that `helixwave.checkpoint.save` wrote."""
    return {"format", "model", "backbone"} <= set(settings.values)


def family_named(name: str) -> type[Family]:
    """The class registered as `name`, imported now if need be."""
    return cast(type[Family], FAMILIES[name])


def _has_marks(marks: tuple[str, ...], names: Iterable[str]) -> bool:
    return all(any(name.endswith(mark) for name in names) for mark in marks)
