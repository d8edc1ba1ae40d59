"""One run: fit, keep the best weights, judge them beside the baseline, write the report."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from helixwave.checkpoint import load, save
from helixwave.console import console
from helixwave.data import Source, Split, make_loader
from helixwave.data.views import parts_of_test
from helixwave.keeper import Keeper
from helixwave.objectives import Objective
from helixwave.outputs import first_of, grouped_outputs
from helixwave.parts import build_mixture, build_network, build_objective, examples_of
from helixwave.pictures import learning_curves
from helixwave.progress import EpochBar
from helixwave.recipe import Batches, Recipe
from helixwave.registry import BASELINES, DATA
from helixwave.results import Results, write_results
from helixwave.run_folder import RunFolder
from helixwave.start import take_weights
from helixwave.task import Task
from helixwave.training.batch_size import find_batch_size
from helixwave.training.self_pretraining import compared, run_self_pretrained
from helixwave.training.steps import TrainingSteps
from helixwave.training_state import SafetensorsIO

log = logging.getLogger("helixwave")


def run(recipe: Recipe, folder: RunFolder) -> Results:
    """Train `recipe` in `folder`, or go on from the state that lies there, and judge the result on the test split.

    Raises:
        InputError: the data are not there or not as the recipe says, or the disk is full.
    """
    with _logged(folder.log):
        source: Source = DATA.build(recipe.config["data"])
        objective = build_objective(recipe.config["objective"], recipe, source)
        # first, because it is quick and what is wrong with the data shows here
        baseline, description = _score_baseline(recipe, source, objective)
        if recipe.estimator is not None:
            return _estimate(recipe, folder, source, objective, baseline, description)
        examples = examples_of(recipe, source, objective)
        if recipe.training.find_batch_size:
            recipe = _with_batch_size(recipe, folder, examples, objective)
        trained = recipe
        if recipe.training.self_pretrain is not None:
            trained = run_self_pretrained(recipe, folder, source, build_network(recipe, objective, examples), run)
        keeper = fit(trained, folder, source, objective)
        model, predicted = _predict_test(recipe, folder, examples, objective)
        outputs, target = (torch.cat(pieces) for pieces in zip(*predicted.values(), strict=True))
        results = Results(
            monitor=objective.monitor,
            mode=objective.mode,
            model=objective.score(outputs, target),
            parts={name: objective.score(*pair) for name, pair in predicted.items()} if len(predicted) > 1 else {},
            baseline=baseline,
            baseline_description=description,
            kept_epoch=keeper.kept,
            cpu_seconds=keeper.seconds,
            compared={} if trained is recipe else compared(folder),
        )
        with console.status("writing predictions and pictures"):
            pictures = [
                *objective.pictures(outputs, target),
                *examples.export(model, folder.path),
                learning_curves(keeper.history, objective.monitor),
            ]
        write_results(folder, recipe, results, source.describe(), pictures, model)
        _say(results.verdict)
    return results


def fit(recipe: Recipe, folder: RunFolder, source: Source, objective: Objective) -> Keeper:
    """Train until the last epoch; afterwards the best weights lie in the folder's checkpoint."""
    torch.manual_seed(recipe.seed)
    examples = examples_of(recipe, source, objective)
    model = build_network(recipe, objective, examples)
    # a run that is resumed has its weights in its own state
    if recipe.start is not None and not folder.state.is_file():
        _say(take_weights(model, recipe.start))
    mixture = build_mixture(recipe, source, model)
    steps = TrainingSteps(recipe, examples, mixture)
    task = Task(
        model,
        objective,
        recipe.optimizer,
        steps.loader,
        n_step=steps.count,
        seed=recipe.seed,
        training=recipe.training,
        mixture=mixture,
    )
    n_parameter = sum(parameter.numel() for parameter in model.parameters())
    _say(f"{recipe.name}: {len(source.train)} training examples, {n_parameter:,} parameters, run in {folder.path}")
    show = partial(_say_row, recipe.trainer.max_epochs)
    keeper = Keeper(
        folder, objective.monitor, objective.mode, recipe.trainer, show, begins_elsewhere=recipe.start is not None
    )
    validation = [
        make_loader(each.validation, recipe.batches, seed=recipe.seed, objective=number)
        for number, each in enumerate([examples, *(mixture.sources if mixture else [])])
    ]
    with _quiet_lightning():
        trainer = _trainer(recipe, keeper)
        trainer.fit(task, val_dataloaders=validation, ckpt_path=folder.state if folder.state.is_file() else None)
    return keeper


