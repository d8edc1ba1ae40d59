"""Constructor signatures read from source text, so that a recipe is checked before anything heavy is imported."""

import ast
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Parameter:
    """One argument of a constructor: the annotation as a syntax tree (None: anything goes)."""

    annotation: ast.expr | None
    required: bool
    default: str = ""

    @property
    def type_name(self) -> str:
        return "anything" if self.annotation is None else ast.unparse(self.annotation)


@dataclass(frozen=True)
class Signature:
    """The arguments of a constructor by name, and its documentation."""

    parameters: dict[str, Parameter]
    documentation: str

    @property
    def summary(self) -> str:
        """The first line."""
        return self.documentation.strip().split("\n")[0]

    @property
    def source(self) -> str:
        """Where it comes from: the rest of the paragraph from `Source:` on; empty if it does not say."""
        found = re.search(r"Sources?: .*?(?=\n\s*\n|\Z)", self.documentation, re.DOTALL)
        return " ".join(found.group().split()) if found else ""


@cache
def read_signature(target: str) -> Signature:
    """Signature of `"package.module:Class"` (or a function) without importing the module."""
    module, _, name = target.partition(":")
    tree = ast.parse(_source_path(module).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            if _inherits_constructor(node):
                return signature_of(getattr(import_module(module), name))
            return _signature_of_node(_Aliases(tree).visit(node))
    raise LookupError(f"{module} defines no {name!r} at its top level")


def signature_of(constructor: Callable[..., Any]) -> Signature:
    """The same for an object that is already here."""
    parameters = {
        p.name: Parameter(
            None if p.annotation is p.empty else ast.parse(inspect.formatannotation(p.annotation), mode="eval").body,
            p.default is p.empty,
            "" if p.default is p.empty else repr(p.default),
        )
        for p in inspect.signature(constructor).parameters.values()
        if p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}
    }
    return Signature(parameters, inspect.getdoc(constructor) or "")


def accepts(annotation: ast.expr | None, value: object) -> bool:
    """Whether a value from a YAML file fits an annotation. Names that YAML has no word for fit anything."""
    match annotation:
        case ast.Constant(value=None):
            return value is None
        case ast.Constant(value=str() as text):
            return accepts(ast.parse(text, mode="eval").body, value)
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return accepts(left, value) or accepts(right, value)
        case ast.Subscript(value=container, slice=inner):
            return _accepts_subscript(_name(container), inner, value)
        case ast.Name() | ast.Attribute():
            return _accepts_name(_name(annotation), value)
    return True


def _accepts_name(name: str, value: object) -> bool:
    match name:
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "bool" | "str" | "dict":
            return isinstance(value, {"bool": bool, "str": str, "dict": dict}[name])
        case "list" | "tuple" | "Sequence":
            return isinstance(value, list | tuple)
        case "Path":
            return isinstance(value, str | Path)
    return True


def _accepts_subscript(container: str, inner: ast.expr, value: object) -> bool:
    items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if container == "Optional":
        return value is None or accepts(inner, value)
    if container == "Union":
        return any(accepts(item, value) for item in items)
    if container == "Literal":
        return any(isinstance(item, ast.Constant) and item.value == value for item in items)
    if container == "tuple" and ast.unparse(items[-1]) != "...":
        if not isinstance(value, list | tuple) or len(value) != len(items):
            return False
        return all(accepts(item, element) for item, element in zip(items, value, strict=True))
    if container in {"list", "Sequence", "tuple"}:
        return isinstance(value, list | tuple) and all(accepts(items[0], element) for element in value)
    return _accepts_name(container, value)


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _source_path(module: str) -> Path:
    """Where a module's text lies. Only the top-level package is looked up, no package on the way is imported."""
    top, *inner = module.split(".")
    spec: ModuleSpec | None = find_spec(top)
    name = top
    for part in inner:
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, spec.submodule_search_locations) if spec else None
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module {module!r} with Python source")
    return Path(spec.origin)


class _Aliases(ast.NodeTransformer):
    """Writes out what a module names: `Metric = Literal["mcc"]` or a plain value, `_SIZES = (3, 4)`."""

    def __init__(self, module: ast.Module):
        self.values: dict[str, ast.expr] = {}
        for node in module.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and value is not None and _is_plain(value):
                self.values[target.id] = value

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.values.get(node.id, node)


def _is_plain(node: ast.expr) -> bool:
    is_choice = isinstance(node, ast.Subscript) and _name(node.value) == "Literal"
    return is_choice or isinstance(node, ast.Constant | ast.Tuple | ast.List | ast.Dict)


def _inherits_constructor(node: ast.ClassDef | ast.FunctionDef) -> bool:
    """Whether a class has arguments that its own text does not show."""
    if isinstance(node, ast.FunctionDef) or not node.bases:
        return False
    return not any(isinstance(member, ast.FunctionDef) and member.name == "__init__" for member in node.body)


def _signature_of_node(node: ast.ClassDef | ast.FunctionDef) -> Signature:
    documentation = ast.get_docstring(node) or ""
    if isinstance(node, ast.FunctionDef):
        return Signature(_arguments(node), documentation)
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            parameters = _arguments(member)
            parameters.pop("self")
            return Signature(parameters, documentation)
    return Signature(_fields(node), documentation)


def _arguments(node: ast.FunctionDef) -> dict[str, Parameter]:
    positional = [*node.args.posonlyargs, *node.args.args]
    padding: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
    defaults = [*padding, *node.args.defaults, *node.args.kw_defaults]
    return {
        arg.arg: Parameter(arg.annotation, default is None, "" if default is None else ast.unparse(default))
        for arg, default in zip([*positional, *node.args.kwonlyargs], defaults, strict=True)
    }


def _fields(node: ast.ClassDef) -> dict[str, Parameter]:
    """The arguments of a dataclass."""
    return {
        field.target.id: Parameter(
            field.annotation, field.value is None, "" if field.value is None else ast.unparse(field.value)
        )
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }
