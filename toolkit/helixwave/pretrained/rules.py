"""From published tensors to ours: every name has a rule, and everything is checked before anything is copied."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from helixwave.errors import InputError


class Place(NamedTuple):
    """Rows of one of our tensors: part `part` of `n_part` equal ones along the first axis."""

    name: str
    part: int = 0
    n_part: int = 1

    def of(self, tensors: dict[str, Tensor]) -> Tensor:
        return tensors[self.name].chunk(self.n_part)[self.part]


class Rule(NamedTuple):
    """Where a published tensor goes.

    Args:
        name: the published name.
        places: what it fills, one after another along the first axis.
        convert: from the published values to ours, in the same order of places.
        shape: the published shape, if it is not that of the places.
        same_as: it fills nothing, may be absent, and must equal the tensor with this published name.
        values: it fills nothing and must hold these values, which follow from the configuration, but for rounding.
    """

    name: str
    places: tuple[Place, ...] = ()
    convert: Callable[[Tensor], Tensor] | None = None
    shape: tuple[int, ...] | None = None
    same_as: str | None = None
    values: Tensor | None = None


def rule(name: str, *ours: str | Place, convert: Callable[[Tensor], Tensor] | None = None) -> Rule:
    """A published tensor that fills our tensors, which have its shape when put one after another."""
    return Rule(name, tuple(Place(place) if isinstance(place, str) else place for place in ours), convert)


def same_names(module: nn.Module, published: str, ours: str, besides: Sequence[str] = ()) -> list[Rule]:
    """Rules for a module of ours whose tensors have their published names after the two prefixes."""
    return [rule(published + name, ours + name) for name in module.state_dict() if name not in besides]


def plus_one(weight: Tensor) -> Tensor:
    """The factor that a residual weight stands for."""
    return 1 + weight


def fill(model: nn.Module, rules: Iterable[Rule], tensors: dict[str, Tensor], where: str) -> None:
    """Copy the published `tensors` into the model.

    Raises:
        InputError: a tensor is missing, unexpected, of another shape or kind; nothing has been copied then.
    """
    by_name = {given.name: given for given in rules}
    ours = _own_tensors(model)
    _expect_coverage(by_name.values(), ours)
    _expect_names(by_name, tensors, where)
    for name, tensor in tensors.items():
        _expect_form(by_name[name], tensor, ours, where)
    for name, tensor in tensors.items():
        _expect_values(by_name[name], tensor, tensors, where)
    with torch.no_grad():
        for name, tensor in tensors.items():
            _copy(by_name[name], tensor, ours)


def _own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Our parameters and buffers; a tied one appears under its first name."""
    first: dict[int, str] = {}
    tensors = model.state_dict(keep_vars=True)
    for name, tensor in tensors.items():
        first.setdefault(id(tensor), name)
    return {name: tensor for name, tensor in tensors.items() if first[id(tensor)] == name}


def _expect_coverage(rules: Iterable[Rule], ours: dict[str, Tensor]) -> None:
    """A gap between the rules is our mistake, not the reader's."""
    left = {name: tensor.numel() for name, tensor in ours.items()}
    for given in rules:
        for place in given.places:
            left[place.name] -= place.of(ours).numel()
    wrong = [name for name, numel in left.items() if numel]
    assert not wrong, f"rules do not fill {wrong} exactly once"


def _expect_names(rules: dict[str, Rule], tensors: dict[str, Tensor], where: str) -> None:
    needed = {name for name, given in rules.items() if given.same_as is None}
    for problem, names in (
        ("lacks", sorted(needed - tensors.keys())),
        ("has the unexpected", sorted(tensors.keys() - rules.keys())),
    ):
        if names:
            raise InputError(
                f"{where} {problem} tensor {names[0]!r}" + (f" and {len(names) - 1} more" * (len(names) > 1))
            )


def _expect_form(given: Rule, tensor: Tensor, ours: dict[str, Tensor], where: str) -> None:
    if given.same_as is not None:
        return
    is_float = given.values is None or given.values.is_floating_point()
    if tensor.is_floating_point() != is_float:
        expected = "floating point. Quantised weights are not read" if is_float else "whole numbers"
        raise InputError(f"{where}: {given.name} has dtype {tensor.dtype}, expected {expected}")
    shape = _shape(given, ours)
    if tuple(tensor.shape) != shape:
        raise InputError(
            f"{where}: {given.name} has shape {list(tensor.shape)}, the configuration makes it {list(shape)}"
        )


def _expect_values(given: Rule, tensor: Tensor, tensors: dict[str, Tensor], where: str) -> None:
    """Raise InputError if what fills nothing differs from what it repeats."""
    if given.same_as is not None:
        twin = tensors[given.same_as]
        if tensor.dtype != twin.dtype or not torch.equal(tensor, twin):
            raise InputError(
                f"{where}: {given.name} differs from {given.same_as}, but the configuration ties them. "
                "If it has an entry for that, set it to false"
            )
    if given.values is not None and not _agree(tensor, given.values):
        raise InputError(
            f"{where}: {given.name} holds other values than follow from the configuration. Is it of these weights?"
        )


def _agree(tensor: Tensor, values: Tensor) -> bool:
    if not values.is_floating_point():
        return torch.equal(tensor.to(values.dtype), values)
    tolerance = 1e-5 + torch.finfo(tensor.dtype).eps
    return torch.allclose(tensor.float(), values.float(), rtol=tolerance, atol=tolerance)


def _shape(given: Rule, ours: dict[str, Tensor]) -> tuple[int, ...]:
    if given.shape is not None:
        return given.shape
    if given.values is not None:
        return tuple(given.values.shape)
    parts = [place.of(ours) for place in given.places]
    return (sum(len(part) for part in parts), *parts[0].shape[1:])


def _copy(given: Rule, tensor: Tensor, ours: dict[str, Tensor]) -> None:
    if not given.places:
        return
    values = tensor if given.convert is None else given.convert(tensor.float())
    parts = [place.of(ours) for place in given.places]
    for part, value in zip(parts, values.split([len(part) for part in parts]), strict=True):
        part.copy_(value)
