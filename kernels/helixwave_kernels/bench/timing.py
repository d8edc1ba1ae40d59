"""Time and memory of a single run."""

import contextlib
import ctypes
import functools
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from helixwave_kernels.agreement import is_continuous
from helixwave_kernels.bench.contenders import REFERENCE, contenders, inputs

CLEAR_REFS = Path("/proc/self/clear_refs")
# T of the run that loads what is loaded at first use; a multiple of the usual chunk
WARM_UP = 64


class Times(NamedTuple):
    """Milliseconds by the clock, and the ones that are compared: cpu time, on a GPU the time between two events."""

    wall: float
    own: float


def timed(run: Callable[[], Any], device: str) -> Times:
    """One run of a function; on a GPU until all its work is done."""
    if device == "cuda":
        return _timed_on_gpu(run)
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Times(1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu))


def give_back_memory() -> None:
    """Return to the system what the process has freed: the next run finds the heap as one by itself does.

    Without this the holes that one contender leaves spare another the pages it would have to ask for.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # where the C library is another
        ctypes.CDLL(None).malloc_trim(0)


def forward(run: Callable[..., Any], arguments: dict[str, Any]) -> Tensor:
    """y, computed as in inference."""
    with torch.no_grad():
        return tree_leaves(run(**arguments))[0]


def both(run: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """A forward pass, and the gradients of the sum of y by all arguments."""
    arguments = tree_map(lambda value: value.detach().requires_grad_() if is_continuous(value) else value, arguments)
    y = tree_leaves(run(**arguments))[0]
    torch.autograd.backward(y, _ones(y.shape, y.dtype, y.device))


@functools.lru_cache(maxsize=1)
def _ones(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The gradient that comes in: made once, it is no part of an operator's cost."""
    return torch.ones(shape, dtype=dtype, device=device)


class Alone(NamedTuple):
    """What a forward and backward pass costs on its own, on a CPU in a fresh process.

    Attributes:
        peak: MB that it adds.
        times: of that pass.
        steady: milliseconds of a later one whose memory is at hand, so that no page is new to the process.
    """

    peak: float | None = None
    times: Times | None = None
    steady: float | None = None


def alone(operator: str, name: str, T: int, device: str) -> Alone:
    """It fails, with whatever the process fails with, where memory does not suffice."""
    if device == "cuda":
        return Alone(_peak_on_gpu(operator, name, T))
    if not CLEAR_REFS.exists():
        return Alone()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(_alone_here, operator, name, T, torch.get_num_threads()).result()


def _timed_on_gpu(run: Callable[[], Any]) -> Times:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    wall = time.perf_counter()
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return Times(1e3 * (time.perf_counter() - wall), start.elapsed_time(end))


def _peak_on_gpu(operator: str, name: str, T: int) -> float:
    run, arguments = contenders(operator, "cuda")[name].run, inputs(operator, T, "cuda")
    both(run, inputs(operator, WARM_UP, "cuda"))
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    both(run, arguments)
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def _alone_here(operator: str, name: str, T: int, threads: int) -> Alone:
    torch.set_num_threads(threads)
    contender = contenders(operator)[name]
    both(contender.run, inputs(operator, WARM_UP))
    arguments = inputs(operator, T)
    _refuse_to_swap()
    give_back_memory()
    CLEAR_REFS.write_text("5")  # the highest mark so far is forgotten
    before = _kilobytes("self/status", "VmRSS")
    times = timed(lambda: both(contender.run, arguments), "cpu")
    peak = (_kilobytes("self/status", "VmHWM") - before) / 1000
    if contender.kind != "ours" or name == REFERENCE or not _keep_freed_memory():
        return Alone(peak, times)
    later = [timed(lambda: both(contender.run, arguments), "cpu").own for _ in range(4 if times.own < 3e3 else 2)]
    return Alone(peak, times, min(later))


def _keep_freed_memory() -> bool:
    """Let malloc keep what is freed for what is allocated next, as the allocator of a GPU does; whether it can."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    no_mappings, no_trimming = (-4, 0), (-1, 2**31 - 1)
    return mallopt is not None and all(mallopt(*option) == 1 for option in (no_mappings, no_trimming))


def _refuse_to_swap() -> None:
    """Allocations fail, for this process alone, before the machine's memory runs out."""
    import resource  # there is none on Windows

    limit = 1000 * (_kilobytes("self/status", "VmData") + int(0.9 * _kilobytes("meminfo", "MemAvailable")))
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _kilobytes(file: str, field: str) -> int:
    return int((Path("/proc") / file).read_text().split(f"{field}:")[1].split()[0])
