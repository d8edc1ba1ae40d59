"""What is written at the end of each epoch: metrics, the best weights, and the state to resume from."""

import csv
import time
from collections.abc import Callable
from typing import Any

import lightning

from helixwave.checkpoint import save
from helixwave.files import atomic_write
from helixwave.run_folder import RunFolder


class Keeper(lightning.Callback):
    """At each epoch's end: one row of metrics, the best weights so far, and the state to resume from.

    Args:
        patience: stop after so many epochs without a better score.
        report: called with each row of metrics.
    """

    def __init__(
        self,
        folder: RunFolder,
        monitor: str,
        mode: str,
        patience: int | None,
        report: Callable[[dict[str, float]], None],
    ):
        self.folder, self.monitor, self.mode = folder, f"val_{monitor}", mode
        self.patience, self.report = patience, report
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0

    @property
    def best(self) -> dict[str, float] | None:
        """The row of the epoch whose weights are kept: the first of the best."""
        better = max if self.mode == "max" else min
        return better(self.history, key=lambda row: row[self.monitor], default=None)

    def on_train_epoch_start(self, trainer: lightning.Trainer, task: Any) -> None:
        self.started = time.process_time()

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: Any) -> None:
        self.seconds += time.process_time() - self.started
        self.history.append(
            {
                "epoch": trainer.current_epoch + 1,
                "step": trainer.global_step,
                "train_loss": task.train_loss.compute(),
                "val_loss": task.val_loss.compute(),
                **{f"val_{name}": float(value) for name, value in task.val_metrics.compute().items()},
                "cpu_seconds": round(self.seconds, 1),
            }
        )
        if self.best is self.history[-1]:
            save(task.evaluated, self.folder.checkpoint)
        self._write_metrics()
        trainer.save_checkpoint(self.folder.state)
        self.report(self.history[-1])
        trainer.should_stop = trainer.should_stop or self.exhausted

    @property
    def exhausted(self) -> bool:
        """Whether the score has not risen for longer than the patience."""
        return (
            self.patience is not None
            and self.best is not None
            and self.history[-1]["epoch"] - self.best["epoch"] >= self.patience
        )

    def _write_metrics(self) -> None:
        with atomic_write(self.folder.metrics) as f:
            writer = csv.DictWriter(f, self.history[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.history)

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history, self.seconds = state["history"], state["seconds"]
