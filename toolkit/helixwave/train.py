"""One run: fit, keep the best weights, judge them beside the baseline, write the report."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from helixwave.checkpoint import build_model, load
from helixwave.console import console
from helixwave.data import Source, Split, make_loader
from helixwave.keeper import Keeper
from helixwave.pictures import learning_curves
from helixwave.progress import EpochBar
from helixwave.recipe import Recipe
from helixwave.registry import BASELINES, DATA, OBJECTIVES
from helixwave.results import Results, write_results
from helixwave.run_folder import RunFolder
from helixwave.task import Task
from helixwave.training_state import SafetensorsIO

log = logging.getLogger("helixwave")


def run(recipe: Recipe, folder: RunFolder) -> Results:
    """Train `recipe` in `folder`, or go on from the state that lies there, and judge the result on the test split.

    Raises:
        InputError: the data are not there or not as the recipe says, or the disk is full.
    """
    with _logged(folder.log):
        source: Source = DATA.build(recipe.config["data"])
        objective = OBJECTIVES.build(recipe.config["objective"], classes=source.classes)
        # first, because it is quick and what is wrong with the data shows here
        baseline, description = _score_baseline(recipe, source, objective)
        keeper = fit(recipe, folder, source, objective)
        model = load(folder.checkpoint).to(_device(recipe))
        outputs, target = predict_split(model, objective, source.test, recipe)
        results = Results(
            monitor=objective.monitor,
            mode=objective.mode,
            model=objective.score(outputs, target),
            baseline=baseline,
            baseline_description=description,
            kept_epoch=keeper.kept,
            cpu_seconds=keeper.seconds,
        )
        with console.status("writing predictions and pictures"):
            pictures = [
                *objective.pictures(outputs, target),
                *source.export(model, folder.path),
                learning_curves(keeper.history, objective.monitor),
            ]
        write_results(folder, recipe, results, source.describe(), pictures, model)
        _say(results.verdict)
    return results


def fit(recipe: Recipe, folder: RunFolder, source: Source, objective: Any) -> Keeper:
    """Train until the last epoch; afterwards the best weights lie in the folder's checkpoint."""
    torch.manual_seed(recipe.seed)
    parts = {key: recipe.config[key] for key in ("model", "backbone")}
    model = build_model({**parts, "classes": source.classes, "recipe": recipe.name})
    batches = partial(_train_batches, recipe, source)
    n_step = len(batches(0)) * recipe.trainer.max_epochs
    task = Task(model, objective, recipe.optimizer, batches, n_step=n_step, seed=recipe.seed)
    n_parameter = sum(parameter.numel() for parameter in model.parameters())
    _say(f"{recipe.name}: {len(source.train)} training examples, {n_parameter:,} parameters, run in {folder.path}")
    show = partial(_say_row, recipe.trainer.max_epochs)
    keeper = Keeper(folder, objective.monitor, objective.mode, recipe.trainer, show)
    validation = make_loader(source.validation, recipe.batches, seed=recipe.seed)
    with _quiet_lightning():
        trainer = _trainer(recipe, keeper)
        trainer.fit(task, val_dataloaders=validation, ckpt_path=folder.state if folder.state.is_file() else None)
    return keeper


def predict_split(model: nn.Module, objective: Any, split: Split, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Log-probabilities `[M, n_class]` and targets `[M]` of every scored position of a split."""
    device = next(model.parameters()).device
    pieces = []
    with torch.inference_mode():
        for batch in make_loader(split, recipe.batches, seed=recipe.seed):
            outputs = model(batch["inputs"].to(device), batch["lengths"].to(device))
            pieces.append(objective.scored(outputs.cpu(), batch["target"]))
    return torch.cat([outputs for outputs, _ in pieces]), torch.cat([target for _, target in pieces])


def _trainer(recipe: Recipe, keeper: Keeper) -> lightning.Trainer:
    settings = recipe.trainer
    return lightning.Trainer(
        max_epochs=settings.max_epochs,
        accelerator=settings.accelerator,
        devices=settings.devices,
        precision=settings.precision,
        gradient_clip_val=settings.gradient_clip,
        callbacks=[keeper, EpochBar()],
        plugins=[SafetensorsIO()],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        # each epoch has its own loader, a function of the seed and the epoch's number
        reload_dataloaders_every_n_epochs=1,
        default_root_dir=keeper.folder.path,
    )


def _device(recipe: Recipe) -> str:
    return "cuda" if torch.cuda.is_available() and recipe.trainer.accelerator != "cpu" else "cpu"


def _train_batches(recipe: Recipe, source: Source, epoch: int) -> Any:
    return make_loader(source.train, recipe.batches, seed=recipe.seed, epoch=epoch)


def _score_baseline(recipe: Recipe, source: Source, objective: Any) -> tuple[dict[str, float] | None, str | None]:
    if recipe.config["baseline"] is None:
        return None, None
    baseline = BASELINES.build(recipe.config["baseline"])
    _say(f"baseline on the same split: {recipe.config['baseline']['name']}")
    with console.status("fitting the baseline"):
        outputs, target = baseline.predict(source)
    return objective.score(outputs, target), baseline.description


def _say(line: str) -> None:
    console.print(line)
    log.info(line)


def _say_row(max_epochs: int, row: dict[str, float]) -> None:
    scores = "  ".join(f"{name} {value:.4f}" for name, value in row.items() if name.startswith(("train_", "val_")))
    _say(f"epoch {row['epoch']}/{max_epochs}  {scores}  {row['cpu_seconds']:.0f} s cpu")


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Append what is said to the run's log."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without advice on loader workers, loggers and devices that a user of a recipe cannot act on."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for message in (".*does not have many workers.*", ".*number of training batches.*", ".*treespec.*"):
            warnings.filterwarnings("ignore", message)
        yield
