"""Who takes part in a measurement, on which inputs, and whether it means what the reference means."""

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from helixwave_kernels import OPS, Op
from helixwave_kernels.agreement import error, is_continuous, results

TOLERANCE = 1e-4
# others' kernels for GPUs multiply in TF32, ten bits of a float32's twenty-three; the tables print how far they are off
TOLERANCE_OF_GPU_PEERS = 1e-2
# long enough for several chunks of any implementation, short enough for a loop whose backward pass is quadratic
CHECKED = 512
# the longest T of a reference on a GPU
LOOP_ON_GPU = 1024
REFERENCE = "reference"


class Contender(NamedTuple):
    """A function that takes the operator's arguments.

    Attributes:
        name: as in the tables.
        kind: `ours`, `peer`, or `unlike` where it means something else and is timed for scale.
        run: called with the operator's arguments as keywords.
        longest: the longest T to run it at.
    """

    name: str
    kind: str
    run: Callable[..., Any]
    longest: float = float("inf")


class Verdict(NamedTuple):
    """How far a contender is from the reference in float64, and what is wrong with it if it gets no time."""

    error: float | None
    problem: str = ""


def find_op(operator: str) -> Op[Any]:
    return next(op for op in OPS if op.__name__ == operator)


def cases(operator: str) -> Any:
    return importlib.import_module(f"helixwave_kernels.{operator}.cases")


def inputs(operator: str, T: int, device: str = "cpu") -> dict[str, Any]:
    """The same random arguments for every contender."""
    torch.manual_seed(0)
    arguments = cases(operator).random_inputs(T=T, **cases(operator).MEASURED)
    return tree_map(lambda value: value.to(device) if isinstance(value, Tensor) else value, arguments)


def contenders(operator: str, device: str = "cpu") -> dict[str, Contender]:
    """Everyone by name, peers first; what ratios are given against is the first of them."""
    return {each.name: each for each in (*_peers(operator, device), *_implementations(operator, device))}


def refusals(operator: str, device: str = "cpu") -> dict[str, str]:
    """The implementations that cannot run on this machine, and why."""
    op, arguments = find_op(operator), inputs(operator, 64, device)
    reasons = {name: op.refusal(name, **arguments) for name in op.impls}
    return {name: reason for name, reason in reasons.items() if reason}


def tolerance(contender: Contender, device: str) -> float:
    """How far a contender's results may be off before it gets no time."""
    return TOLERANCE_OF_GPU_PEERS if device == "cuda" and contender.kind == "peer" else TOLERANCE


def verdict(contender: Contender, operator: str, T: int, device: str = "cpu") -> Verdict:
    """Compare outputs, states and gradients with those of the reference in float64 at a length up to T.

    A peer that returns no state is compared as if the states were of no interest.
    """
    if contender.kind == "unlike":
        return Verdict(None)
    arguments = inputs(operator, min(T, CHECKED, cases(operator).LONGEST_REFERENCE), device)
    reference = find_op(operator).impls[REFERENCE]
    comparable = getattr(cases(operator), "comparable", None)
    with torch.no_grad():
        stateless = len(tree_leaves(contender.run(**arguments))) < len(tree_leaves(reference(**arguments)))
    actual, expected = (
        results(_only_y(run), each) if stateless else results(run, each, comparable)
        for run, each in ((contender.run, arguments), (reference, in_float64(arguments)))
    )
    return disagreement(actual, expected, tolerance(contender, device))


def disagreement(actual: dict[str, Tensor], expected: dict[str, Tensor], allowed: float = TOLERANCE) -> Verdict:
    """The worst of all results by root mean square, and its name if it is off by more than the tolerance."""
    if missing := expected.keys() - actual.keys():
        return Verdict(None, f"disagrees with the reference: lacks {', '.join(sorted(missing))}")
    errors = {}
    for name, value in expected.items():
        if actual[name].shape != value.shape:
            shapes = f"{list(actual[name].shape)}, expected {list(value.shape)}"
            return Verdict(None, f"disagrees with the reference: {name} has shape {shapes}")
        errors[name] = error(actual[name], value)
    worst = max(errors, key=lambda name: errors[name])
    problem = f"disagrees with the reference: {worst} is off by {errors[worst]:.0e}"
    return Verdict(errors[worst], problem if errors[worst] > allowed else "")


def in_float64(arguments: dict[str, Any]) -> dict[str, Any]:
    def widened(value: Any) -> Any:
        return value.to(torch.complex128 if value.is_complex() else torch.float64) if is_continuous(value) else value

    return tree_map(widened, arguments)


def _only_y(run: Callable[..., Any]) -> Callable[..., Tensor]:
    return lambda **arguments: tree_leaves(run(**arguments))[0]


def _peers(operator: str, device: str) -> Iterator[Contender]:
    if importlib.util.find_spec(f"helixwave_kernels.{operator}.peers") is None:
        return
    module = importlib.import_module(f"helixwave_kernels.{operator}.peers")
    kinds = {"gpu_peers": "peer", "peers": "peer", "unlike": "unlike"}
    for source, kind in kinds.items():
        if hasattr(module, source) and (device == "cuda" or source != "gpu_peers"):
            for name, run in getattr(module, source)().items():
                yield Contender(name, kind, run, getattr(module, "LONGEST", {}).get(name, float("inf")))


def _implementations(operator: str, device: str) -> Iterator[Contender]:
    op, refused = find_op(operator), refusals(operator, device)
    for name in op.impls:
        if name not in refused:
            longest = _longest_reference(operator, device) if name == REFERENCE else float("inf")
            yield Contender(name, "ours", lambda name=name, **arguments: op(**arguments, impl=name), longest)


def _longest_reference(operator: str, device: str) -> int:
    """On a GPU a loop over T measures the launches alone: it takes part once, not at every length."""
    longest: int = cases(operator).LONGEST_REFERENCE
    return min(longest, LOOP_ON_GPU) if device == "cuda" else longest
