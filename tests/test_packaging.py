"""What is installed is the same as what is developed."""

import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from helixwave.registry import BASELINES, BLOCKS, COMMANDS, DATA, MODELS, OBJECTIVES, Registry

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("registry", [BASELINES, BLOCKS, COMMANDS, DATA, MODELS, OBJECTIVES], ids=lambda r: r.kind)
def test_every_entry_point_loads_and_says_what_it_is(registry: Registry) -> None:
    assert list(registry)
    for name in registry:
        assert callable(registry[name])
        if registry is not COMMANDS:
            assert registry.signature(name).summary.endswith("."), name


def test_core_dependencies_have_no_extra_of_a_domain() -> None:
    requires = distribution("helixwave").requires or []
    core = {line.split(">")[0] for line in requires if "extra ==" not in line}
    assert "biopython" not in core
    assert {"torch", "lightning", "hydra-core", "typer", "safetensors", "pyfaidx"} <= core


@pytest.mark.slow
def test_wheel_holds_every_module_recipe_and_card(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*command, str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    places = {
        "kernels": "",
        "toolkit": "",
        "domains": "",
        "recipes": "helixwave_recipes/",
        "data_cards": "helixwave_data_cards/",
    }
    for root, prefix in places.items():
        for path in (ROOT / root).rglob("*.*"):
            relative = path.relative_to(ROOT / root).as_posix()
            if path.is_file() and "egg-info" not in relative and "__pycache__" not in relative:
                assert f"{prefix}{relative}" in held, relative