def _predict_test(
    recipe: Recipe, folder: RunFolder, examples: Source, objective: Objective
) -> tuple[Any, dict[str, tuple[Tensor, Tensor]]]:
    """The model that was kept, and what it makes of each part of the test split."""
    model = load(folder.checkpoint).to(_device(recipe))
    if hasattr(examples, "preprocessing"):
        _calibrate(model, objective, examples.validation, recipe, folder)
    parts = parts_of_test(examples) or {"test": examples.test}
    return model, {name: predict_split(model, objective, part, recipe) for name, part in parts.items()}


def _with_batch_size(recipe: Recipe, folder: RunFolder, examples: Source, objective: Objective) -> Recipe:
    """The recipe with batches as large as they may be, which from now on is that of the run."""
    with console.status("looking for the largest batches"):
        model = build_network(recipe, objective, examples)
        batches = find_batch_size(model, objective, examples, recipe.batches, device=_device(recipe))
    training = {**recipe.config["training"], "find_batch_size": False}
    found = Recipe(recipe.name, {**recipe.config, "batches": asdict(batches), "training": training})
    folder.write_recipe(found)
    _say(f"batches: {batches.size if batches.tokens is None else f'{batches.tokens} positions'}")
    return found


def predict_split(model: nn.Module, objective: Objective, split: Split, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """What the objective scores of a split: predictions `[M, n_class]` and targets `[M, ...]`.

    Of a split with `groups`, several examples are one: their probabilities are put together first.
    """
    device = next(model.parameters()).device
    temperature = getattr(model, "config", {}).get("calibration", {}).get("temperature", 1.0)
    pieces = []
    with torch.inference_mode():
        for batch in make_loader(split, _in_order(recipe.batches, split), seed=recipe.seed):
            outputs = objective.outputs(model, batch["inputs"].to(device), batch["lengths"].to(device)) / temperature
            # all examples of a group are needed at once
            score = (lambda *pair: pair) if hasattr(split, "groups") else objective.scored
            pieces.append(score(outputs.cpu(), batch["target"]))
    outputs, target = (torch.cat(part) for part in zip(*pieces, strict=True))
    if hasattr(split, "groups"):
        whole: Any = split
        groups = torch.as_tensor(whole.groups)
        outputs = grouped_outputs(outputs, groups, objective.predicts, whole.aggregate)
        return objective.scored(outputs, target[first_of(groups)])
    return outputs, target


def _in_order(batches: Batches, split: Split) -> Batches:
    """Batches that keep the order of the examples, where this has a meaning."""
    return replace(batches, tokens=None) if hasattr(split, "groups") else batches


def _calibrate(model: Any, objective: Objective, split: Split, recipe: Recipe, folder: RunFolder) -> None:
    """Keep with a checkpoint that predicts from files how sure it may be, as the validation split shows it."""
    model.config = {key: value for key, value in model.config.items() if key != "calibration"}
    model.config["calibration"] = objective.calibrate(*predict_split(model, objective, split, recipe))
    save(model, folder.checkpoint)


def _estimate(
    recipe: Recipe,
    folder: RunFolder,
    source: Source,
    objective: Objective,
    baseline: dict[str, float] | None,
    baseline_description: str | None,
) -> Results:
    """Fit what learns at once, without steps and without a checkpoint, and judge it as a network is."""
    estimator = BASELINES.build(recipe.config["estimator"])
    _say(f"{recipe.name}: {recipe.config['estimator']['name']}, run in {folder.path}")
    began = time.process_time()
    with console.status("fitting"):
        outputs, target = estimator.predict(source)
    results = Results(
        monitor=objective.monitor,
        mode=objective.mode,
        model=objective.score(outputs, target),
        parts=_group_scores(source, objective, outputs, target),
        baseline=baseline,
        baseline_description=baseline_description,
        kept_epoch={},
        cpu_seconds=time.process_time() - began,
        description=estimator.description,
    )
    pictures = [*objective.pictures(outputs, target), *(estimator.pictures() if hasattr(estimator, "pictures") else [])]
    write_results(folder, recipe, results, source.describe(), pictures, None)
    _say(results.verdict)
    return results


def _group_scores(source: Source, objective: Objective, outputs: Tensor, target: Tensor) -> dict[str, dict[str, float]]:
    """Scores of the groups of test rows that the source names and in which every class occurs."""
    scores = {}
    for name, rows in getattr(source, "test_groups", {}).items():
        kept = torch.from_numpy(rows)
        if objective.defined(target[kept]):
            scores[name] = objective.score(outputs[kept], target[kept])
    return scores if len(scores) > 1 else {}


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


def _score_baseline(recipe: Recipe, source: Source, objective: Objective) -> tuple[dict[str, float] | None, str | None]:
    if recipe.config["baseline"] is None:
        return None, None
    baseline = BASELINES.build(recipe.config["baseline"])
    _say(f"baseline on the same split: {recipe.config['baseline']['name']}")
    with console.status("fitting the baseline"):
        outputs, target = baseline.predict(objective.prepare(source))
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
