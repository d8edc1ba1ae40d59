"""One run: fit, keep the best weights, judge them beside the baseline, write the report."""

import json
import logging
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich.console import Console
from torch import Tensor, nn

from helixwave import __version__
from helixwave.checkpoint import build_model, load
from helixwave.data import Picture, Source, make_loader
from helixwave.errors import InputError
from helixwave.files import atomic_write
from helixwave.keeper import Keeper
from helixwave.pictures import learning_curves
from helixwave.recipe import Recipe
from helixwave.registry import BASELINES, DATA, OBJECTIVES
from helixwave.report import write_report
from helixwave.run_folder import RunFolder
from helixwave.task import Task
from helixwave.training_state import SafetensorsIO

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Results:
    """Scores of the test split by metric, and what the baseline was."""

    monitor: str
    model: dict[str, float]
    baseline: dict[str, float] | None
    baseline_description: str | None

    @property
    def verdict(self) -> str:
        """One sentence: whether the model was worth it."""
        score = f"test {self.monitor} {self.model[self.monitor]:.4f}"
        if self.baseline is None:
            return f"{score}; no baseline was asked for."
        difference = self.model[self.monitor] - self.baseline[self.monitor]
        verdict = "The model beats its baseline" if difference > 0 else "The model does not beat its baseline"
        return f"{verdict}: {score}, baseline {self.baseline[self.monitor]:.4f} ({difference:+.4f})."


def run(recipe: Recipe, folder: RunFolder) -> Results:
    """Train `recipe` in `folder`, or go on from the state that lies there, and judge the result on the test split.

    Raises:
        InputError: the data are not there or not as the recipe says, or the disk is full.
    """
    _log_to(folder.log)
    source: Source = DATA.build(recipe.config["data"])
    objective = OBJECTIVES.build(recipe.config["objective"], classes=source.classes)
    keeper = fit(recipe, folder, source, objective)
    model = load(folder.checkpoint)
    outputs, target = predict_split(model, objective, source.test, recipe)
    scores = objective.score(outputs, target)
    baseline, description = _score_baseline(recipe, source, objective)
    results = Results(objective.monitor, scores, baseline, description)
    pictures = [
        *objective.pictures(outputs, target),
        *source.export(model, folder.path),
        learning_curves(keeper.history, objective.monitor),
    ]
    _write_results(recipe, folder, source, keeper, results, pictures, model)
    return results


def fit(recipe: Recipe, folder: RunFolder, source: Source, objective: Any) -> Keeper:
    """Train until the last epoch; afterwards the best weights lie in the folder's checkpoint."""
    torch.manual_seed(recipe.seed)
    model = build_model(
        {
            "model": recipe.config["model"],
            "backbone": recipe.config["backbone"],
            "classes": source.classes,
            "recipe": recipe.name,
        }
    )
    batches = partial(_train_batches, recipe, source)
    settings = recipe.trainer
    task = Task(
        model, objective, recipe.optimizer, batches, n_step=len(batches(0)) * settings.max_epochs, seed=recipe.seed
    )
    n_parameter = sum(parameter.numel() for parameter in model.parameters())
    _say(f"{recipe.name}: {len(source.train)} training examples, {n_parameter:,} parameters")
    keeper = Keeper(
        folder, objective.monitor, objective.mode, settings.patience, partial(_say_row, settings.max_epochs)
    )
    trainer = L.Trainer(
        max_epochs=settings.max_epochs,
        accelerator=settings.accelerator,
        devices=settings.devices,
        precision=settings.precision,
        gradient_clip_val=settings.gradient_clip,
        callbacks=[keeper, *_progress()],
        plugins=[SafetensorsIO()],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=console.is_terminal,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        default_root_dir=folder.path,
    )
    validation = make_loader(source.validation, recipe.batches, seed=recipe.seed)
    state = folder.state if folder.state.is_file() else None
    with _quiet_lightning():
        trainer.fit(task, val_dataloaders=validation, ckpt_path=state)
    if not keeper.history:
        raise InputError(f"trainer.max_epochs is {settings.max_epochs}: nothing was trained. Expected at least 1")
    return keeper


def predict_split(model: nn.Module, objective: Any, split: Any, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Log-probabilities `[M, n_class]` and targets `[M]` of every scored position of a split."""
    device = next(model.parameters()).device
    pieces = []
    with torch.inference_mode():
        for batch in make_loader(split, recipe.batches, seed=recipe.seed):
            outputs = model(batch["inputs"].to(device), batch["lengths"].to(device))
            pieces.append(objective.scored(outputs.cpu(), batch["target"]))
    return torch.cat([outputs for outputs, _ in pieces]), torch.cat([target for _, target in pieces])


def _train_batches(recipe: Recipe, source: Source, epoch: int) -> Any:
    return make_loader(source.train, recipe.batches, seed=recipe.seed, epoch=epoch)


def _score_baseline(recipe: Recipe, source: Source, objective: Any) -> tuple[dict[str, float] | None, str | None]:
    if recipe.config["baseline"] is None:
        return None, None
    baseline = BASELINES.build(recipe.config["baseline"])
    _say(f"baseline: {recipe.config['baseline']['name']} on the same split")
    outputs, target = baseline.predict(source)
    return objective.score(outputs, target), baseline.description


def _write_results(
    recipe: Recipe,
    folder: RunFolder,
    source: Source,
    keeper: Keeper,
    results: Results,
    pictures: list[Picture],
    model: nn.Module,
) -> None:
    facts = {
        "test": results.model,
        "baseline": results.baseline,
        "baseline_description": results.baseline_description,
        "monitor": results.monitor,
        "best_epoch": keeper.best,
        "cpu_seconds": keeper.seconds,
        "data": source.describe(),
    }
    with atomic_write(folder.results) as f:
        json.dump(facts, f, indent=2)
    with atomic_write(folder.checkpoint / "card.md") as f:
        f.write(_card(recipe, results))
    write_report(folder.report, recipe, results, source.describe(), pictures, model)


def _card(recipe: Recipe, results: Results) -> str:
    scores = "\n".join(f"| {name} | {value:.4f} |" for name, value in results.model.items())
    return (
        f"# {recipe.name}\n\nTrained by helixwave {__version__} with seed {recipe.seed}. {results.verdict}\n\n"
        f"| test metric | value |\n|---|---|\n{scores}\n\n"
        '```python\nimport helixwave\n\nmodel = helixwave.load("this folder")\n```\n'
    )


def _say(line: str) -> None:
    console.print(line)
    logging.getLogger("helixwave").info(line)


def _say_row(max_epochs: int, row: dict[str, float]) -> None:
    scores = "  ".join(f"{name} {value:.4f}" for name, value in row.items() if name.startswith(("train_", "val_")))
    _say(f"epoch {int(row['epoch']) + 1}/{max_epochs}  {scores}  {row['cpu_seconds']:.0f} s cpu")


def _log_to(path: Path) -> None:
    logger = logging.getLogger("helixwave")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)


def _progress() -> list[L.Callback]:
    if not console.is_terminal:
        return []
    from lightning.pytorch.callbacks import RichProgressBar

    return [RichProgressBar(leave=False)]


class _quiet_lightning(warnings.catch_warnings):
    """Advice about loader workers and logging that a user of a recipe cannot act on."""

    def __enter__(self) -> None:
        super().__enter__()
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
        for message in (".*does not have many workers.*", ".*number of training batches.*", ".*isinstance.treespec.*"):
            warnings.filterwarnings("ignore", message)
