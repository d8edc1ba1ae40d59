"""What a finished run says: scores beside the baseline's, as JSON, as a card and as a page."""

import json
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from helixwave import __version__
from helixwave.data import Picture
from helixwave.files import atomic_write, write_table
from helixwave.recipe import Recipe
from helixwave.report import write_report
from helixwave.run_folder import RunFolder


@dataclass(frozen=True)
class Results:
    """Scores on the test split by metric, and what the baseline was.

    Args:
        monitor: the metric that the run is judged by.
        mode: whether the best score is the `max` or the `min`.
        model: the model's scores.
        baseline: the baseline's scores, if there was one.
        baseline_description: how it was made and tuned.
        kept_epoch: the row of metrics of the epoch whose weights were kept.
        cpu_seconds: time of all training epochs.
        parts: the model's scores on parts of the test split, such as chromosomes.
        description: how an estimator was fitted; None for a network.
        compared: scores of other trainings of the same model, by what they are.
    """

    monitor: str
    mode: str
    model: dict[str, float]
    baseline: dict[str, float] | None
    baseline_description: str | None
    kept_epoch: dict[str, float]
    cpu_seconds: float
    parts: dict[str, dict[str, float]] = field(default_factory=dict)
    description: str | None = None
    compared: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def better(self) -> bool:
        """Whether the model beats its baseline; true if there is none."""
        if self.baseline is None:
            return True
        gain = self.model[self.monitor] - self.baseline[self.monitor]
        return gain > 0 if self.mode == "max" else gain < 0

    @property
    def verdict(self) -> str:
        """Whether the model was worth it, and what other trainings of it reach."""
        score = self.model[self.monitor]
        others = (
            f" {name[0].upper()}{name[1:]}: {scores[self.monitor]:.4f} ({score - scores[self.monitor]:+.4f})."
            for name, scores in self.compared.items()
        )
        return "".join([self._beside_baseline, *others])

    @property
    def _beside_baseline(self) -> str:
        score = self.model[self.monitor]
        if self.baseline is None:
            return f"Test {self.monitor} {score:.4f}; no baseline was asked for."
        other = self.baseline[self.monitor]
        verb = "beats" if self.better else "does not beat"
        scores = f"test {self.monitor} {score:.4f} against {other:.4f} ({score - other:+.4f})"
        return f"The model {verb} its baseline: {scores}."


def write_results(
    folder: RunFolder,
    recipe: Recipe,
    results: Results,
    data: dict[str, Any],
    pictures: list[Picture],
    model: nn.Module | None,
) -> None:
    """Write `results.json`, tables, a checkpoint's card and, last, the report, which marks the run as complete."""
    facts = {
        "test": results.model,
        "test_parts": results.parts,
        "description": results.description,
        "baseline": results.baseline,
        "compared": results.compared,
        "baseline_description": results.baseline_description,
        "monitor": results.monitor,
        "kept_epoch": results.kept_epoch,
        "cpu_seconds": results.cpu_seconds,
        "data": data,
    }
    with atomic_write(folder.results) as f:
        json.dump(facts, f, indent=2)
        f.write("\n")
    if model is not None:
        with atomic_write(folder.checkpoint / "card.md") as f:
            f.write(_card(recipe, results))
    for picture in pictures:
        if picture.table is not None:
            write_table(folder.tables / picture.table_name, picture.table)
    write_report(folder.report, recipe, results, data, pictures, model)


def _card(recipe: Recipe, results: Results) -> str:
    scores = "\n".join(f"| {name} | {value:.4f} |" for name, value in results.model.items())
    return (
        f"# {recipe.name}\n\nTrained by helixwave {__version__} with seed {recipe.seed}. {results.verdict}\n\n"
        f"| test metric | value |\n|---|---|\n{scores}\n\n"
        '```python\nimport helixwave\n\nmodel = helixwave.load("this folder")\n```\n'
    )
