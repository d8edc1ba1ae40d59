"""The run's page: one HTML file with numbers, pictures, the recipe and the versions, and nothing outside it."""

import platform
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment
from torch import nn

from helixwave.data import Picture
from helixwave.files import atomic_write
from helixwave.pictures import as_animation, as_svg
from helixwave.recipe import Recipe, to_yaml

if TYPE_CHECKING:
    from helixwave.results import Results

_PACKAGES = ["helixwave", "torch", "lightning", "torchmetrics", "numpy", "scikit-learn"]


def write_report(
    path: Path,
    recipe: Recipe,
    results: "Results",
    data: dict[str, Any],
    pictures: list[Picture],
    model: nn.Module | None,
) -> None:
    """Write the page of a finished run to `path`."""
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        (files("helixwave") / "templates" / "report.html").read_text(encoding="utf-8")
    )
    page = template.render(
        recipe=recipe,
        results=results,
        data=data,
        pictures=[_shown(picture) for picture in pictures],
        n_parameter=None if model is None else sum(parameter.numel() for parameter in model.parameters()),
        configuration=to_yaml(recipe.config),
        versions={"Python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    )
    with atomic_write(path) as f:
        f.write(page)


def _shown(picture: Picture) -> tuple[Picture, str, str | None]:
    """A picture with its figure, and its animation if it has one, as they stand in the page."""
    return picture, as_svg(picture.figure), None if picture.frames is None else as_animation(picture.frames)
