"""What a person sees while a run is under way."""

from typing import Any

import lightning
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from helixwave.console import console


class EpochBar(lightning.Callback):
    """A bar of the batches of the current epoch; it appears on a terminal only and leaves nothing behind."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)

    def on_train_start(self, trainer: lightning.Trainer, task: Any) -> None:
        self.bar = self.progress.add_task("")
        self.progress.start()

    def on_train_epoch_start(self, trainer: lightning.Trainer, task: Any) -> None:
        label = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.progress.reset(self.bar, description=label, total=trainer.num_training_batches)

    def on_train_batch_end(self, *_: Any) -> None:
        self.progress.advance(self.bar)

    def on_train_end(self, *_: Any) -> None:
        self.progress.stop()

    def on_exception(self, *_: Any) -> None:
        self.progress.stop()
