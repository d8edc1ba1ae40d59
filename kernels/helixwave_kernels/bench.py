"""Measures every implementation of the operators beside others' on the same inputs, in one run.

    python -m helixwave_kernels.bench selective_scan --lengths 1024,4096 --json scan.json

Times are the best of three runs, in wall and cpu time; cpu time is the one to trust on a busy machine. `peak` is what
one forward and backward pass adds to the memory of a fresh process. What disagrees with the reference gets no time.
"""

import argparse
import importlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad, silu, softplus
from torch.utils._pytree import tree_leaves

from helixwave_kernels import OPS
from helixwave_kernels.agreement import error, is_continuous, results

TOLERANCE = 1e-4
# its backward pass is quadratic in T: minutes at 1024
LONGEST_LOOP = 256
Contender = Callable[..., Any]


class Row(NamedTuple):
    """One line of the table; times in milliseconds, memory in MB."""

    operator: str
    length: int
    name: str
    forward_wall: float
    forward_cpu: float
    both_wall: float
    both_cpu: float
    peak: float
    disagreement: str = ""


def main() -> None:
    arguments = _arguments()
    rows: list[Row] = []
    for name in arguments.operators or [op.__name__ for op in OPS]:
        measured = list(measure(name, arguments.lengths))
        print(table(name, measured), flush=True)
        rows += measured
    if arguments.json:
        arguments.json.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")
    raise SystemExit(any(row.disagreement for row in rows))


def measure(operator: str, lengths: list[int]) -> Iterator[Row]:
    """One row for each length and implementation, peers first."""
    cases = _cases(operator)
    for T in lengths:
        checked = min(T, cases.LONGEST_REFERENCE)
        expected = results(_contenders(operator)["reference"], _inputs(operator, checked))
        longest = {"reference": cases.LONGEST_REFERENCE, "mambapy loop": LONGEST_LOOP}
        for name, contender in _contenders(operator).items():
            if longest.get(name, T) < T:
                continue
            if problem := _disagreement(results(contender, _inputs(operator, checked)), expected):
                nan = float("nan")
                yield Row(operator, T, name, nan, nan, nan, nan, nan, problem)
                continue
            times = _times(contender, _inputs(operator, T))
            yield Row(operator, T, name, *times, _peak(operator, name, T))


def table(operator: str, rows: list[Row]) -> str:
    """The rows in columns; `faster` compares forward and backward in cpu time with the first row of that length."""
    sizes = ", ".join(f"{axis}={size}" for axis, size in _cases(operator).MEASURED.items())
    lines = [
        f"{operator}   {sizes}, float32, {torch.get_num_threads()} thread(s), torch {torch.__version__}",
        "      T  implementation        forward ms (cpu)     both ms (cpu)   faster   growth  peak MB",
    ]
    for row in rows:
        start = f"{row.length:7d}  {row.name:18s}"
        if row.disagreement:
            lines.append(f"{start} disagrees with the reference: {row.disagreement}")
            continue
        first = next(other for other in rows if other.length == row.length)
        shorter = [other for other in rows if other.name == row.name and other.length < row.length]
        growth = f"x{row.both_cpu / shorter[-1].both_cpu:.1f}" if shorter else ""
        forward = f"{row.forward_wall:9.1f} ({row.forward_cpu:7.1f})"
        both = f"{row.both_wall:8.1f} ({row.both_cpu:7.1f})"
        lines.append(f"{start} {forward} {both} {first.both_cpu / row.both_cpu:7.1f}x {growth:>7s} {row.peak:8.0f}")
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m helixwave_kernels.bench", description=__doc__.split("\n")[0])
    names = [op.__name__ for op in OPS]
    parser.add_argument("operators", nargs="*", metavar="OP", help=f"{', '.join(names)}; all if none is given")
    parser.add_argument("--lengths", type=lambda text: [int(part) for part in text.split(",")], default=[1024, 4096])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    if unknown := set(arguments.operators) - set(names):
        parser.error(f"no operator named {', '.join(sorted(unknown))}. Known: {', '.join(names)}.")
    return arguments


def _cases(operator: str) -> Any:
    return importlib.import_module(f"helixwave_kernels.{operator}.cases")


