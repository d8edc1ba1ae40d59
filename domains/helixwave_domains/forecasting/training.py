"""How a network is trained: the settings of a run and its learning rate."""

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

import torch
from helixwave.errors import InputError


@dataclass(frozen=True)
class Training:
    """Settings of a run with AdamW, which without weight decay is Adam.

    Args:
        epochs: at most so many passes.
        batch_size: windows of a step.
        lr: highest learning rate.
        weight_decay: of matrices.
        schedule: of the learning rate. `type1` of the long-horizon benchmarks: epochs 1 and 2 at `lr`, then half of it
            after each further epoch. `cosine`: from nothing to `lr` in the first `warmup` of all steps, then down to
            nothing along a cosine.
        warmup: share of all steps, see `cosine`.
        patience: stop after so many epochs without a lower validation loss; None: never.
        max_norm: longer gradients are shortened to this length; None: none are.
        min_steps: of an epoch; few windows are read again and again until there are so many steps.
        max_steps: of an epoch; None: all windows are read.
        drop_last: whether to leave out a last batch with fewer windows, in training and in validation, as the
            published benchmarks do.
        seed: of the order of windows, dropout and all else that is drawn in training.
        device: `cpu`, `cuda`, ...; None: a GPU if there is one.
        progress: whether a bar is shown, on a terminal.

    Raises:
        InputError: a number out of range.
    """

    epochs: int = 10
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["constant", "type1", "cosine"] = "cosine"
    warmup: float = 0.1
    patience: int | None = 3
    max_norm: float | None = None
    min_steps: int = 1
    max_steps: int | None = None
    drop_last: bool = False
    seed: int = 0
    device: str | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "min_steps", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"training: {name} is {value}, expected at least 1")
        for name in ("lr", "max_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"training: {name} is {value}, expected more than 0")
        if not isinstance(self.seed, Integral) or self.seed < 0:
            raise InputError(f"training: seed is {self.seed!r}, expected a whole number from 0")
        if not 0 <= self.warmup < 1:
            raise InputError(f"training: warmup is {self.warmup}, expected at least 0 and less than 1")
        if self.max_steps is not None and self.min_steps > self.max_steps:
            raise InputError(f"training: min_steps is {self.min_steps}, expected at most max_steps={self.max_steps}")
        if self.schedule not in ("constant", "type1", "cosine"):
            raise InputError(f"training: schedule is {self.schedule!r}, expected 'constant', 'type1' or 'cosine'")

    def rate(self, step: int, n_step: int) -> float:
        """The learning rate of a step, counted from 0 over all epochs, as a share of the highest.

        Args:
            step: its number.
            n_step: steps of an epoch.
        """
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "type1":
            return 0.5 ** max(step // n_step - 1, 0)
        total = self.epochs * n_step
        rising = math.ceil(self.warmup * total)
        if step < rising:
            return (step + 1) / rising
        return 0.5 + 0.5 * math.cos(math.pi * (step - rising) / (total - rising))


def pick_device(name: str | None) -> torch.device:
    """The device of that name; None: the best there is.

    Raises:
        InputError: no such device here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"training: there is no device {name!r} here. Pass 'cpu', or None for the best") from error
    return device
