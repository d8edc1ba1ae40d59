"""One loop that trains any network on windows, cheap enough for the smallest series.

A forecaster maps `[B, L, C]` to `[B, H, C]`, or to `[B, H, C, P]` for a distribution. Where there are exogenous
variables it is called with them, `[B, L + H, K]`, as a second argument.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from helixwave.errors import InputError
from helixwave.optimisation import parameter_groups
from numpy.typing import NDArray
from torch import Tensor, nn

from helixwave_domains.forecasting.forecast_losses import Loss, squared_error
from helixwave_domains.forecasting.training import Training, pick_device
from helixwave_domains.forecasting.windows import Batch, Numbers

Objective = Callable[[nn.Module, Any], Tensor]
"""What a network is trained for: a number from the network and a batch; lower is better."""


class Examples(Protocol):
    """What a network is trained on: windows, or anything else that comes in batches."""

    @property
    def shortage(self) -> str:
        """Why there are none, where there are none."""

    def __len__(self) -> int: ...

    def batch(self, numbers: Numbers) -> Any:
        """A tuple of tensors, the first of as many rows as there are numbers; it can be moved `to` a device."""


_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Epoch:
    """Losses of one epoch; the training loss is the mean over its steps, while the network changes."""

    number: int
    loss: float
    validation_loss: float | None


def fit(
    network: nn.Module,
    train: Examples,
    validation: Examples | None = None,
    *,
    objective: Objective | None = None,
    training: Training | None = None,
) -> list[Epoch]:
    """Train a network in place; it ends on the CPU, in evaluation mode.

    The same seed gives the same weights on the same machine, and torch's generators are left as they were.

    Args:
        network: to train.
        train: windows, or other examples, to train on.
        validation: windows that choose the epoch whose weights are kept; None: those of the last epoch are.
        objective: what is made small; None: the squared error.
        training: how; None: the defaults.

    Returns:
        the losses of each epoch.

    Raises:
        InputError: too few windows, no such device, or a loss that is not finite.
    """
    objective, training = objective or forecasting(squared_error), training or Training()
    n_step = max(_n_batch("training", train, training.batch_size, training.drop_last), training.min_steps)
    n_step = min(n_step, training.max_steps or n_step)
    device = pick_device(training.device)
    history: list[Epoch] = []
    try:
        steps, best = _Steps(network.to(device), objective, training, n_step), _Best(training.patience)
        with seeded(training.seed, device), _bar(training, n_step) as advance:
            while len(history) < training.epochs and not best.is_over:
                loss = steps.run(train, len(history) + 1, advance)
                judged = None if validation is None else mean_loss(network, validation, objective, training)
                history.append(_finite(Epoch(len(history) + 1, loss, judged), training))
                best.see(network, judged)
        best.restore(network)
    finally:
        network.cpu().eval()
    return history


def predict(
    network: nn.Module,
    windows: Examples,
    *,
    say: Callable[[nn.Module, Any], Tensor] | None = None,
    batch_size: int = 256,
    device: str | None = None,
) -> NDArray[np.float32]:
    """What a network says of all windows in order; it ends on the CPU.

    Args:
        network: in any mode.
        windows: to forecast, or other examples.
        say: its answer to a batch; None: the forecast, `[B, H, C]` or `[B, H, C, P]`.
        batch_size: windows at once.
        device: as of `Training`.

    Raises:
        InputError: no such device.
    """
    chosen, say = pick_device(device), say or forecast
    try:
        network.to(chosen).eval()
        with torch.no_grad():
            batches = _batches(windows, np.arange(len(windows)), batch_size, chosen)
            return torch.cat([say(network, batch).cpu() for batch in batches]).numpy()
    finally:
        network.cpu()


@torch.no_grad()
def mean_loss(network: nn.Module, windows: Examples, objective: Objective, training: Training) -> float:
    """The mean over windows of what a network is held to, in evaluation mode.

    Args:
        network: on the device that `training` names, where it stays.
        windows: to judge it on.
        objective: a mean over the windows of a batch.
        training: says the size of batches, and whether a smaller last one is left out.
    """
    n_batch = _n_batch("validation", windows, training.batch_size, training.drop_last)
    numbers = np.arange(min(len(windows), n_batch * training.batch_size))
    network.eval()
    total = torch.zeros((), device=pick_device(training.device))
    for batch in _batches(windows, numbers, training.batch_size, total.device):
        total += objective(network, batch) * len(batch[0])
    return total.item() / len(numbers)


def forecasting(loss: Loss) -> Objective:
    """The loss of the forecast."""
    return lambda network, batch: loss(forecast(network, batch), batch.target)


def forecast(network: nn.Module, batch: Batch) -> Tensor:
    """What a network says of a batch: `[B, H, C]` or `[B, H, C, P]`."""
    return network(batch.context) if batch.exogenous is None else network(batch.context, batch.exogenous)


@contextmanager
def seeded(seed: int, device: torch.device = _CPU) -> Iterator[None]:
    """What is drawn inside follows from the seed alone; afterwards torch's generators are as before."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(int(seed))
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(int(seed))
        yield


