"""A run's folder: its files by name."""

from pathlib import Path

from helixwave.errors import InputError
from helixwave.files import atomic_write
from helixwave.recipe import Recipe, check_recipe, to_yaml


class RunFolder:
    """The files of one run by name."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        self.state = self.path / "state.safetensors"
        self.metrics = self.path / "metrics.csv"
        self.log = self.path / "log.txt"
        self.checkpoint = self.path / "checkpoint"
        self.results = self.path / "results.json"
        self.report = self.path / "report.html"
        self.tables = self.path / "tables"

    def create(self, recipe: Recipe) -> None:
        """Write the resolved recipe. A folder that holds something else is left alone.

        Raises:
            InputError: there is something in the folder.
        """
        if self.recipe.exists():
            raise InputError(f"{self.path} holds a run already. `helixwave resume {self.path}` or choose another --run")
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise InputError(f"{self.path} is not an empty folder. Choose another --run")
        self.write_recipe(recipe)

    def write_recipe(self, recipe: Recipe) -> None:
        """Write the resolved recipe, from which the run is resumed."""
        with atomic_write(self.recipe) as f:
            f.write(f"# {recipe.name}\n{to_yaml(recipe.config)}")

    def discard_if_unused(self) -> None:
        """Take a run away that ended before its first epoch did, so that the same command can be given again."""
        if self.metrics.exists() or self.checkpoint.exists():
            return
        for file in (self.recipe, self.log, self.state):
            file.unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def read_recipe(self) -> Recipe:
        """The recipe of an existing run."""
        if not self.recipe.is_file():
            raise InputError(
                f"{self.path} is no run: it has no recipe.yaml. Expected a folder that `helixwave train` made"
            )
        import yaml

        text = self.recipe.read_text(encoding="utf-8")
        try:
            config = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"{self.recipe}: not valid YAML ({error}). Was it changed by hand?") from error
        if not isinstance(config, dict):
            raise InputError(f"{self.recipe} holds no recipe. Was it changed by hand?")
        return check_recipe(text.split("\n")[0].lstrip("# "), config)
