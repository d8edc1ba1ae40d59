"""Imports point down, and help and checks answer before torch is there."""

import ast
import resource
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HELIXWAVE = str(Path(sys.executable).with_name("helixwave"))
KERNELS, TOOLKIT, DOMAINS = "helixwave_kernels", "helixwave", "helixwave_domains"


def imports(package):
    """Of every file of a package: its dotted name and a module that it imports."""
    (root,) = find_spec(package).submodule_search_locations
    for path in Path(root).rglob("*.py"):
        file = ".".join([package, *path.relative_to(root).with_suffix("").parts])
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((file, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: relative import"
                yield from ((file, f"{node.module}.{alias.name}") for alias in node.names)


def test_kernels_import_torch_alone():
    allowed = {*sys.stdlib_module_names, "torch", "triton", KERNELS}
    found = {(file, module) for file, module in imports(KERNELS) if module.split(".")[0] not in allowed}
    assert not found


def test_toolkit_imports_no_domain():
    assert not {(file, module) for file, module in imports(TOOLKIT) if module.split(".")[0] == DOMAINS}


def test_no_domain_imports_another():
    inside = {(file, module) for file, module in imports(DOMAINS) if module.split(".")[0] == DOMAINS}
    assert inside
    assert not {(file, module) for file, module in inside if file.split(".")[1] != module.split(".")[1]}


def test_checks_need_no_torch():
    program = """
import sys
from helixwave.cli import build_app
from helixwave.errors import InputError
from helixwave.recipe import load_recipe

build_app()
load_recipe("genomics/annotate")
try:
    load_recipe("genomics/annotate", ["model.widnow=3"])
except InputError as error:
    print(error)
print({"torch", "lightning", "matplotlib", "sklearn"} & set(sys.modules))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    refusal, loaded = result.stdout.splitlines()
    assert "Did you mean 'window'?" in refusal
    assert loaded == "set()"


@pytest.mark.parametrize(
    ("arguments", "seconds", "code"),
    [(["--help"], 1.0, 0), (["validate", "genomics/annotate", "trainer.max_epoch=1"], 2.0, 1)],
    ids=["help", "validate"],
)
def test_answers_at_once(arguments, seconds, code):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([HELIXWAVE, *arguments], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == code, result.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < seconds
