"""What is written at the end of each epoch: metrics, the best weights, and the state to resume from."""

import csv
import time
from collections.abc import Callable
from typing import Any

import lightning

from helixwave.checkpoint import save
from helixwave.files import atomic_write
from helixwave.recipe import Trainer
from helixwave.run_folder import RunFolder


class Keeper(lightning.Callback):
    """At each epoch's end: one row of metrics, the best weights so far, and the state to resume from.

    Args:
        settings: which epoch's weights to keep, and for how long to wait for a better score.
        report: called with each row of metrics.
        begins_elsewhere: the weights before the first step are not those that the seed gives.
    """

    def __init__(
        self,
        folder: RunFolder,
        monitor: str,
        mode: str,
        settings: Trainer,
        report: Callable[[dict[str, float]], None],
        *,
        begins_elsewhere: bool = False,
    ):
        self.folder, self.monitor, self.mode = folder, f"val_{monitor}", mode
        self.settings, self.report, self.begins_elsewhere = settings, report, begins_elsewhere
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0

    @property
    def kept(self) -> dict[str, float]:
        """The row of the epoch whose weights are kept: the last, or the first of the best."""
        return self.history[-1] if self.settings.keep == "last" else self._best

    @property
    def _best(self) -> dict[str, float]:
        better = max if self.mode == "max" else min
        return better(self.history, key=lambda row: row[self.monitor])

    def on_train_start(self, trainer: lightning.Trainer, task: Any) -> None:
        # a run that patience had ended, killed before it was judged, has nothing left to train
        trainer.should_stop = self.exhausted
        if self.begins_elsewhere and not self.folder.state.is_file():
            # the first weights are another checkpoint's, which need not be there when this run is resumed
            trainer.save_checkpoint(self.folder.state)

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
                **({} if task.mixture is None else task.mixture.row()),
                "cpu_seconds": round(self.seconds, 1),
            }
        )
        if self.kept is self.history[-1]:
            save(task.saved, self.folder.checkpoint)
        self._write_metrics()
        trainer.save_checkpoint(self.folder.state)
        self.report(self.history[-1])
        trainer.should_stop = trainer.should_stop or self.exhausted

    @property
    def exhausted(self) -> bool:
        """Whether the score has not risen for longer than the patience."""
        patience = self.settings.patience
        return (
            patience is not None and bool(self.history) and self.history[-1]["epoch"] - self._best["epoch"] >= patience
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
