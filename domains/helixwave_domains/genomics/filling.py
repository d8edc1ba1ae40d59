"""Filling a table block by block, in this process or in several."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from helixwave.errors import InputError

from helixwave_domains.genomics.store import Column, Table
from helixwave_domains.genomics.strands import BothStrands


class Block(NamedTuple):
    """The rows of a block.

    Args:
        columns: values by column.
        positions: by group, the hidden states `[T, D]` of each row that has some.
    """

    columns: dict[str, Any]
    positions: dict[str, list[Any]]


class Task(Protocol):
    """What a table is filled with. It can be handed to other processes."""

    @property
    def inputs(self) -> dict[str, Path]:
        """The files that decide on the rows."""

    def options(self, model: BothStrands) -> dict[str, Any]:
        """All else that decides on the rows, as JSON can hold it; checked."""

    def outline(self, model: BothStrands) -> tuple[list[Column], list[str]]:
        """The columns, and the groups of hidden states of all positions."""

    def size(self) -> tuple[int, int]:
        """Rows and letters."""

    def items(self) -> Iterator[Any]:
        """What a row is computed from, one for each, as they are asked for."""

    def compute(self, items: Iterator[Any], model: BothStrands) -> Block:
        """The rows of some items."""


def fill(
    task: Task,
    table: Table,
    blocks: Sequence[int],
    *,
    model: BothStrands,
    checkpoint: str,
    workers: int,
    progress: Callable[[int], None],
) -> None:
    """Compute and write blocks.

    Args:
        task: what the rows are.
        table: where they go.
        blocks: which of them, in ascending order.
        model: the checkpoint's model, on its device.
        checkpoint: where other processes find it.
        workers: processes; with 1 it is this one.
        progress: told how many rows have been written.

    Raises:
        InputError: an input is wrong, the disk is full, or a process has died; what is done stays so.
    """
    if workers == 1:
        filler = _Filler(task, table, model)
        for block in blocks:
            filler.fill(block)
            progress(len(table.rows_of(block)))
        return
    threads = max(1, torch.get_num_threads() // workers)
    arguments = (task, table.folder, checkpoint, threads)
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start, initargs=arguments) as pool:
        try:
            for done in as_completed([pool.submit(_fill, block) for block in blocks]):
                progress(len(table.rows_of(done.result())))
        except BrokenProcessPool as error:
            raise InputError(
                f"{table.folder}: a worker process has died, perhaps for want of memory. "
                f"With fewer --workers, --resume goes on from there."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


class _Filler:
    """Goes through the items of a task and computes blocks as they come by."""

    def __init__(self, task: Task, table: Table, model: BothStrands):
        self.task, self.table, self.model = task, table, model
        self._items, self._next = task.items(), 0

    def fill(self, block: int) -> None:
        rows = self.table.rows_of(block)
        if rows.start < self._next:
            self._items, self._next = self.task.items(), 0
        items = islice(self._items, rows.start - self._next, rows.stop - self._next)
        found = self.task.compute(items, self.model)
        self._next = rows.stop
        self.table.write(block, found.columns, found.positions)


_filler: _Filler


def _start(task: Task, folder: Path, checkpoint: str, threads: int) -> None:
    """Make this process ready to fill blocks."""
    from helixwave_domains.genomics.checkpoints import load_checkpoint

    global _filler
    # the parent says when to stop; without it there is nothing to do
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    _filler = _Filler(task, Table(folder), load_checkpoint(checkpoint))


def _fill(block: int) -> int:
    _filler.fill(block)
    return block


def _die_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
