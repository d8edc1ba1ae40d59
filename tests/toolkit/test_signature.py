import ast
import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal, Optional, Union

import pytest
from helixwave.recipe import Batches, Optimizer, Trainer
from helixwave.registry import BASELINES, BLOCKS, DATA, MODELS, OBJECTIVES
from helixwave.signature import accepts, read_signature, signature_of

REGISTRIES = [BLOCKS, MODELS, DATA, BASELINES, OBJECTIVES]
POINTS = [point for registry in REGISTRIES for point in entry_points(group=registry.group)]
SECTIONS = [Optimizer, Trainer, Batches]

# annotation, what fits, what does not
TYPES = [
    ("int", [0, -3], [True, 1.0, "1", None]),
    ("float", [0.5, 2, float("inf")], [False, "0.5", None]),
    ("bool", [True, False], [1, 0, "true", None]),
    ("str", ["", "a"], [1, None, ["a"]]),
    ("None", [None], [0, "", False]),
    ("int | None", [3, None], [3.5, "3"]),
    ("Optional[int]", [3, None], [3.5, "3"]),
    ("Union[int, str]", [3, "a"], [None, 2.5]),
    ("Literal['a', 'b']", ["a", "b"], ["c", None, ["a"]]),
    ("Literal['a'] | None", ["a", None], ["b"]),
    ("list[int]", [[], [1, 2], (1, 2)], [1, [1, "2"], [True], "12", None]),
    ("list[list[int] | None]", [[[1], None]], [[1], [["a"]]]),
    ("list[Literal['a', 'b']]", [["b", "a"]], [["a", "c"], "a"]),
    ("Sequence[float]", [[1, 0.5]], [[None], 1.0]),
    ("list", [[1, "a"]], [{}, "a"]),
    ("tuple[int, ...]", [[1], (1, 2), []], [1, "a", ["a"]]),
    ("tuple[float, str]", [[1, "a"], (0.5, "")], [[1], [1, "a", "b"], ["a", 1], None]),
    ("dict", [{}, {"a": 1}], [[], None]),
    ("dict[str, Any]", [{"a": 1}], [[("a", 1)], "a"]),
    ("Path", ["a/b"], [1, ["a"]]),
    ("Any", [1, None, []], []),
    ("SomethingElse", [1, None, []], []),
]


@pytest.mark.parametrize("as_text", [False, True], ids=["name", "string"])
@pytest.mark.parametrize(("annotation", "good", "bad"), TYPES, ids=[row[0] for row in TYPES])
def test_values_fit_their_annotation(annotation, good, bad, as_text):
    tree = ast.parse(repr(annotation) if as_text else annotation, mode="eval").body
    assert [value for value in good if not accepts(tree, value)] == []
    assert [value for value in bad if accepts(tree, value)] == []


def test_no_annotation_accepts_anything():
    assert accepts(None, object())


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point.group}-{point.name}")
def test_source_and_object_agree(point):
    """What is read from the text is what Python makes of it."""
    constructor = point.load()
    names = {**vars(import_module(point.module))}
    read, real = read_signature(point.value).parameters, inspect.signature(constructor).parameters
    assert list(read) == list(real)
    for name, parameter in real.items():
        assert read[name].required == (parameter.default is parameter.empty)
        assert eval(read[name].type_name, names) == parameter.annotation  # noqa: S307
        if not read[name].required:
            assert eval(read[name].default, names) == parameter.default  # noqa: S307
    assert read_signature(point.value).summary == inspect.getdoc(constructor).split("\n")[0]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_dataclass_read_from_source(section):
    read, real = read_signature(f"helixwave.recipe:{section.__name__}"), signature_of(section)
    assert list(read.parameters) == list(real.parameters)
    assert read.summary == real.summary
    for name, parameter in read.parameters.items():
        assert ast.literal_eval(parameter.default) == getattr(section(), name)
        assert not parameter.required


@dataclass
class Point:
    """Where.

    More.
    """

    x: int
    y: float = 0.5


def test_signature_of_an_object():
    def draw(
        a,
        b: int,
        *rest: int,
        c: Literal["x"] | None = None,
        d: Optional[list[int]] = None,  # noqa: UP045
        e: Union[int, str] = 3,  # noqa: UP007
        f: Sequence[float] = (),
        **more: Any,
    ) -> None:
        """Draw."""

    signature = signature_of(draw)
    assert signature.summary == "Draw."
    assert {name: p.required for name, p in signature.parameters.items()} == {
        **dict.fromkeys("ab", True),
        **dict.fromkeys("cdef", False),
    }
    assert signature.parameters["a"].type_name == "anything"
    good = {"b": 1, "c": "x", "d": [1], "e": "a", "f": [0.5]}
    bad = {"b": "1", "c": "y", "d": ["a"], "e": 0.5, "f": [None]}
    assert {key for key, value in good.items() if not accepts(signature.parameters[key].annotation, value)} == set()
    assert {key for key, value in bad.items() if accepts(signature.parameters[key].annotation, value)} == set()


def test_signature_of_a_dataclass():
    signature = signature_of(Point)
    assert signature.summary == "Where."
    assert [(p.type_name, p.required, p.default) for p in signature.parameters.values()] == [
        ("int", True, ""),
        ("float", False, "0.5"),
    ]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose files cannot be imported; what was read of another test's is forgotten."""
    read_signature.cache_clear()
    folder = tmp_path / "unimportable" / "inner"
    folder.mkdir(parents=True)
    for path in (folder.parent, folder):
        (path / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_nothing_is_imported(package):
    source = (
        "raise RuntimeError('imported')\n"
        "Mode = Literal['a', 'b']\n"
        'class Part:\n    """What it is."""\n'
        "    def __init__(self, d: int, *, mode: Mode = 'a', modes: list[Mode] | None = None): ...\n"
        "def make(n: int, m: float = 1.0): ...\n"
    )
    (package / "part.py").write_text(source)
    signature = read_signature("unimportable.inner.part:Part")
    assert signature.summary == "What it is."
    assert list(signature.parameters) == ["d", "mode", "modes"]
    assert accepts(signature.parameters["mode"].annotation, "b")
    assert not accepts(signature.parameters["mode"].annotation, "c")
    assert not accepts(signature.parameters["modes"].annotation, ["c"])
    assert {name: p.required for name, p in read_signature("unimportable.inner.part:make").parameters.items()} == {
        "n": True,
        "m": False,
    }
    assert not [name for name in sys.modules if name.startswith("unimportable")]


def test_what_is_not_there_is_named(package):
    (package / "part.py").write_text("")
    with pytest.raises(LookupError, match=r"unimportable.inner.part defines no 'Part' at its top level"):
        read_signature("unimportable.inner.part:Part")
    for module in ("unimportable.inner.other", "unimportable.other.part", "no_such_package.part"):
        with pytest.raises(ModuleNotFoundError, match=module):
            read_signature(f"{module}:Part")