class _Steps:
    """The training steps of a network, epoch by epoch."""

    def __init__(self, network: nn.Module, objective: Objective, training: Training, n_step: int):
        self.network, self.objective, self.training, self.n_step = network, objective, training, n_step
        groups = parameter_groups(network, lr=training.lr, weight_decay=training.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, fused=True)
        self.highest = [group["lr"] for group in groups]
        self.parameters = [parameter for group in groups for parameter in group["params"]]

    def run(self, windows: Examples, epoch: int, advance: Callable[[int], None]) -> float:
        """One epoch; returns the mean loss of its steps."""
        self.network.train()
        size = self.training.batch_size
        order = self._order(len(windows), epoch)
        losses = []
        for i, batch in enumerate(_batches(windows, order, size, self.parameters[0].device)):
            share = self.training.rate((epoch - 1) * self.n_step + i, self.n_step)
            losses.append(self._step(batch, share))
            advance(epoch)
        return torch.stack(losses).mean().item()

    def _order(self, n_window: int, epoch: int) -> Numbers:
        """Numbers of the windows of an epoch: once each, or over again up to the least number of steps."""
        rng, n_read = np.random.default_rng((self.training.seed, epoch)), self.n_step * self.training.batch_size
        is_once = n_read < n_window + self.training.batch_size
        passes = [rng.permutation(n_window) for _ in range(1 if is_once else -(-n_read // n_window))]
        return np.concatenate(passes)[:n_read]

    def _step(self, batch: Any, share: float) -> Tensor:
        for group, highest in zip(self.optimizer.param_groups, self.highest, strict=True):
            group["lr"] = highest * share
        self.optimizer.zero_grad()
        loss = self.objective(self.network, batch)
        loss.backward()
        if self.training.max_norm:
            nn.utils.clip_grad_norm_(self.parameters, self.training.max_norm)
        self.optimizer.step()
        return loss.detach()


class _Best:
    """The weights with the lowest validation loss, and whether it has not been reached again for too long."""

    def __init__(self, patience: int | None):
        self.patience, self.is_over = patience, False
        self._loss, self._epochs_since = math.inf, 0
        self._weights: dict[str, Tensor] | None = None

    def see(self, network: nn.Module, loss: float | None) -> None:
        if loss is None:
            return
        if loss <= self._loss:
            self._loss, self._epochs_since = loss, 0
            self._weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        else:
            self._epochs_since += 1
            self.is_over = self._epochs_since == self.patience

    def restore(self, network: nn.Module) -> None:
        if self._weights is not None:
            network.load_state_dict(self._weights)


def _batches(windows: Examples, numbers: Numbers, size: int, device: torch.device) -> Iterator[Any]:
    for start in range(0, len(numbers), size):
        yield windows.batch(numbers[start : start + size]).to(device)


def _n_batch(what: str, windows: Examples, size: int, drop_last: bool) -> int:
    """Batches of an epoch.

    Raises:
        InputError: there is none.
    """
    if not len(windows):
        raise InputError(f"{what}: {windows.shortage}")
    if drop_last and len(windows) < size:
        raise InputError(f"{what}: {len(windows)} windows make no batch of {size}. Pass drop_last=False")
    return len(windows) // size if drop_last else -(-len(windows) // size)


def _finite(epoch: Epoch, training: Training) -> Epoch:
    if not math.isfinite(epoch.loss + (epoch.validation_loss or 0.0)):
        raise InputError(
            f"training: the loss of epoch {epoch.number} is {epoch.loss}, of validation {epoch.validation_loss}. Lower "
            f"lr (now {training.lr}) or shorten gradients with max_norm=1"
        )
    return epoch


@contextmanager
def _bar(training: Training, n_step: int) -> Iterator[Callable[[int], None]]:
    """A function to call after each step; with `progress` and on a terminal, it moves a bar."""
    if not training.progress:
        yield lambda epoch: None
        return
    from helixwave.console import console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=training.epochs * n_step)
        yield lambda epoch: progress.update(bar, advance=1, description=f"epoch {epoch}/{training.epochs}")
