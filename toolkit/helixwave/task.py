"""Training one model on one objective, as a Lightning module."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from helixwave.data import Batch
from helixwave.objectives import Objective
from helixwave.optimisation import add_gradient_noise, choose_trained, layer_scales, parameter_groups
from helixwave.recipe import Optimizer
from helixwave.training.mixture import Mixture
from helixwave.training.settings import Training


class Task(lightning.LightningModule):
    """Model, objective and optimiser.

    Everything random in a step follows from `seed` and the step's number, so a run that is resumed goes on exactly as
    if it had not stopped.

    Args:
        model: `model(inputs, lengths) -> outputs`.
        objective: loss and metrics.
        train_batches: the training batches of an epoch.
        n_step: optimiser steps of the whole run, for the schedule.
        training: techniques that are switched on.
        mixture: further objectives that are learnt beside.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: Optimizer,
        train_batches: Callable[[int], DataLoader[Batch]],
        *,
        n_step: int,
        seed: int,
        training: Training | None = None,
        mixture: Mixture | None = None,
    ):
        super().__init__()
        choose_trained(model, optimizer)
        self.model, self.objective, self.seed = model, objective, seed
        self.settings, self.train_batches, self.n_step = optimizer, train_batches, n_step
        self.training_settings, self.mixture = training or Training(), mixture
        self.average = (
            AveragedModel(model, multi_avg_fn=partial(_average, optimizer.ema), use_buffers=True)
            if optimizer.ema
            else None
        )
        self.val_metrics = objective.metrics()
        self.train_loss = Mean()
        self.val_losses = [Mean() for _ in range(1 if mixture is None else len(mixture.shares))]

    @property
    def val_loss(self) -> "Mean":
        """Of the recipe's own objective."""
        return self.val_losses[0]

    @property
    def evaluated(self) -> nn.Module:
        """The weights that are judged: the moving average if there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def saved(self) -> nn.Module:
        """The judged weights as an ordinary model: what LoRA has learnt is merged into the layers that it adapts."""
        if not self.settings.lora_rank:
            return self.evaluated
        from helixwave.lora import merged

        return merged(self.evaluated)

    def train_dataloader(self) -> DataLoader[Batch]:
        return self.train_batches(self.trainer.current_epoch)

    def on_train_epoch_start(self) -> None:
        self.train_loss.reset()

    def on_train_batch_start(self, *_: Any) -> None:
        # at each step, because loaders and callbacks draw from the same generator at moments of their own
        torch.manual_seed(int(np.random.SeedSequence((self.seed, self.global_step)).generate_state(1)[0]))

    def training_step(self, batch: Batch, _: int) -> Tensor:
        number = batch["objective"]
        objective, model = self._learning(number, self.model)
        loss = objective.loss(_outputs(objective, model, batch), batch["target"])
        if number == 0:
            self.train_loss.add(loss.detach(), len(batch["lengths"]))
        return loss

    def _learning(self, number: int, own: nn.Module) -> tuple[Objective, nn.Module]:
        """An objective by its number, and what learns it."""
        if number == 0 or self.mixture is None:
            return self.objective, own
        return self.mixture.objectives[number - 1], self.mixture.models[number - 1]

    def on_train_batch_end(self, *_: Any) -> None:
        if self.average is not None:
            self.average.update_parameters(self.model)

    def on_validation_epoch_start(self) -> None:
        self.val_metrics.reset()
        for loss in self.val_losses:
            loss.reset()

    def validation_step(self, batch: Batch, _: int, dataloader_idx: int = 0) -> None:
        number = batch["objective"]
        objective, model = self._learning(number, self.evaluated)
        outputs = _outputs(objective, model, batch)
        if number == 0:
            self.val_metrics.update(*objective.scored(outputs, batch["target"]))
        self.val_losses[number].add(objective.loss(outputs, batch["target"]), len(batch["lengths"]))

    def on_validation_epoch_end(self) -> None:
        if self.mixture is not None:
            self.mixture.follow([loss.compute() for loss in self.val_losses])

    def configure_gradient_clipping(self, *arguments: Any, **settings: Any) -> None:
        super().configure_gradient_clipping(*arguments, **settings)
        if self.training_settings.gradient_noise:
            add_gradient_noise(self.parameters(), self.training_settings.gradient_noise, self.global_step)

    def configure_optimizers(self) -> Any:
        models = self.model if self.mixture is None else nn.ModuleList([self.model, self.mixture])
        groups = parameter_groups(
            models,
            lr=self.settings.lr,
            weight_decay=self.settings.weight_decay,
            scale=layer_scales(self.model, self.training_settings.layer_decay),
        )
        optimizer = torch.optim.AdamW(groups, lr=self.settings.lr, betas=(0.9, self.settings.beta2))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        """The learning rate as a part of its peak, for every group of parameters."""
        warmup = max(1, round(self.settings.warmup * self.n_step))
        if step < warmup:
            return (step + 1) / warmup
        if self.settings.schedule == "constant":
            return 1.0
        done = min(1.0, (step - warmup) / max(1, self.n_step - warmup))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


def _outputs(objective: Objective, model: nn.Module, batch: Batch) -> Tensor:
    return objective.outputs(model, batch["inputs"], batch["lengths"])


def _average(decay: float, averages: Any, weights: Any, n_averaged: Tensor) -> None:
    """Move the averages towards the weights; quicker at first, so that a short run is not held back by its start."""
    decay = min(decay, (1 + int(n_averaged)) / (10 + int(n_averaged)))
    for average, weight in zip(averages, weights, strict=True):
        average.lerp_(weight.to(average), 1 - decay) if average.is_floating_point() else average.copy_(weight)


class Mean:
    """A weighted mean that is summed on the device."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.total: Tensor | float = 0.0
        self.weight = 0

    def add(self, value: Tensor, weight: int) -> None:
        self.total, self.weight = self.total + value * weight, self.weight + weight

    def compute(self) -> float:
        return float(self.total) / max(self.weight, 1)