def _inputs(operator: str, T: int) -> dict[str, Any]:
    torch.manual_seed(0)
    return _cases(operator).random_inputs(T=T, **_cases(operator).MEASURED)


def _contenders(operator: str) -> dict[str, Contender]:
    """Peers and implementations by name; the first is what the others are compared with."""
    op = next(op for op in OPS if op.__name__ == operator)
    contenders = dict(_peers(operator))
    for name in op.impls:
        contenders[name] = lambda name=name, **inputs: op(**inputs, impl=name)
    return contenders


def _peers(operator: str) -> Iterator[tuple[str, Contender]]:
    if operator == "selective_scan" and importlib.util.find_spec("mambapy"):
        yield "mambapy pscan", mambapy_pscan
        yield "mambapy loop", _mambapy_loop
    if operator == "short_conv":
        yield "torch conv1d", _torch_conv1d


def mambapy_pscan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """What mambapy's block does between its convolution and its output projection, with its parallel scan."""
    pscan = importlib.import_module("mambapy.pscan").pscan
    steps = softplus(delta + delta_bias).unsqueeze(-1)
    h = pscan(torch.exp(steps * A), steps * B.unsqueeze(2) * u.unsqueeze(-1))
    return ((h @ C.unsqueeze(-1)).squeeze(3) + skip * u) * silu(z)


def _mambapy_loop(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """The same with mambapy's sequential scan, a method of its block that reads two sizes of the configuration."""
    scan = importlib.import_module("mambapy.mamba").MambaBlock.selective_scan_seq
    block = SimpleNamespace(config=SimpleNamespace(d_inner=A.shape[0], d_state=A.shape[1]))
    return scan(block, u, softplus(delta + delta_bias), A, B, C, skip) * silu(z)


def _torch_conv1d(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    D, W = weight.shape
    return silu(conv1d(pad(x.mT, (W - 1, 0)), weight.unsqueeze(1), bias, groups=D).mT)


def _disagreement(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    """The worst result that is off by more than the tolerance; a peer that returns no state is compared without."""
    if {name for name in expected if name not in actual and not name.startswith("state")}:
        return "it lacks a gradient"
    if len(actual) < len(expected):
        actual, expected = ({"y": each["y"]} for each in (actual, expected))
    errors = {name: error(value, expected[name]) for name, value in actual.items()}
    worst = max(errors, key=lambda name: errors[name])
    return f"{worst} is off by {errors[worst]:.0e}" if errors[worst] > TOLERANCE else ""


def _times(contender: Contender, inputs: dict[str, Any]) -> tuple[float, float, float, float]:
    forward = [_milliseconds(_forward, contender, inputs) for _ in range(3)]
    both = [_milliseconds(_both, contender, inputs) for _ in range(3)]
    return *map(min, zip(*forward, strict=True)), *map(min, zip(*both, strict=True))


def _milliseconds(run: Callable[..., None], *arguments: Any) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    run(*arguments)
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def _forward(contender: Contender, inputs: dict[str, Any]) -> None:
    with torch.no_grad():
        contender(**inputs)


def _both(contender: Contender, inputs: dict[str, Any]) -> None:
    inputs = {
        name: value.detach().requires_grad_() if is_continuous(value) else value for name, value in inputs.items()
    }
    y = tree_leaves(contender(**inputs))[0]
    torch.autograd.backward(y, torch.ones_like(y))


def _peak(operator: str, name: str, T: int) -> float:
    """MB that one forward and backward pass adds to a fresh process, not a number where there is no `/proc`."""
    if not Path("/proc/self/clear_refs").exists():
        return float("nan")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_here, (operator, name, T))


def _peak_here(operator: str, name: str, T: int) -> float:
    # a short run first, so that what is loaded at first use does not count
    _both(_contenders(operator)[name], _inputs(operator, 16))
    inputs = _inputs(operator, T)
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark so far is forgotten
    before = _memory("VmRSS")
    _both(_contenders(operator)[name], inputs)
    return (_memory("VmHWM") - before) / 1000


def _memory(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0])


if __name__ == "__main__":
    main()
