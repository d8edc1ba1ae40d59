"""How large a batch may be: as large as the memory holds, unless a step became no faster for each example before."""

import copy
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from helixwave.data import Source
from helixwave.data.batches import Draw, load_draws
from helixwave.objectives import Objective
from helixwave.recipe import Batches

# how much faster for each example a step of twice the size has to be
GAIN = 1.05
# of the memory that is free, what a step on a CPU may take
SHARE = 0.5
# an epoch keeps so many steps
LEAST_STEPS = 4


def find_batch_size(
    model: nn.Module, objective: Objective, source: Source, batches: Batches, *, device: str = "cpu"
) -> Batches:
    """Batches of the recipe's size, doubled as often as the memory holds and a step becomes faster for each example.

    Steps are tried with the longest training examples, on a copy of the model.
    """
    split = source.train
    order = sorted(range(len(split)), key=split.length, reverse=True)
    longest = split.length(order[0])
    step = trial_step(copy.deepcopy(model).to(device), objective, device)

    def seconds(size: int) -> float:
        (batch,) = load_draws([source.train], [[Draw(i, 0) for i in order[:size]]], replace(batches, workers=0), seed=0)
        return min(_seconds(step, batch, device) for _ in range(3))

    begin = batches.size if batches.tokens is None else max(1, batches.tokens // longest)
    size = largest(seconds, begin, len(order) // LEAST_STEPS, lambda: memory_holds_double(device))
    return replace(batches, size=size) if batches.tokens is None else replace(batches, tokens=size * longest)


def largest(seconds: Callable[[int], float], size: int, most: int, holds_double: Callable[[], bool]) -> int:
    """The size to take, from `size` by doubling up to `most`.

    Args:
        seconds: of a step of a size; it may raise torch.OutOfMemoryError.
        holds_double: whether there is memory for twice the size that was tried last.
    """
    pace = seconds(size) / size
    while 2 * size <= most and holds_double():
        try:
            its = seconds(2 * size) / (2 * size)
        except torch.OutOfMemoryError:
            break
        if pace < GAIN * its:
            break
        size, pace = 2 * size, its
    return size


def trial_step(model: nn.Module, objective: Objective, device: str) -> Callable[[Any], None]:
    """A step of training that changes nothing, with all that takes memory: the moments of the optimiser too."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0)

    def step(batch: Any) -> None:
        inputs, lengths, target = (batch[key].to(device) for key in ("inputs", "lengths", "target"))
        optimizer.zero_grad()
        objective.loss(objective.outputs(model, inputs, lengths), target).backward()
        optimizer.step()

    return step


def memory_holds_double(device: str) -> bool:
    """Whether a step may take as much again as this process has come to hold."""
    if device == "cpu":
        # bytes on a Mac, kilobytes elsewhere
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        known = "SC_AVPHYS_PAGES" in os.sysconf_names
        return not known or peak < SHARE * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return torch.cuda.max_memory_allocated() < SHARE * torch.cuda.get_device_properties(device).total_memory


def _seconds(step: Callable[[Any], None], batch: Any, device: str) -> float:
    began = time.perf_counter()
    step(batch)
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began
